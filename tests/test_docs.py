"""The pages say what the code has: every column with its unit, every public name, every planted fault.

And their Python runs.
"""

import ast
import re
import shlex
import sys
from contextlib import suppress

import click
import pytest
from mutations import FAULTS, ROOT
from typer.main import get_command

import mzprobe
from mzprobe import cli
from mzprobe.claims import CLAIMS
from mzprobe.probes.registry import PROBES
from mzprobe.study import timing

DOCS = ROOT / "docs"
COMMON = "All tables"


def sections(page):
    """The text under each second-level heading of a page."""
    parts = re.split(r"^## (.+)$", (DOCS / page).read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def cells(text):
    """The rows of the tables in a text, heads and rules left out, each a list of its cells."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in row] for row in rows]
    return [row for row, rule in zip(rows, [*rows[1:], [""]], strict=True) if not {row[0], rule[0]} & {"---"}]


def units(text):
    """Units by column, from a table of measures."""
    rows = cells(text)
    assert all(len(row) == 3 for row in rows), "a formula's | must be written \\lvert, \\mid or \\vert"
    named = [(name.strip("`"), unit) for name, unit, _ in rows]
    assert len(dict(named)) == len(named), "a column stands there twice"
    return dict(named)


# Measures


UNITS = {name: probe.units for name, probe in PROBES.items()} | {timing.TIMING: timing.UNITS}


@pytest.mark.parametrize("name", UNITS)
def test_every_column_stands_on_the_page_of_measures_with_its_unit(name):
    page = sections("measures.md")
    common, own = units(page[COMMON]), units(page[name])
    assert not set(common) & set(own)
    expected = {column: unit.split(";")[0].strip() for column, unit in UNITS[name].items()}
    assert {column: unit for column, unit in (common | own).items() if column in expected} == expected
    assert set(own) <= set(expected)


def test_the_page_of_measures_has_no_other_tables_and_no_common_column_that_no_probe_has():
    page = sections("measures.md")
    assert set(page) == {COMMON, *UNITS}
    assert set(units(page[COMMON])) <= {column for probe in PROBES.values() for column in probe.units}


def test_the_pages_name_the_command_of_every_probe():
    page = sections("measures.md")
    index = (DOCS / "index.md").read_text("utf-8")
    for name, probe in PROBES.items():
        assert page[name].strip().startswith(f"`mzprobe {probe.command}`")
        assert f"| `mzprobe {probe.command}` | [{name}](measures.md#{name})" in index


# Claims


def test_the_page_of_claims_lists_each_with_its_effect():
    rows = cells(sections("claims.md")["The claims"])
    assert rows == [[f"`{claim.name}`", claim.section, claim.sentence, claim.effect] for claim in CLAIMS]


# Names


def test_every_public_name_stands_in_the_api_once():
    text = (DOCS / "api.md").read_text("utf-8")
    listed = re.findall(r"^\.\. auto\w+:: (\w+)(?:\(\))?$", text, flags=re.MULTILINE)
    assert sorted([*listed, "__version__"]) == sorted(mzprobe.__all__)
    assert "`mzprobe.__version__`" in text


# Faults


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_can_be_planted_and_names_a_test_that_exists(fault):
    assert (ROOT / fault.file).read_text("utf-8").count(fault.old) == 1
    assert fault.new != fault.old
    path, function = fault.test.split("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_the_page_on_testing_lists_every_fault_with_its_test():
    rows = cells(sections("testing.md")["Planted faults"])
    assert rows == [[fault.what, f"`{fault.test.removeprefix('tests/')}`"] for fault in FAULTS]


# Examples


PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))}
BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SLOW = {"docs/python.md", "docs/results/cartpole.md"}  # one trains an agent, the other plays
EXTRAS = {"docs/datasets.md": ("minari", "h5py")}


def blocks(page):
    """The Python blocks of a page, each after as many empty lines as stand above it: errors name the page's line."""
    text = PAGES[page].read_text("utf-8")
    return ["\n" * text.count("\n", 0, found.start(1)) + found[1] for found in BLOCK.finditer(text)]


EXAMPLES = [page for page in PAGES if blocks(page)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shipped_tables(folder):
    """The tables of the repository, where its reader has them."""
    (folder / "analyses").symlink_to(ROOT / "analyses", target_is_directory=True)


@pytest.fixture
def shipped_figures(folder):
    """Their numbers, likewise."""
    (folder / "figures").symlink_to(ROOT / "figures", target_is_directory=True)


@pytest.fixture
def shipped_results(shipped_tables, shipped_figures):
    """Both."""


@pytest.fixture
def recorded(folder, run_cli, monkeypatch):
    """The dataset that the page records, by its own command, in the place that it names."""
    text = PAGES["docs/datasets.md"].read_text("utf-8")
    (command,) = re.findall(r"^    mzprobe (collect .*random-v0.*)$", text, flags=re.MULTILINE)
    code, _, said = run_cli(*shlex.split(command))
    assert code == 0, said
    (place,) = re.findall(r"With `MINARI_DATASETS_PATH=(\w+)`", text)
    monkeypatch.setenv("MINARI_DATASETS_PATH", place)


@pytest.fixture
def shipped_checkpoints(folder):
    """The checkpoints of the repository."""
    (folder / "checkpoints").symlink_to(ROOT / "checkpoints", target_is_directory=True)


def written(page, folder, name, block=0):
    """Writes a Python block of a page into the file that the page says it is."""
    text = blocks(page)[block].lstrip("\n")
    (folder / name).write_text(text, "utf-8")


@pytest.fixture
def grid(folder, monkeypatch):
    """The module that the page on a first environment begins with."""
    written("docs/first-environment.md", folder, "grid.py")
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("grid", None)


@pytest.fixture
def networks(folder, monkeypatch):
    """The module of the page on networks."""
    written("docs/networks.md", folder, "networks.py")
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("networks", None)


# What is there before the page's Python.
PREPARED = {
    "docs/first-environment.md": "grid",
    "README.md": "shipped_checkpoints",
    "docs/datasets.md": "recorded",
    "docs/networks.md": "networks",
    "docs/figures.md": "shipped_results",
    "docs/python.md": "shipped_tables",
    "docs/results/cartpole.md": "shipped_results",
    "docs/results/lunarlander.md": "shipped_results",
    "docs/results/minatar.md": "shipped_results",
    "docs/results/others.md": "shipped_figures",
    "docs/results/training.md": "shipped_figures",
}


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in EXAMPLES]
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, folder, request, capsys):
    for extra in EXTRAS.get(page, ()):
        pytest.importorskip(extra)
    if page in PREPARED:
        request.getfixturevalue(PREPARED[page])
    names = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, PAGES[page], "exec"), names)
    if page.startswith("docs/results/"):
        said = PAGES[page].read_text("utf-8").splitlines()
        printed = capsys.readouterr().out.splitlines()
        assert printed
        assert [line for line in printed if f"    {line}" not in said] == []


