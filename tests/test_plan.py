"""A study says what it will do before it does anything, in the numbers that its probes would give themselves."""

import re

import pytest
from studies import study_of_all_probes
from tasks import Job, tasks_of

from mzprobe.errors import UsageError
from mzprobe.execution.core import Needs
from mzprobe.probes.cost import TIMED_TREES, Cost
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, remaining_cost
from mzprobe.settings import OnlineConfig, StepsConfig, StudyConfig, StudyRun, TargetsConfig, load_study, study_runs
from mzprobe.study.plan import Prices, in_all, refuse_missing_steps
from mzprobe.study.price import steps_played, targets_made_anew
from mzprobe.toml import shipped

STUDY = study_of_all_probes(0, 1, 7)


def runs(*configs):
    return [StudyRun(name=f"run-{i}", variant=str(i), config=config) for i, config in enumerate(configs)]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)


def priced(study, tmp_path, *configs):
    return Prices(tasks_of(study, runs(*configs), tmp_path)[0])


def test_a_plan_is_what_the_agents_of_the_study_would_each_have_to_do(agent, tiny_config, tmp_path):
    found = {one.name: (one.left, one.cost) for one in priced(STUDY, tmp_path, tiny_config()).planned()}
    assert list(found) == list(PROBES)
    for name, (config, steps) in STUDY.probes().items():
        run = ProbeRun(probe=PROBES[name], agent=agent, config=config, analyses=tmp_path, steps=steps)
        count, cost = remaining_cost(run)
        assert found[name] == (3 * count, sum([cost] * 3, Cost())), name


def test_a_plan_takes_time(tiny_config, tmp_path):
    prices = priced(STUDY, tmp_path, tiny_config())
    assert all(one.seconds > 0 for one in prices.planned())
    seconds = prices.by_task()
    assert len(seconds) == 3 * (1 + len(PROBES))
    assert all(needed > 0 for needed in seconds.values())


def test_training_takes_time_by_its_steps_its_searches_and_its_evaluations(tiny_config, tmp_path):
    def needed(*overrides, seeds=1):
        prices = priced(study_of_all_probes(*range(seeds)), tmp_path, tiny_config(*overrides))
        return sum(map(prices.training, prices.todo))

    few, many = needed(), needed("training.steps=40000", "training.checkpoint_interval=40000")
    assert 0 < few < many / 100
    assert needed("training.steps=40000", seeds=20) > 5 * many  # a noisy clock is not the question


def test_work_is_shared_by_whole_tasks():
    tasks = [Job(name, "") for name in ("a", "b", "c")]
    seconds = dict.fromkeys(("a", "b", "c"), 10.0)
    assert in_all(tasks, seconds, Needs(cores=2)) == 20.0
    assert in_all(tasks, seconds, Needs(cores=3)) == 10.0
    shared = Job("d", "", needs=Needs(cores=2))
    assert in_all([shared], {"d": 10.0}, Needs(cores=2)) == 5.0


