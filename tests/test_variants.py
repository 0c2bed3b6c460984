"""A study of several configurations: their runs, their order, the dataset they learn from, and what goes wrong."""

import multiprocessing
import re
from pathlib import Path

import pytest
from studies import variants_file, write_times
from tasks import done_at_once, tasks_of

from mzprobe.errors import Interrupted, MzprobeError
from mzprobe.settings import StudyRun, load_study, study_runs
from mzprobe.study.plan import Prices, training_planned
from mzprobe.tables import read_run


@pytest.fixture
def study_file(tmp_path, tiny_keys):
    """Writes a study of the tiny configuration with variants; gives its path."""
    return lambda text, **keys: str(variants_file(tmp_path / "mine.toml", tiny_keys | keys, text))


TWO = """
[variants.slow]
"training.training_ratio" = 0.25
[variants."0.5"]
"training.n_step" = 3
"""


# Runs


def test_a_variant_is_a_run_with_its_own_keys_on_top_of_the_studys(study_file):
    path = study_file(TWO)
    study, base = load_study(path)
    slow, half = study_runs(path, study)
    assert [(run.name, run.variant) for run in (slow, half)] == [("mine-slow", "slow"), ("mine-0.5", "0.5")]
    assert slow.config == base.model_copy(
        update={"training": base.training.model_copy(update={"training_ratio": 0.25})}
    )
    assert (half.config.training.n_step, half.config.training.training_ratio) == (3, base.training.training_ratio)


@pytest.mark.parametrize("name", ["cartpole-quick", "cartpole-ten"])
def test_a_study_without_variants_is_one_run_of_its_name(name):
    study, config = load_study(name)
    assert study_runs(name, study) == (StudyRun(name=name, variant="", config=config),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[variants.a]\n"training.stesp" = 1',
            "mine.toml, variant a: there is no configuration key training.stesp: did you mean training.steps?",
        ),
        (
            '[variants.a]\n[variants.b]\n"training.steps" = -1',
            "mine.toml, variant b: cartpole: training.steps is not valid: Input should be greater than or equal to 0",
        ),
        (
            '[variants.a]\n"dataset.use" = "offline"',
            "mine.toml, variant a: dataset.use needs episodes: add a dataset section to the study, or "
            "dataset.path to the variant",
        ),
        (
            '[variants."a/b"]',
            "variant 'a/b' must be named by letters, digits, dots, dashes and underscores, and not dataset",
        ),
        (
            "[variants.dataset]",
            "variant 'dataset' must be named by letters, digits, dots, dashes and underscores, and not dataset",
        ),
        ("[dataset]\nstep = 20\n[variants.a]", "dataset is used by no variant: give one of them dataset.use, or"),
        ('[dataset]\nstep = 2\nreturns = [9, 1]\n[variants.a]\n"dataset.use" = "offline"', "dataset.returns must be"),
        ("[dataset]\nstep = 2\nstpe = 20", "there is no configuration key dataset.stpe: did you mean dataset.step?"),
        ("[variants]\na = 1", "variants.a is not valid"),
    ],
)
def test_a_wrong_variant_is_one_sentence_that_names_it(study_file, tmp_path, run_cli, monkeypatch, text, said):
    study_file(text)
    monkeypatch.chdir(tmp_path)
    code, out, line = run_cli("study", "mine.toml", "--dry-run")
    assert (code, out) == (2, "")
    assert line.startswith("error: ")
    assert said in line
    assert line.count("\n") == 1


# Plans


def test_a_plan_counts_all_variants(study_file, tmp_path, monkeypatch):
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    path = study_file(TWO)
    study, _ = load_study(path)
    runs = study_runs(path, study)
    todo = tasks_of(study, runs, tmp_path)[0]
    said = "4 agents (2 variants), 40 training steps each, some 1,360 environment steps"
    assert training_planned(study, todo) == said
    (both,) = Prices(todo).planned()
    (one,) = Prices(tasks_of(study, runs[:1], tmp_path)[0]).planned()
    assert (both.name, both.left, one.left, both.cost) == ("online", 12, 6, one.cost * 2)
    assert both.seconds > 0


