"""The dataset that a study's variants learn from: made once, of the agent and the settings that the study says."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from stored_tables import store
from tasks import tasks_of

from mzprobe.checkpoints import read_checkpoint
from mzprobe.compute import Compute
from mzprobe.datasets import open_dataset
from mzprobe.envs import CartPole
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.execution.core import Needs
from mzprobe.execution.local import Local
from mzprobe.probes.online import QUESTION
from mzprobe.records.digests import without_places
from mzprobe.records.versions import versions
from mzprobe.settings import OnlineConfig, StudyConfig, StudyDataset, study_runs
from mzprobe.study import refusal, run_study
from mzprobe.study.dataset import DatasetTask, dataset_config, dataset_return, make_dataset, record_path
from mzprobe.study.plan import Prices
from mzprobe.study.tasks import Recipe, study_tasks
from mzprobe.study.todo import study_todo
from mzprobe.study.training import PROCESS
from mzprobe.training.replay import bytes_of_buffer

OFFLINE = StudyConfig(
    preset="cartpole",
    seeds=(0,),
    online=OnlineConfig(episodes=1),
    dataset=StudyDataset(seed=3, step=20, policy="prior", episodes=5),
    variants={
        "offline": {"dataset.use": "offline", "reanalyse.fraction": 1},
        "shown": {"dataset.use": "demonstrations"},
        "elsewhere": {"dataset.use": "offline", "dataset.path": "mine", "reanalyse.fraction": 0},
        "online": {},
    },
)


def test_only_the_variants_that_use_it_have_the_path_of_the_studys_dataset(tmp_path):
    paths = {run.variant: run.config.dataset.path for run in study_runs("a/compare.toml", OFFLINE)}
    here = "datasets/compare"  # wherever the study is run
    assert paths == {"offline": here, "shown": here, "elsewhere": "mine", "online": None}
    there = study_runs("compare", OFFLINE, datasets=tmp_path)[0].config.dataset.path
    assert there == (tmp_path / "compare").as_posix()


@pytest.fixture
def task(tmp_path, tiny_config):
    """The making of the study's dataset."""
    return DatasetTask(
        study="compare",
        settings=OFFLINE.dataset,
        config=tiny_config(),
        datasets=tmp_path / "datasets",
        checkpoints=tmp_path / "checkpoints",
        analyses=tmp_path / "analyses",
        command="mzprobe study compare",
    )


def test_a_dataset_is_of_an_agent_trained_to_its_step_and_made_once(task, tmp_path, monkeypatch):
    reports = []
    task.run(reports.append, lambda: False)
    assert list(dict.fromkeys((report.label, report.phase) for report in reports)) == [
        ("dataset", "train"),
        ("dataset", "record"),
    ]
    dataset = open_dataset(str(tmp_path / "datasets" / "compare"), CartPole().spec)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "compare-dataset" / "seed-3" / "step-0000020")
    record = json.loads(record_path(tmp_path / "analyses", "compare").read_text("utf-8"))
    expected = {
        "policy": "prior",
        "temperature": 1.0,
        "seed": 3,
        "episodes": 5,
        "command": "mzprobe study compare",
        "sha256": dataset.sha256,
        "mean_return": dataset.returns.mean(),
    }
    assert {key: record[key] for key in expected} == expected
    assert record["checkpoint"]["weights_sha256"] == checkpoint.weights_sha256
    monkeypatch.setattr("mzprobe.datasets.collect.collect", lambda *_, **__: pytest.fail("recorded again"))
    task.run(reports.append, lambda: False)


def test_the_making_of_a_dataset_needs_and_takes_what_its_training_does(task, tmp_path, tiny_config, monkeypatch):
    config = tiny_config("training.threads=2")
    _, (first, *_) = tasks_of(OFFLINE, study_runs("compare", OFFLINE), tmp_path, dataset=replace(task, config=config))
    memory = PROCESS + bytes_of_buffer(CartPole(), config.training)
    assert (first.name, first.needs) == ("dataset", Needs(cores=2, memory=memory))
    monkeypatch.setattr("mzprobe.study.plan.Speeds.seconds", lambda *_, **__: 3.0)
    monkeypatch.setattr("mzprobe.study.plan.training_seconds", lambda *_: 10.0)
    assert [Prices([], dataset=one).recording for one in (task, first)] == [13.0, 26.0]


