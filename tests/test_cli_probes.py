"""The commands that ask checkpoints a question, and one sentence for what can go wrong with them."""

import re
import shutil

import pytest
from agents import forged

from mzprobe.checkpoints import RECORD, WEIGHTS, read_checkpoint, steps_of
from mzprobe.compute import MEMORY
from mzprobe.envs import CartPole
from mzprobe.probes.runner import run_probe
from mzprobe.tables import read_table, write_table

# By command: the arguments that keep it small, the table, and the rows of a checkpoint.
COMMANDS = {
    "eval-online": (["--episodes", 3], "online", 9),
    "eval-horizon": (["--states", 4, "--horizon", 2, "--set", "episodes=1"], "horizon", 8),
    "eval-sequences": (["--states", 4, "--length", 3, "--set", "episodes=1"], "sequences", 32),
    "cross-matrix": (["--states", 4, "--horizon", 2, "--set", "episodes=1"], "cross", 8),
    "eval-search-error": (
        ["--states", 4, "--simulations", 2, "--simulations", 5, "--horizon", 3, "--set", "episodes=1"],
        "search_error",
        16,
    ),
    "eval-planning": (["--episodes", 2, "--simulations", 3, "--horizon", 2], "planning", 18),
    "eval-improvement": (
        ["--states", 4, "--simulations", 2, "--steps", 5, "--set", "episodes=1"],
        "improvement",
        32,
    ),
    "eval-operators": (["--episodes", 2, "--simulations", 2, "--simulations", 3, "--steps", 5], "operators", 12),
    "eval-equivalence": (["--states", 4, "--horizon", 2, "--set", "episodes=1"], "equivalence", 24),
}
PAIRS = ("cross-matrix", "eval-equivalence")  # every checkpoint is asked about every other one
EVERY_COMMAND = pytest.mark.parametrize("command", COMMANDS)
STEPS = ["--step", 0, "--step", 40]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def frame_of(folder, table):
    return read_table(folder / "tiny" / table / "seed-0.parquet").frame


@pytest.fixture
def refused(run_cli, tmp_path):
    """Runs a command that must fail and leave nothing behind; gives its exit code and its one line."""

    def run(*arguments):
        before = files_of(tmp_path)
        code, out, said = run_cli(*arguments)
        assert out == ""
        lines = [line for line in said.splitlines() if line.strip()]
        assert len(lines) == 1, said
        assert lines[0].startswith("error: ")
        assert files_of(tmp_path) == before
        return code, lines[0]

    return run


# From a checkpoint to a table


@EVERY_COMMAND
def test_a_command_makes_its_table_and_says_where_it_lies(run_cli, agent, tmp_path, command):
    arguments, table, rows = COMMANDS[command]
    code, out, said = run_cli(command, agent, *arguments, *STEPS, "--out", "tables")
    assert code == 0, said
    assert out == f"tables/tiny/{table}/seed-0.parquet\n"
    assert re.match(rf"{table}: 2 checkpoints of 1 agent, at most .* searches .*; about \d+ (?:s|min)\n", said)
    assert files_of(tmp_path) == [f"tables/tiny/{table}/seed-0.parquet"]
    found = read_table(tmp_path / "tables" / "tiny" / table / "seed-0.parquet")
    assert found.frame.groupby("training_step").size().to_dict() == {0: rows, 40: rows}
    assert found.record["commands"]["40"].startswith(f"mzprobe {command} checkpoints/tiny --set ")

    code, out, said = run_cli(command, agent, *arguments, *STEPS, "--out", "tables")
    assert (code, out) == (0, f"tables/tiny/{table}/seed-0.parquet\n")
    assert said == f"{table}: the tables hold all of it already\n"


@EVERY_COMMAND
def test_a_dry_run_writes_nothing_and_says_what_there_is_to_do(run_cli, agent, tmp_path, command):
    arguments, table, _ = COMMANDS[command]
    code, out, said = run_cli(command, agent, *arguments, *STEPS, "--dry-run")
    assert (code, out) == (0, "")
    assert files_of(tmp_path) == []
    (line,) = said.splitlines()
    counted = re.fullmatch(
        rf"{table}: 2 checkpoints of 1 agent, at most (?:\d+ states, )?([\d,]+) searches \(([\d,]+) simulations\), "
        r"([\d,]+) environment steps, ([\d,]+) network rows; about \d+ (?:s|min)",
        line,
    )
    assert counted, line
    run_cli(command, agent, *arguments, "--step", 0)
    _, _, said = run_cli(command, agent, *arguments, *STEPS, "--dry-run")
    assert f"{table}: {'2 checkpoints' if command in PAIRS else '1 checkpoint'} of 1 agent" in said


