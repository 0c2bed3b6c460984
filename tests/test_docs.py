"""The pages say what the code has: every column with its unit, every public name, every planted fault."""

import ast
import re

import pytest
from mutations import FAULTS, ROOT

import mzprobe
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


UNITS = {name: probe.units for name, probe in PROBES.items()} | {timing.NAME: timing.UNITS}


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
