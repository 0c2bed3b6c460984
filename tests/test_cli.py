"""The command line: a user's way from training to a figure, and one sentence for whatever goes wrong."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import mzprobe
from mzprobe import cli
from mzprobe.checkpoints import WEIGHTS, read_checkpoint, steps_of
from mzprobe.errors import UsageError
from mzprobe.locks import held
from mzprobe.records.digests import code
from mzprobe.tables import read_table

COMMANDS = tuple(get_command(cli.app).commands)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(run_cli):
    """Runs a command that must fail, and gives its exit code and its one line."""

    def run(*arguments):
        code, out, said = run_cli(*arguments)
        assert out == ""
        lines = [line for line in said.splitlines() if line.strip()]
        assert len(lines) == 1, said
        assert lines[0].startswith("error: ")
        return code, lines[0]

    return run


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_of_it(run_cli, command):
    code, out, _ = run_cli(command, "--help")
    assert code == 0
    assert f"Example: mzprobe {command}" in out


def test_the_help_lists_every_command(run_cli):
    code, out, _ = run_cli("--help")
    assert code == 0
    assert all(re.search(rf"^\s+{command}\s", out, re.MULTILINE) for command in COMMANDS)


def test_no_command_at_all_shows_the_help(run_cli):
    _, out, said = run_cli()
    assert "Commands" in out + said
    assert "error:" not in said


def test_the_version_is_the_packages(run_cli):
    assert run_cli("--version") == (0, f"mzprobe {mzprobe.__version__}, code {code()[:12]}\n", "")


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "mzprobe", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mzprobe {mzprobe.__version__}, code {code()[:12]}\n"


def test_help_and_version_wait_for_no_heavy_import():
    code = "import sys, mzprobe.cli; print([name for name in ('torch', 'numba', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", mzprobe.__all__)
def test_every_public_name_imports(name):
    assert name in dir(mzprobe)
    assert getattr(mzprobe, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mzprobe.nothing


# What a user can get wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "cartpol"], "did you mean cartpole?"),
        (["train", "nowhere.toml"], "nowhere.toml does not exist"),
        (["train", "--set", "training.batch_sise=3"], "did you mean training.batch_size?"),
        (["train", "--set", "training.batch_size"], "--set takes key=value"),
        (["train", "--set", "training.batch_size=0"], "training.batch_size is not valid"),
        (["train", "--set", "environment.name=cartpol"], "did you mean 'cartpole'?"),
        (["train", "--set", "network.kind=resnot"], "there is no network resnot"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--seed", "x"], "--seed"),
        (["train", "--seed", str(2**63)], "--seed"),
        (["eval-online", "--memory", "much"], "--memory 512MiB"),
        (["collect", "cartpole", "--out", "a", "--episodes", str(2**31)], "--episodes"),
        (["collect", "cartpole", "--out", "a", "--seed", str(2**63)], "--seed"),
        (["train", "--steps", "-1"], "--steps"),
        (["train", "--device", "gpu"], "there is no device gpu: use cpu, cuda or cuda:1"),
        (["train", "--device", "meta"], "device meta is not supported: use cpu, cuda or cuda:1"),
        (["train", "--stepps", "3"], "--stepps"),
        (["trian"], "trian"),
        (["eval-horizon"], "there is no run under checkpoints"),
        (["eval-horizon", "nowhere"], "nowhere does not exist"),
        (["eval-horizon", "."], "holds no checkpoints"),
        (["eval-horizon", "--set", "state=3"], "did you mean states?"),
        (["eval-horizon", "--states", "0"], "states is not valid"),
        (["figures", "nothing"], "there are no tables of run nothing under analyses"),
        (["figures"], "there is no run under checkpoints"),
        (["study", "cartpole-quik"], "did you mean cartpole-quick?"),
        (["study", "--processes", "0"], "--processes"),
        (["verify", "pyproject.toml"], "pyproject.toml does not exist"),
    ],
)
def test_a_wrong_request_exits_with_2_and_one_line(refused, arguments, said, tmp_path):
    code, line = refused(*arguments)
    assert code == 2
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_cuda_device_that_is_not_there_is_a_wrong_request(refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert refused("train", "--device", "cuda") == (
        2,
        "error: this machine has no usable CUDA device: use --device cpu",
    )


def test_a_corrupt_checkpoint_exits_with_1_and_one_error(run_cli, agent, tmp_path):
    copy = shutil.copytree(agent, tmp_path / "seed-0")
    weights = steps_of(copy)[0] / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, said = run_cli("eval-horizon", copy)
    assert (code, out) == (1, "")
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"{weights} is truncated or edited" in line
    assert "Traceback" not in said


def test_a_corrupt_table_exits_with_1_and_one_line(refused, tmp_path):
    table = tmp_path / "analyses" / "run" / "horizon" / "seed-0.parquet"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"spoilt")
    code, line = refused("figures", "run")
    assert code == 1
    assert "seed-0.parquet is truncated or not a table of mzprobe" in line


def test_an_unexpected_failure_is_one_line_that_asks_for_a_report(refused, monkeypatch, tmp_path):
    (tmp_path / "analyses" / "run").mkdir(parents=True)
    monkeypatch.setattr("mzprobe.figures.draw_run", "what nobody calls")
    code, line = refused("figures", "run")
    assert code == 1
    assert line == (
        "error: an unexpected TypeError ('str' object is not callable): run with --debug and report the traceback"
    )


def test_a_failure_in_code_of_a_users_own_names_it_and_what_tries_it(refused, monkeypatch, tmp_path):
    def broken(*_arguments, **_options):
        raise RuntimeError("what its author did not think of")

    (tmp_path / "analyses" / "run").mkdir(parents=True)
    monkeypatch.setattr("mzprobe.figures.draw_run", broken)
    code, line = refused("figures", "run")
    assert code == 1
    assert re.match(
        r"error: code of your own, test_cli.py line \d+, raised RuntimeError \(what its author did not think of\): "
        r"mend it, and try an environment with mzprobe.check_env, a network with mzprobe.check_network",
        line,
    )


@pytest.mark.parametrize("arguments", [["--debug", "train", "cartpol"], ["train", "cartpol", "--debug"]])
def test_debug_shows_the_traceback(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["mzprobe", *arguments])
    with pytest.raises(UsageError, match="did you mean cartpole"):
        cli.main()


# From training to a figure


def test_train_probe_and_draw_from_start_to_end(run_cli, tiny_arguments, tmp_path):
    train = ["train", "cartpole", *tiny_arguments(training__steps=20), "--steps", "40"]
    code, out, _ = run_cli(*train)
    assert code == 0
    assert re.search(r"checkpoints/cartpole/seed-0: 40 training steps, \d+ environment steps, return \d+", out)
    assert [path.name for path in steps_of(tmp_path / "checkpoints" / "cartpole" / "seed-0")] == [
        "step-0000000",
        "step-0000020",
        "step-0000040",
    ]

    code, out, _ = run_cli("eval-horizon", "--states", "5", "--set", "episodes=2", "--horizon", "2")
    assert code == 0
    assert out.splitlines() == [
        "run cartpole, the newest under checkpoints",
        "analyses/cartpole/horizon/seed-0.parquet",
    ]
    table = read_table(tmp_path / "analyses" / "cartpole" / "horizon" / "seed-0.parquet")
    assert table.frame.groupby(["training_step", "h"])["state"].nunique().to_dict() == {
        (step, h): 5 for step in (0, 20, 40) for h in (1, 2)
    }
    command = "mzprobe eval-horizon checkpoints/cartpole --set states=5 --set episodes=2 --set horizon=2"
    assert set(table.record["commands"].values()) == {command}

    names = [f"figures/cartpole/fig3-horizon.{suffix}" for suffix in ("png", "svg", "csv")]
    code, out, said = run_cli("figures")
    assert code == 0
    assert [
        re.fullmatch(r"(.*): no table, make it with mzprobe (\S+) checkpoints/cartpole", line).groups()
        for line in said.splitlines()
    ] == [
        ("fig2-online", "eval-online"),
        ("fig4-sequences", "eval-sequences"),
        ("fig5-cross", "cross-matrix"),
        ("fig6-search", "eval-search-error"),
        ("fig7-planning", "eval-planning"),
        *((name, f"eval-{name}") for name in ("equivalence", "improvement", "operators", "targets")),
    ]
    assert out.splitlines() == ["run cartpole, the newest under checkpoints", *(f"{name} written" for name in names)]
    code, out, _ = run_cli("figures", "cartpole")
    assert out.splitlines() == [f"{name} unchanged" for name in names]


def test_a_seed_and_a_name_choose_the_folder(run_cli, tiny_arguments, tmp_path):
    code, _, _ = run_cli(
        "train", *tiny_arguments(training__steps=0), "--seed", "3", "--name", "mine", "--out", "elsewhere"
    )
    assert code == 0
    checkpoint = read_checkpoint(tmp_path / "elsewhere" / "mine" / "seed-3" / "step-0000000")
    assert (checkpoint.run, checkpoint.seed) == ("mine", 3)


def test_the_command_of_a_record_trains_the_same_agent_again(run_cli, tiny_arguments, tmp_path, monkeypatch):
    run_cli("train", *tiny_arguments(training__steps=0), "--seed", "3", "--name", "mine")
    made = tmp_path / "checkpoints" / "mine" / "seed-3" / "step-0000000"
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    run_cli(*shlex.split(read_checkpoint(made).command)[1:])
    again = tmp_path / "again" / made.relative_to(tmp_path)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }


def test_an_agent_trained_further_already_has_nothing_to_do(run_cli, tiny_arguments):
    run_cli("train", *tiny_arguments(training__steps=10))
    code, _, said = run_cli("train", *tiny_arguments(training__steps=5))
    assert code == 0
    assert "already trained to step 10" in said


def test_a_table_made_otherwise_is_replaced_only_with_overwrite(run_cli, trained, agent, tmp_path):
    probe = ["eval-horizon", str(agent), "--step", "0", "--set", "episodes=1", "--states"]
    assert run_cli(*probe, "3")[0] == 0
    code, _, said = run_cli(*probe, "4")
    assert code == 2
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
    assert "--overwrite" in said
    assert run_cli(*probe, "4", "--overwrite")[0] == 0
    table = read_table(tmp_path / "analyses" / "tiny" / "horizon" / "seed-0.parquet")
    assert table.frame["state"].nunique() == 4


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs TensorBoard")
def test_tensorboard_writes_its_events_beside_the_checkpoints(run_cli, tiny_arguments, tmp_path):
    code, _, said = run_cli("train", *tiny_arguments(training__steps=3), "--tensorboard")
    assert code == 0, said
    (events,) = (tmp_path / "checkpoints" / "cartpole" / "seed-0" / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents")
    assert b"loss/value_loss" in events.read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs TensorBoard")
def test_a_refused_training_leaves_no_events(run_cli, tiny_arguments, tmp_path):
    agent = tmp_path / "checkpoints" / "cartpole" / "seed-0"
    with held(agent):
        code, _, said = run_cli("train", *tiny_arguments(training__steps=3), "--tensorboard")
    assert (code, "is in use" in said) == (1, True)
    assert not agent.exists()


def test_tensorboard_that_is_not_installed_is_a_wrong_request(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, line = refused("train", "--tensorboard")
    assert code == 2
    assert "pip install 'mzprobe[tensorboard]'" in line


# Studies


ALL_PROBES = """
[steps]
search_error = [20]
planning = [40]
[online]
episodes = 2
[horizon]
states = 4
episodes = 2
[sequences]
states = 3
length = 3
[cross]
states = 3
horizon = 2
[search_error]
states = 3
simulations = [2, 4]
horizon = 3
[planning]
episodes = 2
simulations = [2, 4]
horizon = 3
"""
EQUIVALENCE = """
[equivalence]
states = 2
horizon = 2
"""
FIGURES = ("fig2-online", "fig3-horizon", "fig4-sequences", "fig5-cross", "fig6-search", "fig7-planning", "equivalence")


@pytest.mark.slow
def test_a_study_ends_in_figures_and_does_nothing_twice(run_cli, tiny_keys, tmp_path):
    lines = ['preset = "cartpole"', "seeds = [0, 1]", "[overrides]"]
    lines += [f'"{key}" = {value}' for key, value in tiny_keys.items()]
    (tmp_path / "mine.toml").write_text("\n".join(lines) + ALL_PROBES + EQUIVALENCE)
    code, out, said = run_cli("study", "mine.toml")
    assert code == 0, said
    files = [f"figures/mine/{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg", "csv")]
    assert out.splitlines()[: len(files)] == [f"{file} written" for file in files]
    assert out.splitlines()[len(files)].startswith("undecided  3.1")
    assert "2 agents cannot decide a claim" in said
    assert "figures/mine/claims.md written" in said
    for name in FIGURES:
        assert "# seeds: 0, 1\n" in (tmp_path / "figures" / "mine" / f"{name}.csv").read_text("utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert len([path for path in before if path.name == WEIGHTS]) == 6
    code, out, said = run_cli("study", "mine.toml", "--processes", "2")
    assert code == 0, said
    assert out.splitlines()[: len(files)] == [f"{file} unchanged" for file in files]
    assert "figures/mine/claims.md unchanged" in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_study_of_which_no_claim_is_made_ends_in_its_figure(run_cli, tiny_keys, tmp_path):
    lines = ['preset = "cartpole"', "seeds = [0]", "[overrides]"]
    lines += [f'"{key}" = {value}' for key, value in (tiny_keys | {"training.steps": 0}).items()]
    (tmp_path / "mine.toml").write_text("\n".join(lines) + EQUIVALENCE)
    code, out, said = run_cli("study", "mine.toml")
    assert code == 0, said
    assert [line for line in out.splitlines() if "written" in line] == [
        f"figures/mine/equivalence.{suffix} written" for suffix in ("png", "svg", "csv")
    ]
    assert "claims" not in said


def test_what_make_study_runs_is_a_command(run_cli):
    (line,) = re.findall(r"mzprobe (study .*)", (Path(__file__).parent.parent / "Makefile").read_text("utf-8"))
    code, _, said = run_cli(*line.split(), "--dry-run")
    assert code == 0, said
    assert said.startswith("train: 3 agents")


def test_ctrl_c_in_a_probe_is_one_sentence(run_cli, agent, tmp_path, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mzprobe.probes.runner.run_probe", interrupted)
    code, _, err = run_cli("eval-horizon", agent, "--out", tmp_path)
    assert code == 130
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert lines == ["error: interrupted: run the same command again to resume"]