def test_each_thread_takes_a_core_and_other_threads_have_another_speed(tiny_config, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr("mzprobe.study.plan.Speeds.seconds", lambda *_, **__: 3.0)
    monkeypatch.setattr(
        "mzprobe.study.plan.training_seconds",
        lambda _, speeds: measured.append(speeds.agent.compute.threads) or 10.0,
    )
    study = StudyConfig(preset="cartpole", seeds=(0,), online=OnlineConfig(episodes=1))
    todo, tasks = tasks_of(study, runs(tiny_config(), tiny_config("training.threads=2")), tmp_path)
    prices = Prices(todo)
    assert list(map(prices.training, todo)) == [10.0, 20.0]
    assert measured == [1, 2]
    seconds = prices.by_task()
    trained = [task for task in tasks if task.name.endswith("train")]
    assert [in_all([task], seconds, Needs(cores=n)) for task in trained for n in (1, 2)] == [10.0] * 4
    one, two = (needed for name, needed in seconds.items() if name.endswith("online"))
    assert two == 2 * one > 0


def test_a_configuration_says_how_many_searches_training_makes(tiny_config):
    config = tiny_config("training.steps=100", "training.training_ratio=0.25", "reanalyse.fraction=0.75")
    warmup = config.training.warmup_environment_steps
    assert (steps_played(config), targets_made_anew(config)) == (warmup + 400, 1200)
    offline = tiny_config("training.steps=100", "dataset.path=here", "reanalyse.fraction=1")
    assert (steps_played(offline), targets_made_anew(offline)) == (0, 100 * offline.dataset.targets_per_step)


def test_a_plan_of_a_step_without_a_checkpoint_is_refused(tiny_config):
    study = STUDY.model_copy(update={"steps": StepsConfig(search_error=(20,), online=(21,))})
    with pytest.raises(UsageError, match="the study's probe online looks at step 21, where there will be no checkp"):
        refuse_missing_steps(study, tiny_config())


@pytest.mark.parametrize(
    ("steps", "override", "said"),
    [
        ((0, 20), (), "step 0, before which nothing was played"),
        ((20,), ("training.audited_positions=0",), "positions of a replay buffer, and there will be none"),
        ((20,), ("dataset.path=here", "reanalyse.fraction=1"), "positions of a replay buffer, and there will be none"),
    ],
)
def test_a_plan_that_looks_at_positions_where_there_are_none_is_refused(tiny_config, steps, override, said):
    config = tiny_config(*override)
    study = StudyConfig(preset="cartpole", seeds=(0,), steps=StepsConfig(targets=steps), targets=TargetsConfig())
    with pytest.raises(UsageError, match=f"the study's probe targets looks at {said}"):
        refuse_missing_steps(study, config)


def test_the_speed_is_measured_with_as_many_trees_as_a_probe_grows_side_by_side():
    grown = {name: PROBES[name].side_by_side(config) for name, (config, _) in STUDY.probes().items()}
    assert grown == {**dict.fromkeys(PROBES, TIMED_TREES), "online": 2, "planning": 2, "operators": 1}


@pytest.fixture
def study_file(tmp_path, tiny_keys):
    """Writes a study of the tiny configuration; gives its path."""

    def write(text):
        lines = ['preset = "cartpole"', *text.splitlines(), "[overrides]"]
        lines += [f'"{key}" = {value}' for key, value in tiny_keys.items()]
        (tmp_path / "mine.toml").write_text("\n".join(lines))
        return "mine.toml"

    return write


def test_a_dry_run_of_a_study_writes_nothing_and_says_what_there_is_to_do(run_cli, study_file, tmp_path):
    path = study_file("seeds = [0, 1]\nonline.episodes = 3\nhorizon.states = 5")
    code, out, said = run_cli("study", path, "--dry-run", "--processes", 2)
    assert (code, out) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.toml"]
    train, online, horizon, in_all = said.splitlines()
    assert re.fullmatch(
        r"train: 2 agents, 40 training steps each, some 840 environment steps; about \d+ (?:s|min) on one core", train
    )
    assert re.match(r"in all about \d+ (?:s|min) with 2 processes: an estimate for this machine", in_all)
    # 3 checkpoints of 2 agents; 3 episodes of three policies, 500 steps each, and 8 simulations where there is a search
    assert re.fullmatch(
        r"online: 6 checkpoints, at most 9,000 searches \(72,000 simulations\), 27,000 environment steps, "
        r"18,000 network rows; about \d+ (?:s|min) on one core",
        online,
    )
    assert horizon.startswith("horizon: 6 checkpoints, at most 30 states, ")


def test_a_study_that_cannot_be_done_says_so_in_one_line_and_does_nothing(run_cli, study_file, tmp_path):
    path = study_file("seeds = [0]\nsearch_error.states = 5")
    for further in ([], ["--dry-run"]):
        code, out, said = run_cli("study", path, *further)
        assert (code, out) == (2, "")
        (line,) = said.splitlines()
        assert line.startswith("error: the study's probe search_error looks at step 2000")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("name", shipped("presets/studies"))
def test_a_shipped_study_looks_where_there_will_be_checkpoints(name):
    study, _ = load_study(name)
    for run in study_runs(name, study):
        refuse_missing_steps(study, run.config)