def test_a_dry_run_counts_all_agents_and_what_is_left_of_them(run_cli, two_agents):
    ask = ["eval-horizon", two_agents, "--states", 4, "--horizon", 2, "--set", "episodes=1", "--dry-run"]
    _, _, said = run_cli(*ask, "--step", 0)
    # 2 times 500 steps of an episode, and 4 states of 1 + 2 searches, 2 + 4 steps of 2 rows, and 4 rows.
    counts = "8 states, 1,024 searches (8,192 simulations), 1,048 environment steps, 128 network rows"
    assert said.startswith(f"horizon: 2 checkpoints of 2 agents, at most {counts}; about ")


@pytest.mark.parametrize(("processes", "said"), [(1, "about 4 min"), (2, "about 2 min"), (3, "about 2 min")])
def test_agents_side_by_side_take_the_time_of_one_after_the_other_in_each_process(
    run_cli, two_agents, monkeypatch, processes, said
):
    monkeypatch.setattr("mzprobe.probes.cost.seconds", lambda *_, **__: 240.0)  # of both agents
    ask = ["eval-online", two_agents, "--episodes", 1, "--step", 0, "--dry-run", "--processes", processes]
    assert run_cli(*ask)[2].strip().endswith(said)


def test_the_device_is_passed_on(run_cli, agent, monkeypatch):
    asked = []
    monkeypatch.setattr("mzprobe.probes.runner.run_probe", lambda run, **_: asked.append(run.compute.device))
    for device in (["--device", "cpu:0"], []):
        assert run_cli("eval-online", agent, "--episodes", 1, "--step", 0, *device)[0] == 0
    assert asked == ["cpu:0", "cpu"]


@EVERY_COMMAND
def test_the_memory_is_passed_on_and_changes_no_number(run_cli, agent, tmp_path, command, monkeypatch):
    asked = []

    def run(probe_run, **options):
        asked.append(probe_run.compute.memory)
        return run_probe(probe_run, **options)

    monkeypatch.setattr("mzprobe.probes.runner.run_probe", run)
    arguments, table, _ = COMMANDS[command]
    for out, given in (("one", ["--memory", "1KiB"]), ("all", [])):
        assert run_cli(command, agent, *arguments, "--step", 40, "--out", out, *given)[0] == 0
    assert asked == [1024, MEMORY]
    one, whole = (tmp_path / out / "tiny" / table / "seed-0.parquet" for out in ("one", "all"))
    assert one.read_bytes() == whole.read_bytes()


def test_without_a_path_the_newest_run_is_asked_and_recorded(run_cli, trained, tmp_path):
    ask = ["eval-online", "--checkpoints", trained, "--episodes", 1, "--step", 0]
    code, out, _ = run_cli(*ask)
    assert code == 0
    assert out.splitlines() == [f"run tiny, the newest under {trained}", "analyses/tiny/online/seed-0.parquet"]
    record = read_table(tmp_path / "analyses" / "tiny" / "online" / "seed-0.parquet").record
    assert record["commands"] == {"0": "mzprobe eval-online checkpoints/tiny --set episodes=1"}


def test_a_run_is_asked_by_its_name_too(run_cli, trained):
    ask = ["eval-online", "tiny", "--checkpoints", trained, "--episodes", 1, "--step", 0]
    code, out, said = run_cli(*ask)
    assert code == 0, said
    assert out.splitlines() == ["analyses/tiny/online/seed-0.parquet"]


def test_an_amount_of_memory_that_nobody_means_is_refused(run_cli, trained):
    code, _, said = run_cli("eval-online", trained / "tiny", "--memory", "10")
    assert (code, said) == (2, "error: --memory 10 is less than 1 KiB: give one such as --memory 512MiB\n")


def test_the_help_of_a_probe_has_choices_and_defaults(run_cli):
    said = " ".join(run_cli("eval-planning", "--help")[1].split())
    assert "One of lot, lowest. [default: lot]" in said
    assert "(see `search.ties`)" in said
    assert "For none, --set temperature=null. [default: 0.0]" in said
    assert "E, episodes of each cell, all from the same starts. [default: 20]" in said


def test_value_leaves_lie_beside_rollouts(run_cli, agent, tmp_path):
    ask = ["eval-planning", agent, "--episodes", 1, "--simulations", 2, "--horizon", 2, "--step", 0]
    assert run_cli(*ask)[1] == "analyses/tiny/planning/seed-0.parquet\n"
    assert run_cli(*ask, "--leaf", "value")[1] == "analyses/tiny/planning-value/seed-0.parquet\n"
    leaves = {table: set(frame_of(tmp_path / "analyses", table)["leaf"]) for table in ("planning", "planning-value")}
    assert leaves == {"planning": {"none", "rollout"}, "planning-value": {"none", "value"}}