def commands(page):
    """The commands of mzprobe that a page says to type, without what is set before them."""
    text = re.sub(r"\\\n +", "", PAGES[page].read_text("utf-8"))  # one line of what goes on in the next
    return [
        shlex.split(line, comments=True)[1:]
        for line in re.findall(r"^    (?:PYTHONPATH=. )?(mzprobe .*)$", text, flags=re.MULTILINE)
    ]


COMMANDS = get_command(cli.app).commands
TYPED = [(page, command) for page in PAGES for command in commands(page)]
TYPED += [("help", shlex.split(one.epilog.removeprefix("Example: "))[1:]) for one in COMMANDS.values() if one.epilog]
TYPED = [(page, command[: command.index(">")] if ">" in command else command) for page, command in TYPED]


@pytest.mark.parametrize(("page", "command"), TYPED, ids=[f"{page}: {' '.join(words)}" for page, words in TYPED])
def test_what_is_to_be_typed_can_be_typed(page, command):
    name, *words = command
    if (page, name) == ("docs/questions.md", "eval-sureness"):  # of the page's own package
        pytest.skip("only where that package is installed")
    with suppress(click.exceptions.Exit):  # of --version
        COMMANDS[name].make_context(name, words)


@pytest.mark.slow
def test_a_first_environment_comes_to_its_figure_by_what_the_page_says(grid, folder, run_cli):
    page = "docs/first-environment.md"
    (study,) = re.findall(r"^```toml\n(.*?)^```$", PAGES[page].read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    (folder / "grids.toml").write_text(study)
    asked = commands(page)
    assert asked[0][:2] == ["train", "small"]
    for command in asked[: asked.index(["figures", "grid"]) + 1]:
        code, _, said = run_cli(*command)
        assert code == 0, said
    assert (folder / "figures" / "grid" / "fig3-horizon.png").exists()
    code, _, said = run_cli("study", "grids.toml", "--allow", "grid", "--dry-run")
    assert code == 0, said
    assert "warning" not in said  # no table of the page's own agent lies in its way
    assert said.startswith("train: 3 agents, 1,000 training steps each")


@pytest.mark.slow
def test_the_network_of_the_page_on_networks_is_trained_as_it_says(networks, folder, run_cli):
    (command,) = [one for one in commands("docs/networks.md") if "network.kind=networks:make_network" in one]
    code, out, said = run_cli(*command, "--steps", 2, "--set", "training.evaluation_episodes=0")
    assert code == 0, said
    assert out.startswith("checkpoints/plain/seed-0: 2 training steps")


@pytest.mark.parametrize("page", PAGES)
def test_no_python_of_a_page_escapes_the_pattern_of_its_blocks(page):
    fence = r"^[ \t]*(?:```|~~~)[ \t]*(?:\{[\w-]+\}[ \t]*)?\{?py(?:thon|con)?\b"
    assert len(blocks(page)) == len(re.findall(fence, PAGES[page].read_text("utf-8"), flags=re.MULTILINE))


def test_every_page_that_needs_something_has_python():
    assert {*SLOW, *EXTRAS, *PREPARED} <= set(EXAMPLES)