def test_a_dry_run_names_dataset_and_variants_and_writes_nothing(study_file, tmp_path, run_cli, monkeypatch):
    study_file(
        "[dataset]\nstep = 20\nepisodes = 7\n"
        '[variants.a]\n"dataset.use" = "offline"\n"reanalyse.fraction" = 1\n[variants.b]'
    )
    monkeypatch.chdir(tmp_path)
    code, out, said = run_cli("study", "mine.toml", "--dry-run")
    assert (code, out) == (0, "")
    dataset, train, online, total = said.splitlines()
    said = r"dataset: 7 episodes of an agent of 20 training steps; about \d+ (?:s|min) on one core, at most"
    assert re.fullmatch(said, dataset)
    assert train.startswith("train: 4 agents (2 variants), 40 training steps each, some 840 environment steps; about ")
    assert online.startswith("online: 12 checkpoints")
    assert total.startswith("in all about ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


# Running


@pytest.fixture
def run(study_file, tmp_path):
    """Runs the study of two variants and two seeds."""

    def start(*, on_report=lambda _: None, processes=1):
        path = study_file(TWO)
        study, _ = load_study(path)
        done_at_once(study, study_runs(path, study), tmp_path, processes=processes, on_report=on_report)
        return {
            str(path.relative_to(tmp_path / "analyses")): path.read_bytes()
            for path in sorted((tmp_path / "analyses").rglob("*.parquet"))
        }

    return start


def test_agents_come_seed_by_seed(study_file, tmp_path):
    path = study_file(TWO)
    study, _ = load_study(path)
    _, tasks = tasks_of(study, study_runs(path, study), tmp_path)
    agents = ["slow seed 0", "0.5 seed 0", "slow seed 1", "0.5 seed 1"]
    assert [task.name for task in tasks] == [f"{agent} {task}" for agent in agents for task in ("train", "online")]
    assert [task.after for task in tasks] == [of for agent in agents for of in ((), (f"{agent} train",))]


@pytest.mark.slow
def test_an_interrupted_study_of_variants_goes_on_to_the_same_tables(run, tmp_path):
    seen = []

    def interrupt(report):
        seen.append(report)
        if report.label == "slow seed 1" and not any(one.label == "slow seed 1" for one in seen[:-1]):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="every agent saved"):
        run(on_report=interrupt)
    assert multiprocessing.active_children() == []
    done = [read_run(tmp_path / "analyses", f"mine-{v}", "online").frame for v in ("slow", "0.5")]
    assert [set(frame["seed"]) for frame in done] == [{0}, {0}]
    tables = run()
    names = [f"mine-{v}/{p}/seed-{s}.parquet" for v in ("0.5", "slow") for p in ("online", "timing") for s in (0, 1)]
    assert list(tables) == names
    assert run() == tables
    slow, half = (read_run(tmp_path / "analyses", f"mine-{v}", "online") for v in ("slow", "0.5"))
    assert slow.frame["environment_steps"].max() < half.frame["environment_steps"].max()
    assert set(slow.frame.loc[slow.frame["training_step"] == 0, "environment_steps"]) == {0}
    assert slow.record["agents"][0]["config"]["training"]["training_ratio"] == 0.25


@pytest.mark.slow
def test_the_failure_of_an_agent_is_said_with_its_variant(study_file, tmp_path):
    path = study_file('[variants.wild]\n"training.learning_rate" = 1e12')
    study, _ = load_study(path)
    with pytest.raises(MzprobeError, match=r"^wild seed [01]: training step .* not finite"):
        done_at_once(study, study_runs(path, study), tmp_path)


def test_a_task_of_a_variant_trains_its_configuration(study_file, tmp_path):
    path = study_file(TWO)
    study, _ = load_study(path)
    slow, _ = study_runs(path, study)
    reports = []
    for task in tasks_of(study, [slow], tmp_path)[1]:
        if task.label == "slow seed 1":
            task.run(reports.append, lambda: False)
    assert {report.label for report in reports} == {"slow seed 1"}
    assert list(dict.fromkeys(report.phase for report in reports)) == ["train", "online"]
    assert (tmp_path / "analyses" / "mine-slow" / "online" / "seed-1.parquet").exists()


def test_the_times_that_the_trainer_kept_become_a_table(study_file, tmp_path, monkeypatch):
    path = study_file(TWO)
    study, _ = load_study(path)
    _, half = study_runs(path, study)
    folder = tmp_path / "checkpoints" / "mine-0.5" / "seed-1"
    monkeypatch.setattr(
        "mzprobe.study.tasks.train_agent",
        lambda trainer, *_: (trainer.train(), write_times(folder / "timing.json", steps=(0, 20, 40))),
    )
    (train,) = (task for task in tasks_of(study, [half], tmp_path)[1] if task.name == "0.5 seed 1 train")
    train.run(lambda _: None, lambda: False)
    table = read_run(tmp_path / "analyses", "mine-0.5", "timing")
    assert set(table.frame["training_step"]) == {0, 20, 40}
    assert table.record["agents"][0]["config"] == half.config.model_dump(mode="json")