def test_sequences_too_many_to_enumerate_are_sampled(run_cli, agent, tmp_path):
    ask = ["eval-horizon", agent, "--states", 2, "--horizon", 40, "--step", 40]
    assert run_cli(*ask, "--set", "episodes=1", "--set", "sequences=5")[0] == 0
    rows = frame_of(tmp_path / "analyses", "horizon")
    assert len(rows) == 2 * 40
    assert rows.loc[rows["exact"], "h"].unique().tolist() == [1, 2]  # 2 and 4 sequences
    assert set(rows.loc[~rows["exact"], "sequences"]) == {5}


@pytest.fixture
def two_agents(agent, tmp_path_factory):
    """A run of two agents, the second with the weights of the first under a seed of its own."""
    run = tmp_path_factory.mktemp("two") / "tiny"
    shutil.copytree(agent, run / "seed-0")
    for path in steps_of(agent):
        forged(run / "seed-1", read_checkpoint(path), seed=1)
    return run


def test_a_run_is_asked_agent_by_agent(run_cli, two_agents):
    code, out, said = run_cli("eval-online", two_agents, "--episodes", 2, "--step", 20)
    assert code == 0
    assert out.splitlines() == [f"analyses/tiny/online/seed-{seed}.parquet" for seed in (0, 1)]
    assert "online: 2 checkpoints of 2 agents" in said


@pytest.mark.slow
def test_processes_side_by_side_measure_what_one_does(run_cli, two_agents, tmp_path):
    arguments, table, _ = COMMANDS["eval-search-error"]
    ask = ["eval-search-error", two_agents, *arguments, *STEPS, "--out"]
    assert run_cli(*ask, "one")[0] == 0
    code, out, said = run_cli(*ask, "two", "--processes", 2)
    assert code == 0, said
    names = [f"two/tiny/{table}/seed-{seed}.parquet" for seed in (0, 1)]
    assert out.splitlines() == names
    for seed in (0, 1):
        one, two = (tmp_path / out / "tiny" / table / f"seed-{seed}.parquet" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert set(read_table(one).frame["seed"]) == {seed}


# What a user can get wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval-horizon", "--states", 0], "eval-horizon: states is not valid: Input should be greater than or equal"),
        (["eval-search-error", "--simulations", 0], "eval-search-error: simulations is not valid"),
        (["eval-search-error", "--simulations", 2, "--simulations", 0], "eval-search-error: simulations is not valid"),
        (["eval-planning", "--set", "simulations=[]"], "simulations is not valid"),
        (["eval-planning", "--simulations", "x"], "--simulations"),
        (["eval-planning", "--leaf", "nonsense"], "leaf is not valid: Input should be 'rollout' or 'value'"),
        (["eval-planning", "--horizon", 0], "horizon is not valid"),
        (["eval-planning", "--set", "temperature=-1"], "temperature is not valid"),
        (["eval-online", "--episodes", -3], "episodes is not valid"),
        (["eval-online", "--memory", "0"], "--memory 512MiB"),
        (["eval-online", "--processes", 0], "--processes"),
        (["eval-online", "--set", "states=3"], "there is no configuration key states"),
        (["cross-matrix", "--set", "polices=3"], "there is no configuration key polices: the keys are seed, "),
        (["eval-sequences", "--length", 40], "1,099,511,627,776 action sequences a state are too many to hold"),
        (["eval-sequences", "--length", 40, "--dry-run"], "ask for shorter ones"),
        (["eval-sequences", "--length", 20000], "about 10^6021 action sequences a state are too many to hold"),
        (["eval-horizon", "--horizon", 40, "--set", "enumerate_up_to=99999999999999"], "lower enumerate_up_to"),
        (["eval-online", "--step", 5], "has no checkpoint at step 5: choose with --step among 0, 20, 40"),
    ],
)
def test_a_wrong_setting_exits_with_2_and_one_line(refused, agent, arguments, said):
    code, line = refused(arguments[0], agent, *arguments[1:])
    assert code == 2
    assert said in line


@EVERY_COMMAND
def test_a_wrong_path_exits_with_2_and_one_line(refused, agent, tmp_path, command):
    assert refused(command, "nowhere") == (
        2,
        "error: nowhere does not exist: give an agent's folder, a run's or a checkpoint of other code, or train one "
        "with mzprobe train",
    )
    (tmp_path / "file").write_text("no folder")
    code, line = refused(command, "file")
    assert (code, "file is no checkpoint that mzprobe knows" in line) == (2, True)
    code, line = refused(command, agent / "step-0000020", "--step", 40)
    assert (code, "step-0000020 is one checkpoint: leave --step out" in line) == (2, True)
    code, line = refused(command)
    assert (code, "there is no run under checkpoints" in line) == (2, True)