def test_a_dataset_is_of_the_first_checkpoint_that_returns_what_is_asked_for(task, tmp_path):
    returns = {}
    for step in (0, 10, 20):
        settings = task.settings.model_copy(update={"step": step})
        other = replace(task, settings=settings, datasets=tmp_path / str(step), checkpoints=tmp_path / f"c{step}")
        other.run(lambda _: None, lambda: False)
        returns[step] = dataset_return(tmp_path / "analyses", "compare")
    assert len(set(returns.values())) == 3
    later = sorted(returns.values())[1:]
    first = min(step for step in returns if later[0] <= returns[step] <= later[1])
    asked = replace(task, settings=task.settings.model_copy(update={"returns": tuple(later)}))
    asked.run(lambda _: None, lambda: False)
    record = json.loads(record_path(tmp_path / "analyses", "compare").read_text("utf-8"))
    assert (record["checkpoint"]["training_step"], record["mean_return"]) == (first, returns[first])
    asked.run(lambda _: None, lambda: False)  # the same again
    none = replace(task, settings=task.settings.model_copy(update={"returns": (480.0, 500.0)}))
    with pytest.raises(
        UsageError, match=r"returns 480 to 500 on average \(they return .*choose another dataset.returns"
    ):
        none.run(lambda _: None, lambda: False)


def test_a_dataset_of_other_settings_is_refused(task, tmp_path):
    task.run(lambda _: None, lambda: False)
    checkpoint = tmp_path / "checkpoints" / "compare-dataset" / "seed-3" / "step-0000020"
    out = tmp_path / "datasets" / "compare"
    for other in ({"episodes": 6}, {"policy": "behaviour"}, {"temperature": 0.5}, {"seed": 4}):
        settings = OFFLINE.dataset.model_copy(update=other)
        with pytest.raises(UsageError, match="holds another dataset than the study's: remove it, or choose another"):
            make_dataset(checkpoint, settings, out=out, command="")
    (out / "mzprobe.json").unlink()
    with pytest.raises(UsageError, match="holds another dataset"):
        task.run(lambda _: None, lambda: False)


def test_the_dataset_of_a_longer_trained_agent_is_not_taken_for_that_of_an_earlier_step(task, tmp_path):
    task.run(lambda _: None, lambda: False)
    earlier = replace(task, settings=task.settings.model_copy(update={"step": 0}))
    with pytest.raises(UsageError, match="holds another dataset than the study's"):
        earlier.run(lambda _: None, lambda: False)
    between = replace(task, settings=task.settings.model_copy(update={"step": 10}))
    with pytest.raises(UsageError, match=r"seed-3 has no checkpoint at step 10: remove it, to train it anew"):
        between.run(lambda _: None, lambda: False)


def test_random_episodes_of_another_environment_are_not_taken_for_the_studys(task, tmp_path, tiny_config):
    settings = task.settings.model_copy(update={"policy": "random", "temperature": None, "step": 0})
    replace(task, settings=settings).run(lambda _: None, lambda: False)
    other = tiny_config("environment.options.time_limit=50")
    elsewhere = replace(task, settings=settings, config=other, checkpoints=tmp_path / "others")
    with pytest.raises(UsageError, match="holds another dataset than the study's"):
        elsewhere.run(lambda _: None, lambda: False)


def test_what_another_dataset_would_lie_on_is_known_before_and_put_aside(task, tmp_path):
    agent, out = tmp_path / "checkpoints" / "compare-dataset" / "seed-3", tmp_path / "datasets" / "compare"
    assert task.others() == {}
    task.run(lambda _: None, lambda: False)
    assert task.others() == {}
    recorded = {out: "holds another dataset than the study's"}
    for change in ({"episodes": 6}, {"policy": "behaviour"}, {"temperature": 0.5}):
        settings = task.settings.model_copy(update=change)
        assert replace(task, settings=settings).others() == recorded
    early = replace(task, settings=task.settings.model_copy(update={"step": 10}))
    assert early.others() == {agent: "has no checkpoint at step 10", **recorded}
    network = task.config.network.model_copy(update={"latent": 12})
    other = replace(task, config=task.config.model_copy(update={"network": network}))
    assert other.others() == {agent: "holds an agent of another configuration (network.latent)", **recorded}
    here = Local(processes=1)
    with pytest.raises(
        UsageError, match=r"seed-3 holds an agent .*; 1 dataset is not the study's either: put it aside with"
    ):
        run_study([], [other], executor=here, dataset=other.others())
    run_study([], [other], executor=here, dataset=other.others(), overwrite=True)
    assert other.others() == {}
    for folder in (agent, out):
        assert folder.exists()
        assert folder.with_name(f"{folder.name}.before-1").exists()


def test_a_record_that_nobody_can_read_is_another_dataset(task, tmp_path):
    task.run(lambda _: None, lambda: False)
    record = tmp_path / "datasets" / "compare" / "mzprobe.json"
    for text in ("{", "[]", json.dumps({**json.loads(record.read_text("utf-8")), "checkpoint": None})):
        record.write_text(text)
        assert list(task.others()) == [record.parent]