PLANNING = """
[planning]
leaf = "value"
simulations = [2]
episodes = 2
[steps]
planning = [40]
"""


@pytest.mark.slow
def test_a_study_of_variants_ends_in_what_compares_them_and_does_nothing_twice(
    study_file, tmp_path, run_cli, monkeypatch
):
    study_file(PLANNING + TWO)
    monkeypatch.chdir(tmp_path)
    code, out, said = run_cli("study", "mine.toml", "--processes", 2)
    assert code == 0, said
    figures = ("learning", "agents", "acting")
    names = [f"figures/mine/{name}.{suffix}" for name in figures for suffix in ("png", "svg", "csv")]
    assert out.splitlines() == [f"{name} written" for name in names]
    assert "claims" not in said
    assert "slow seed 1" in said
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for command in (("study", "mine.toml"), ("figures", "mine.toml")):
        code, out, said = run_cli(*command)
        assert code == 0, said
        assert out.splitlines() == [f"{name} unchanged" for name in names]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    code, out, said = run_cli("figures", "mine-slow")
    assert code == 0, said
    assert "figures/mine-slow/fig2-online.png written" in out


@pytest.mark.slow
def test_a_study_whose_questions_have_no_figure_ends_without_one(study_file, tmp_path, run_cli, monkeypatch):
    path = Path(study_file("[inspect]\nstates = 2\nepisodes = 1\nhorizon = 2\nsteps = 5\n"))
    path.write_text(path.read_text("utf-8").replace("[online]\nepisodes = 2", ""), "utf-8")
    monkeypatch.chdir(tmp_path)
    code, out, said = run_cli("study", "mine.toml", "--processes", 1)
    assert (code, out) == (0, ""), said
    assert (tmp_path / "analyses" / "mine" / "inspect" / "seed-1.parquet").exists()


@pytest.mark.slow
def test_variants_whose_probes_no_figure_compares_end_with_what_does(study_file, tmp_path, run_cli, monkeypatch):
    path = Path(study_file("[horizon]\nstates = 2\nepisodes = 1\nhorizon = 2\n" + TWO))
    path.write_text(path.read_text("utf-8").replace("[online]\nepisodes = 2", ""), "utf-8")
    monkeypatch.chdir(tmp_path)
    code, out, said = run_cli("study", "mine.toml", "--processes", 1)
    assert (code, out) == (0, ""), said
    assert said.splitlines()[-1].startswith(
        "no figure of a study compares its variants by these probes: see mzprobe compare"
    )


def test_variants_of_several_unroll_lengths_are_told_apart_before_they_are_asked(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    variants = '\n[variants.a]\n"training.unroll_steps" = 1\n[variants.b]\n"training.unroll_steps" = 5\n'
    for horizon, note in (("", True), ("horizon = 3\n", False)):
        (tmp_path / "mine.toml").write_text(f'preset = "cartpole"\nseeds = [0]\n[horizon]\n{horizon}{variants}')
        code, _, said = run_cli("study", "mine.toml", "--dry-run")
        assert code == 0, said
        assert ("note: horizon will end at the unroll length of each variant (1, 5): give" in said) == note


def test_variants_that_were_asked_what_no_figure_compares_are_not_said_to_have_no_table(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variant in ("0", "0.5"):
        (tmp_path / "analyses" / f"cartpole-reanalyse-{variant}" / "horizon").mkdir(parents=True)
    code, _, said = run_cli("figures", "cartpole-reanalyse")
    assert (code, "no figure of a study compares variants by the probes of cartpole-reanalyse: see" in said) == (
        2,
        True,
    )


def test_figures_of_a_study_without_tables_name_the_command_that_makes_them(tmp_path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, said = run_cli("figures", "cartpole-reanalyse")
    assert (code, out) == (2, "")
    assert said == (
        "error: there are no tables of the runs of study cartpole-reanalyse under analyses: make them with mzprobe "
        "study cartpole-reanalyse\n"
    )