def test_a_copy_of_an_agent_beside_it_is_refused_by_name(refused, agent, tmp_path):
    for seed in (0, 1):
        shutil.copytree(agent, tmp_path / "copied" / f"seed-{seed}")
    code, line = refused("eval-online", tmp_path / "copied")
    assert code == 2
    assert "seed-0 and " in line
    assert "seed-1 are the same agent by their records (table analyses/" in line


@EVERY_COMMAND
@pytest.mark.parametrize("spoilt", [WEIGHTS, RECORD])
def test_a_corrupt_checkpoint_exits_with_1_and_one_line(refused, agent, tmp_path, command, spoilt):
    copy = shutil.copytree(agent, tmp_path / "seed-0")
    file = steps_of(copy)[1] / spoilt
    file.write_bytes(file.read_bytes()[:-9])
    code, line = refused(command, copy, "--step", 0, "--step", 20)
    assert code == 1
    assert f"{file} is truncated" in line


@EVERY_COMMAND
def test_a_checkpoint_of_another_environment_exits_with_1_and_one_line(refused, agent, tmp_path, command):
    copy = shutil.copytree(agent, tmp_path / "seed-0")
    forged(copy, read_checkpoint(steps_of(agent)[1]), environment=CartPole(gamma=0.99, time_limit=200))
    code, line = refused(command, copy, "--step", 20)
    assert code == 1
    assert line == (
        "error: the checkpoint was trained in cartpole with time_limit=200, but this installation's has 500: install "
        f"mzprobe {read_checkpoint(steps_of(copy)[1]).versions['mzprobe']}"
    )


@EVERY_COMMAND
def test_checkpoints_of_two_configurations_in_one_folder_exit_with_2_and_one_line(refused, agent, tmp_path, command):
    copy = shutil.copytree(agent, tmp_path / "seed-0")
    second = read_checkpoint(steps_of(agent)[1])
    options = second.config.environment.model_copy(update={"options": {"gamma": 0.5}})
    forged(
        copy,
        second,
        config=second.config.model_copy(update={"environment": options}),
        environment=CartPole(gamma=0.5),
    )
    code, line = refused(command, copy, "--step", 0, "--step", 20)
    assert code == 2
    assert "step-0000020 is of another agent" in line
    assert "environment.options.gamma" in line


@EVERY_COMMAND
def test_a_table_made_otherwise_is_kept_until_overwrite_is_said(run_cli, refused, agent, command):
    arguments, _, _ = COMMANDS[command]
    ask = [command, agent, *arguments, "--step", 0]
    assert run_cli(*ask)[0] == 0
    code, line = refused(*ask, "--set", "seed=5")
    assert code == 2
    assert "was made with other settings (seed): choose another folder for tables, remove it, or replace it" in line
    assert run_cli(*ask, "--set", "seed=5", "--overwrite")[0] == 0


def test_what_goes_with_a_table_that_is_replaced_is_said_before(run_cli, agent, tmp_path):
    ask = ["eval-horizon", agent, "--states", 1, "--episodes", 1, "--out", tmp_path]
    run_cli(*ask, "--step", 0, "--step", 20)
    said = "warning: the tables replaced hold training steps 0 too, which go with them"
    replace = [*ask, "--step", 20, "--overwrite"]
    assert said not in run_cli(*replace, "--dry-run")[2]  # nothing is replaced
    for more in (["--dry-run"], []):
        assert said in run_cli(*replace, "--set", "seed=5", *more)[2]
    assert read_table(tmp_path / "tiny" / "horizon" / "seed-0.parquet").frame["training_step"].unique().tolist() == [20]


def test_ctrl_c_in_a_probe_keeps_what_is_done_and_says_so(run_cli, agent, tmp_path, monkeypatch):
    def write_and_interrupt(path, table):
        write_table(path, table)
        raise KeyboardInterrupt

    ask = ["eval-online", agent, "--episodes", 1]
    with monkeypatch.context() as patched:
        patched.setattr("mzprobe.probes.runner.write_table", write_and_interrupt)
        code, out, said = run_cli(*ask)
    assert (code, out) == (130, "")
    assert [line for line in said.splitlines() if line.startswith("error:")] == [
        "error: interrupted: run the same command again to resume"
    ]
    code, _, said = run_cli(*ask)
    assert code == 0
    assert "online: 2 checkpoints of 1 agent" in said
    assert set(frame_of(tmp_path / "analyses", "online")["training_step"]) == {0, 20, 40}
