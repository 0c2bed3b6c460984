"""What of a study is done is known from its files: exactly what depends on a change is done anew, and only if asked."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from stored_tables import store
from studies import HORIZON
from tasks import done_here, tasks_of

from mzprobe.checkpoints import agents_at, read_checkpoint, steps_of
from mzprobe.compute import Compute
from mzprobe.errors import UsageError
from mzprobe.records.versions import versions
from mzprobe.settings import ActingConfig, CrossConfig, OnlineConfig, StepsConfig, StudyConfig, StudyRun
from mzprobe.study import refusal, run_study
from mzprobe.study.aside import put_aside
from mzprobe.study.plan import training_planned
from mzprobe.study.status import status_of_study
from mzprobe.study.strays import strays
from mzprobe.tables import find_run, read_table, write_table

STUDY = StudyConfig(
    preset="cartpole",
    seeds=(0,),
    steps=StepsConfig(cross=(0, 40)),
    online=OnlineConfig(episodes=2),
    horizon=HORIZON,
    cross=CrossConfig(states=2, episodes=1, horizon=2),
)
TIMES = "timing"


@pytest.fixture(scope="module")
def runs(tiny_config):
    return [StudyRun(name="tiny", variant="", config=tiny_config())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, runs):
    """A folder with all of the study. Only for reading."""
    folder = tmp_path_factory.mktemp("whole")
    done_here(STUDY, runs, folder)
    return folder


@pytest.fixture
def there(whole, tmp_path):
    """A copy of it."""
    shutil.copytree(whole, tmp_path / "there")
    return tmp_path / "there"


def names(study, runs, root, **recipe):
    return [task.name for task in tasks_of(study, runs, root, **recipe)[1]]


def tables(root):
    return {path.parent.name: path.read_bytes() for path in root.rglob("*.parquet") if path.parent.name != TIMES}


def table(root, probe):
    return root / "analyses" / "tiny" / probe / "seed-0.parquet"


def changed(**probes):
    return STUDY.model_copy(update=probes)


def test_status_counts_a_row_of_pairs_where_all_of_it_is_there(runs, there):
    with_step = changed(steps=StepsConfig(cross=(0, 20, 40)))
    places = {"checkpoints": there / "checkpoints", "analyses": there / "analyses"}
    for study, done in ((STUDY, 2), (with_step, 0)):
        (agent,) = status_of_study("tiny", study, runs, config=runs[0].config, **places).agents
        assert [(one.done, one.wanted) for one in agent.tables if one.probe == "cross"] == [
            (done, len(study.steps.cross))
        ]


class Here:
    """Does tasks in this process, one after the other."""

    def run(self, tasks, *, on_report, **_):
        for task in tasks:
            task.run(on_report, lambda: False)


ALL = ["seed 0 train", "seed 0 online", "seed 0 horizon", "seed 0 cross"]


def test_of_nothing_all_is_to_do_and_of_a_whole_study_nothing(runs, whole, tmp_path):
    assert names(STUDY, runs, tmp_path) == ALL
    todo, tasks = tasks_of(STUDY, runs, whole)
    assert tasks == []
    assert [(one.probe, one.done, one.missing) for one in todo[0].tables] == [
        ("online", 3, {}),
        ("horizon", 3, {}),
        ("cross", 2, {}),
    ]
    assert training_planned(STUDY, todo) == "1 agent, all trained"
    assert refusal(todo, overwrite=False) is None


def test_how_often_states_are_saved_leaves_a_study_done(tiny_config, there):
    often = [StudyRun(name="tiny", variant="", config=tiny_config("training.resume_interval=3"))]
    assert names(STUDY, often, there) == []


def test_a_removed_table_a_new_seed_and_a_new_step_are_all_that_is_done(runs, there, whole):
    table(there, "horizon").unlink()
    assert names(STUDY, runs, there) == ["seed 0 horizon"]
    more = STUDY.model_copy(update={"seeds": (0, 5)})
    assert names(more, runs, there)[1:] == [name.replace("0", "5") for name in ALL]
    with_step = changed(steps=StepsConfig(cross=(0, 20, 40)))
    todo, tasks = tasks_of(with_step, runs, whole)
    assert [task.name for task in tasks] == ["seed 0 cross"]
    assert todo[0].tables[2].missing == {0: 1, 20: 3, 40: 1}  # others that each row has still to be asked about


def test_a_row_of_pairs_that_lacks_a_later_column_is_not_done(runs, there):
    with_step = changed(steps=StepsConfig(cross=(0, 20, 40)))
    stop = []

    def report(said):
        stop.append(said.phase == "cross" and said.done >= 2)

    (task,) = tasks_of(with_step, runs, there)[1]
    with pytest.raises(Exception, match="stopped"):
        task.run(report, lambda: any(stop))
    assert set(read_table(table(there, "cross")).frame["training_step"]) == {0, 20, 40}
    assert tasks_of(with_step, runs, there)[0][0].tables[2].missing == {40: 1}


def test_a_changed_setting_is_said_and_with_overwrite_its_tables_alone_are_made_anew(runs, there, whole, tmp_path):
    other = changed(horizon=HORIZON.model_copy(update={"states": 5}))
    todo, _ = tasks_of(other, runs, there)
    said = f"{table(there, 'horizon')} was made with other settings (states): replace it with --overwrite, or give this"
    assert refusal(todo, overwrite=False).startswith(said)
    assert refusal(todo, overwrite=True) is None
    assert names(other, runs, there, overwrite=True) == ["seed 0 horizon"]
    done_here(other, runs, there, overwrite=True)
    assert names(other, runs, there) == []
    shutil.copytree(whole / "checkpoints", tmp_path / "anew" / "checkpoints")
    done_here(other, runs, tmp_path / "anew")
    assert tables(there) == tables(tmp_path / "anew")
    assert {name for name in tables(there) if tables(there)[name] != tables(whole)[name]} == {"horizon"}


def test_other_versions_and_a_table_that_is_damaged_are_said(runs, there, monkeypatch):
    monkeypatch.setattr("mzprobe.study.todo.versions", lambda name: {**versions(name), "torch": "1.0"})
    assert "was made with other versions (torch); 2 tables are not the study's either: replace" in refusal(
        tasks_of(STUDY, runs, there)[0], overwrite=False
    )
    monkeypatch.undo()
    table(there, "online").write_bytes(b"PAR1")
    said = refusal(tasks_of(STUDY, runs, there)[0], overwrite=False)
    assert said.startswith(f"{table(there, 'online')} is truncated or not a table of mzprobe: replace it with")
    done_here(STUDY, runs, there, overwrite=True)
    assert names(STUDY, runs, there) == []


def test_another_configuration_puts_the_agent_aside_and_all_of_it_is_made_anew(tiny_config, there, whole):
    other = [StudyRun(name="tiny", variant="", config=tiny_config("training.n_step=3"))]
    todo, _ = tasks_of(STUDY, other, there)
    folder = there / "checkpoints" / "tiny" / "seed-0"
    said = (
        "holds an agent of another configuration (training.n_step); 3 tables are not the study's either: put it aside"
    )
    assert refusal(todo, overwrite=False).startswith(f"{folder} {said}")
    assert names(STUDY, other, there, overwrite=True) == ALL
    aside = put_aside(folder)
    assert aside == folder.with_name("seed-0.before-1")
    assert agents_at(folder.parent) == []
    done_here(STUDY, other, there, overwrite=True)
    assert names(STUDY, other, there) == []
    assert {name for name in tables(there) if tables(there)[name] == tables(whole)[name]} == set()
    assert put_aside(folder).name == "seed-0.before-2"


def test_another_behaviour_policy_of_all_questions_is_asked_anew(runs, there):
    acting = ActingConfig(temperature=0.5)
    other = changed(
        **{name: settings.model_copy(update={"acting": acting}) for name, (settings, _) in STUDY.probes().items()}
    )
    todo, _ = tasks_of(other, runs, there)
    assert "settings (acting.temperature" in refusal(todo, overwrite=False)
    assert refusal(todo, overwrite=True) is None
    done_here(other, runs, there, overwrite=True)
    assert names(other, runs, there) == []


def test_tables_of_a_removed_question_go_aside_with_their_agent(tiny_config, runs, there):
    other = [StudyRun(name="tiny", variant="", config=tiny_config("training.learning_rate=0.01"))]
    fewer = changed(horizon=None)
    todo, tasks = tasks_of(fewer, other, there, overwrite=True)
    run_study(todo, tasks, executor=Here(), overwrite=True)
    assert [path.name for path in (there / "analyses" / "tiny" / "horizon").iterdir()] == ["seed-0.parquet.before-1"]
    assert find_run(there / "analyses", "tiny", "horizon") is None
    assert names(fewer, other, there) == []


def test_tables_of_seeds_that_a_study_does_not_have_are_told_of_and_those_made_otherwise_are_in_the_way(runs, there):
    todo, _ = tasks_of(STUDY.model_copy(update={"seeds": (3,)}), runs, there)
    assert dict(strays(todo)) == {table(there, name): "" for name in ("online", "horizon", "cross")}
    other = changed(seeds=(3,), horizon=HORIZON.model_copy(update={"states": 5}))
    todo, _ = tasks_of(other, runs, there)
    apart = {path: why for path, why in strays(todo) if why}
    assert list(apart) == [table(there, "horizon")]
    said = refusal(todo, overwrite=True, apart=apart)
    assert "is of a seed that the study does not have, and was made with other settings (states): move it else" in said


def test_a_table_that_could_not_be_drawn_with_a_study_s_own_is_in_the_way_before_it_trains(runs, there, monkeypatch):
    todo, _ = tasks_of(STUDY.model_copy(update={"seeds": (3,)}), runs, there)
    on_a_card = dict(strays(todo, Compute(device="cuda")))
    assert set(on_a_card.values()) == {
        "is of a seed that the study does not have, and was made with other compute (device)"
    }
    monkeypatch.setattr("mzprobe.study.todo.versions", lambda _: {**versions("cartpole"), "torch": "9.0"})
    of_another_torch = dict(strays(todo))
    assert len(of_another_torch) == 3
    assert set(of_another_torch.values()) == {
        "is of a seed that the study does not have, and was made with other versions (torch)"
    }


def test_an_agent_is_put_aside_after_its_tables_so_that_a_kill_between_them_changes_nothing(
    tiny_config, runs, there, monkeypatch
):
    other = [StudyRun(name="tiny", variant="", config=tiny_config("training.learning_rate=0.01"))]
    fewer = changed(horizon=None)
    todo, tasks = tasks_of(fewer, other, there, overwrite=True)
    done = []

    def killed_after_one(path):
        if done:
            raise KeyboardInterrupt
        done.append(put_aside(path))

    monkeypatch.setattr("mzprobe.study.put_aside", killed_after_one)
    with pytest.raises(KeyboardInterrupt):
        run_study(todo, tasks, executor=Here(), overwrite=True)
    monkeypatch.undo()
    todo, tasks = tasks_of(fewer, other, there, overwrite=True)
    assert todo[0].other
    run_study(todo, tasks, executor=Here(), overwrite=True)
    assert find_run(there / "analyses", "tiny", "horizon") is None


def test_a_question_that_is_no_more_the_study_s_may_not_be_about_another_policy(runs, there):
    acting = {"acting": ActingConfig(temperature=0.5)}
    todo, _ = tasks_of(changed(horizon=None, cross=None, online=OnlineConfig(episodes=2, **acting)), runs, there)
    assert dict(strays(todo)) == {
        table(there, name): "is about a behaviour policy with other acting.temperature" for name in ("cross", "horizon")
    }


def test_a_step_that_a_finished_agent_has_no_checkpoint_of_is_said_before(tiny_config, there):
    shorter = [StudyRun(name="tiny", variant="", config=tiny_config("training.steps=30"))]
    todo, _ = tasks_of(changed(steps=StepsConfig(horizon=(30,))), shorter, there)
    said = refusal(todo, overwrite=True)
    assert f"{table(there, 'horizon')} is to hold step 30, of which its agent has no checkpoint" in said


def test_a_table_of_times_of_another_training_is_in_the_way_before_it_begins(tiny_config, runs, there):
    timing = table(there, "timing")
    other = [StudyRun(name="tiny", variant="", config=tiny_config("training.n_step=3"))]
    for gone in ("checkpoints", "analyses/tiny/online", "analyses/tiny/horizon", "analyses/tiny/cross"):
        shutil.rmtree(there / gone)
    assert timing.exists()
    todo, _ = tasks_of(STUDY, other, there)
    said = refusal(todo, overwrite=False)
    assert said.startswith(f"{timing} was made with other config (training.n_step): replace it with --overwrite, or")
    assert refusal(todo, overwrite=True) is None
    done_here(STUDY, other, there, overwrite=True)
    assert names(STUDY, other, there) == []
    assert refusal(tasks_of(STUDY, runs, there)[0], overwrite=False) is not None


def test_times_of_another_training_are_not_taken_for_those_of_a_trained_agent(tiny_config, runs, there):
    timing = table(there, "timing")
    own = read_table(timing)
    training = {**own.record["config"]["training"], "n_step": 3}
    write_table(timing, replace(own, record={**own.record, "config": {**own.record["config"], "training": training}}))
    todo, tasks = tasks_of(STUDY, runs, there)
    assert not todo[0].trained
    assert refusal(todo, overwrite=False).startswith(f"{timing} was made with other config (training.n_step): replace")
    assert tasks[0].name == "seed 0 train"
    done_here(STUDY, runs, there, overwrite=True)
    assert names(STUDY, runs, there) == []


def test_a_run_taken_further_is_no_other_one(tiny_config, there):
    further = [StudyRun(name="tiny", variant="", config=tiny_config("training.steps=60"))]
    todo, tasks = tasks_of(STUDY, further, there)
    assert refusal(todo, overwrite=False) is None
    assert [task.name for task in tasks] == ALL
    assert (todo[0].step, todo[0].steps_left, todo[0].tables[0].missing) == (40, 20, {60: 1})
    assert training_planned(STUDY, todo) == (
        "1 agent, 60 training steps each, 0 trained, 1 begun: 20 training steps to do, some 160 environment steps"
    )


def test_what_a_kill_left_beside_a_trained_agent_is_its_tasks_to_tidy_up(runs, there):
    folder = there / "checkpoints" / "tiny" / "seed-0"
    (state,) = (folder / "resume").iterdir()
    older = shutil.copytree(state, state.with_name("00000030-0000000400"))
    assert "seed 0 train" in names(STUDY, runs, there)
    shutil.rmtree(older)
    (folder / ".step-0000040.mzprobe-12345678").mkdir()
    assert "seed 0 train" in names(STUDY, runs, there)
    (folder / ".step-0000040.mzprobe-12345678").rmdir()
    table(there, TIMES).unlink()
    assert "seed 0 train" in names(STUDY, runs, there)
    done_here(STUDY, runs, there)
    assert names(STUDY, runs, there) == []


def test_an_agent_without_its_state_is_done_and_one_in_the_middle_says_how_far_it_is(runs, there):
    folder = there / "checkpoints" / "tiny" / "seed-0"
    shutil.rmtree(folder / "resume")
    assert names(STUDY, runs, there) == []
    for step in (20, 40):
        shutil.rmtree(folder / f"step-{step:07d}")
    todo, _ = tasks_of(STUDY, runs, there)
    assert (todo[0].step, todo[0].trained) == (0, False)


# Results that are shipped, and the command

STUDY_FILE = 'preset = "cartpole"\nseeds = [0]\n[online]\nepisodes = 3\n[overrides]\n"training.steps" = 40\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a study of the run `tiny`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mzprobe.probes.cost._SECONDS", 0.01)
    (tmp_path / "tiny.toml").write_text(STUDY_FILE)
    return tmp_path


def write(folder, config, **record):
    """A table of the online probe where the study would write it."""
    frame = pd.DataFrame({"seed": 0, "training_step": [0, 40], "return": 1.0})
    made = {"config": config, "versions": versions("cartpole"), "compute": Compute().record()}
    settings = {"episodes": 3, "seed": 0, **record.pop("settings", {})}
    store(folder / "analyses", frame, probe="online", run="tiny", settings=settings, **made, **record)


@pytest.mark.parametrize(
    ("record", "said", "remedy"),
    [
        (
            {"bits": 14, "checkpoints": {"0": "a" * 64, "40": "b" * 64}},
            "is rounded, as results that are shipped, and its agent is not here: ",
            "",
        ),
        (
            {"checkpoints": {"0": "a" * 64}, "settings": {"episodes": 4}},
            "was made with other settings (episodes): ",
            "replace it with --overwrite, or ",
        ),
    ],
)
def test_a_study_is_refused_where_tables_of_others_lie_and_its_plan_warns(
    run_cli, folder, tiny_config, record, said, remedy
):
    write(folder, tiny_config().model_dump(mode="json"), **record)
    code, out, seen = run_cli("study", "tiny.toml")
    line = (
        f"analyses/tiny/online/seed-0.parquet {said}{remedy}give this study a folder of its own, such as --under runs"
    )
    assert (code, out, seen) == (2, "", f"error: {line}\n")
    assert not (folder / "checkpoints").exists()
    code, _, seen = run_cli("study", "tiny.toml", "--dry-run")
    assert code == 0
    assert seen.splitlines()[-1] == f"warning: {line}"
    code, _, seen = run_cli("study", "tiny.toml", "--dry-run", "--under", "runs")
    assert code == 0
    assert "warning" not in seen
    if not remedy:
        assert run_cli("study", "tiny.toml", "--overwrite")[0] == 2  # no --overwrite replaces what is shipped


def test_other_weights_of_an_agent_that_is_here_are_said(runs, there):
    path = there / "checkpoints" / "tiny" / "seed-0" / "step-0000040" / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "a" * 64}))
    said = refusal(tasks_of(STUDY, runs, there)[0], overwrite=False)
    assert "holds step 40 of other weights; 2 tables are not the study's either: replace it with --overwrite" in said


def test_a_table_whose_agent_was_removed_waits_for_it(runs, there):
    shutil.rmtree(there / "checkpoints")
    todo, tasks = tasks_of(STUDY, runs, there)
    assert [task.name for task in tasks] == ALL
    assert refusal(todo, overwrite=False) is None
    assert [one.missing for one in todo[0].tables] == [{}, {}, {}]
    before = tables(there)
    done_here(STUDY, runs, there)
    assert tables(there) == before
    agent = there / "checkpoints" / "tiny" / "seed-0"
    known = read_table(table(there, "online")).record["checkpoints"]
    assert {str(read_checkpoint(one).training_step) for one in steps_of(agent)} == {*known}


def test_a_study_in_the_way_of_itself_is_refused_before_any_task(runs, there):
    from tasks import done_at_once

    with pytest.raises(UsageError, match="was made with other settings"):
        done_at_once(changed(online=OnlineConfig(episodes=3)), runs, there)