def test_the_return_of_a_dataset_is_known_from_the_tables_alone(task, tmp_path):
    assert dataset_return(tmp_path / "analyses", "compare") is None
    task.run(lambda _: None, lambda: False)
    dataset = open_dataset(str(tmp_path / "datasets" / "compare"), CartPole().spec)
    assert dataset_return(tmp_path / "analyses", "compare") == dataset.returns.mean()
    record_path(tmp_path / "analyses", "compare").write_text("{")
    with pytest.raises(MzprobeError, match=r"dataset.json is truncated .*: run mzprobe study compare again"):
        dataset_return(tmp_path / "analyses", "compare")


def test_the_agent_of_the_dataset_is_trained_as_the_study_says_and_no_further(tiny_config):
    config = dataset_config(tiny_config(), OFFLINE.dataset)
    assert config == tiny_config("training.steps=20")


def test_the_dataset_is_made_before_any_agent_that_learns_from_it(task, tmp_path):
    _, tasks = tasks_of(OFFLINE, study_runs("compare", OFFLINE), tmp_path, dataset=task)
    assert replace(tasks[0], memory=0) == task
    after = {one.name.removesuffix(" seed 0 train"): one.after for one in tasks if one.name.endswith(" train")}
    fed = ("dataset",)
    assert after == {"offline": fed, "shown": fed, "elsewhere": fed, "online": ()}


def test_an_agent_that_learned_from_the_dataset_as_it_was_is_another_one(tmp_path):
    runs = study_runs("compare", OFFLINE)
    places = {"checkpoints": tmp_path / "checkpoints", "analyses": tmp_path / "analyses"}
    for run in runs:
        folder = tmp_path / "checkpoints" / run.name / f"seed-{OFFLINE.seeds[0]}" / "step-0000000"
        folder.mkdir(parents=True)
        record = {"config": run.config.model_dump(mode="json"), "metrics": {"dataset": {"sha256": "as it was"}}}
        (folder / "checkpoint.json").write_text(json.dumps(record))

    def refused():
        return {agent.run.variant: agent.other for agent in study_todo(OFFLINE, runs, **places) if agent.other}

    assert refused() == {}  # nobody knows the dataset's digest
    kept = record_path(tmp_path / "analyses", "compare")
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"sha256": "as it was"}))
    assert refused() == {}
    kept.write_text(json.dumps({"sha256": "as it is"}))
    said = "holds an agent that learned from another dataset than the study's"
    assert refused() == {"offline": said, "shown": said}
    assert "put it aside with --overwrite" in refusal(study_todo(OFFLINE, runs, **places), overwrite=False)
    kept.write_text(json.dumps({"sha256": "as it was"}))
    todo = study_todo(OFFLINE, runs, **places, renewed=True)  # it is as it was, but will be recorded anew
    assert {agent.run.variant: agent.other for agent in todo if agent.other} == {"offline": said, "shown": said}


def test_tables_of_an_agent_that_makes_room_are_made_anew_with_it(tmp_path):
    offline, *_ = runs = study_runs("compare", OFFLINE)
    places = {"checkpoints": tmp_path / "checkpoints", "analyses": tmp_path / "analyses"}
    config = offline.config.model_dump(mode="json")
    folder = tmp_path / "checkpoints" / offline.name / "seed-0" / "step-0000000"
    folder.mkdir(parents=True)
    made = {"config": config, "metrics": {"dataset": {"sha256": "as it was"}}}
    (folder / "checkpoint.json").write_text(json.dumps(made))
    steps = [*offline.config.training.checkpoints()]
    frame = pd.DataFrame({name: 0 for name in QUESTION.units if name != "score"}, index=steps)
    store(
        tmp_path / "analyses",
        frame.assign(training_step=steps),
        probe="online",
        run=offline.name,
        settings=OFFLINE.online.model_dump(mode="json"),
        config=without_places(config),
        versions=versions("cartpole"),
        compute=Compute().record(),
        dataset={"sha256": "as it was"},
    )

    def table(**given):
        (found,) = study_todo(OFFLINE, runs, **places, **given)[0].tables
        return found

    assert (table().other, table().missing) == ("", {})
    assert table(renewed=True).other == "is of the agent that is there so far"
    assert [*table(renewed=True).missing] == steps
    tasks = study_tasks(study_todo(OFFLINE, runs, **places, renewed=True), Recipe(**places, command="", overwrite=True))
    (asked,) = [one for one in tasks if one.name == "offline seed 0 online"]
    assert asked.run_of.overwrite
