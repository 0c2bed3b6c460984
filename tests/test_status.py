"""How a study stands, from its files alone: running, stopped or done, and nothing is written by looking."""

import json
import os
import shutil

import pytest
from forks import everything
from studies import HORIZON
from tasks import done_here

from mzprobe.cli.status import headline, lines
from mzprobe.locks import held, holder
from mzprobe.settings import OnlineConfig, StudyConfig, StudyDataset, StudyRun
from mzprobe.study.status import status_of_run, status_of_study

STUDY = StudyConfig(preset="cartpole", seeds=(0, 1), online=OnlineConfig(episodes=2), horizon=HORIZON)


@pytest.fixture(scope="module")
def runs(tiny_config):
    return [StudyRun(name="tiny", variant="", config=tiny_config())]


@pytest.fixture(scope="module")
def first_done(tmp_path_factory, runs):
    """A folder with the first of two agents done. Only for reading."""
    folder = tmp_path_factory.mktemp("first")
    done_here(STUDY.model_copy(update={"seeds": (0,)}), runs, folder)
    return folder


@pytest.fixture
def folder(first_done, tmp_path):
    shutil.copytree(first_done, tmp_path, dirs_exist_ok=True)
    return tmp_path


def seen(folder, runs, study=STUDY):
    before = everything(folder)
    places = {name: folder / name for name in ("checkpoints", "analyses", "datasets")}
    found = status_of_study("tiny", study, runs, config=runs[0].config, **places)
    assert everything(folder) == before
    return found


def left_by_a_killed_process(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    there = {
        "process": 2**22 + 1,
        "host": os.uname().nodename,
        "command": "mzprobe study",
    }  # no process has that number
    (path.parent / f".{path.name}.lock").write_text(json.dumps(there))


def test_an_agent_is_done_and_the_other_is_not_begun(runs, folder):
    found = seen(folder, runs)
    one, two = found.agents
    assert (one.label, one.standing, one.step, one.steps) == ("seed 0", "done", 40, 40)
    assert [(t.probe, t.done, t.wanted, t.running) for t in one.tables] == [
        ("online", 3, 3, False),
        ("horizon", 3, 3, False),
    ]
    state = json.loads(next((folder / "checkpoints/tiny/seed-0/resume").iterdir()).joinpath("state.json").read_text())
    assert one.recent_return == pytest.approx(sum(state["recent"]) / len(state["recent"]))
    assert one.evaluation == state["evaluations"][-1]["mean_return"]
    assert one.losses == state["last_losses"]
    assert (two.standing, two.step, two.steps, two.rate, two.left) == ("not begun", 0, 40, None, None)
    assert (found.running, found.done, found.begun, found.left) == ("", False, True, None)
    assert seen(folder, runs, STUDY.model_copy(update={"seeds": (0,)})).done


def test_the_rate_is_that_since_the_checkpoint_before(runs, folder):
    times = {"play": 1.0, "learn": 1.0}
    rows = [{"training_step": step, "seconds": {"play": step / 10.0, "learn": 0.0}} for step in (0, 20, 40)]
    (folder / "checkpoints/tiny/seed-0/timing.json").write_text(json.dumps({"rows": rows, "now": {"seconds": times}}))
    assert seen(folder, runs).agents[0].rate is None  # the clock went backwards
    rows[2]["seconds"]["play"] = 6.0
    text = json.dumps({"rows": rows, "now": {"seconds": {"play": 6.0, "learn": 0.0}}})
    (folder / "checkpoints/tiny/seed-0/timing.json").write_text(text)
    assert seen(folder, runs).agents[0].rate == 20 / 4.0


def test_a_running_study_says_who_trains_and_what_is_asked(runs, folder):
    checkpoints, table = folder / "checkpoints", folder / "analyses/tiny/horizon/seed-0.parquet"
    with held(checkpoints / "tiny"), held(checkpoints / "tiny" / "seed-1"), held(table):
        found = seen(folder, runs)
        assert found.running == f"process {os.getpid()} on {os.uname().nodename}"
        assert [agent.standing for agent in found.agents] == ["probing", "training"]
        assert [table.running for table in found.agents[0].tables] == [False, True]
    assert seen(folder, runs).running == ""
    with held(checkpoints / "tiny"):
        assert [agent.standing for agent in seen(folder, runs).agents] == ["done", "waiting"]


def test_a_study_of_which_nothing_is_there_is_not_begun(runs, tmp_path):
    found = seen(tmp_path, runs)
    assert (found.begun, found.done, {agent.standing for agent in found.agents}) == (False, False, {"not begun"})
    assert headline(found) == "tiny: not begun; 2 agents: 2 not begun"


def test_the_agent_of_a_dataset_stands_before_the_others(first_done, runs, tmp_path):
    recorded = STUDY.model_copy(update={"dataset": StudyDataset(seed=7, step=40, episodes=5)})
    agent, record = tmp_path / "checkpoints/tiny-dataset/seed-7", tmp_path / "analyses/tiny/dataset.json"

    def dataset():
        return seen(tmp_path, runs, recorded).dataset

    assert (dataset().label, dataset().standing, dataset().step, dataset().steps) == ("dataset", "not begun", 0, 40)
    with held(agent):
        assert dataset().standing == "training"
    shutil.copytree(first_done / "checkpoints/tiny/seed-0", agent)
    assert dataset().standing == "trained"
    found = seen(tmp_path, runs, recorded)
    assert headline(found) == "tiny: stopped; dataset trained; 2 agents: 2 not begun"
    with held(tmp_path / "datasets/tiny"):
        assert dataset().standing == "recording"
        assert seen(tmp_path, runs, recorded).running == "a command of its own"
    record.parent.mkdir(parents=True)
    record.write_text('{"episodes": 5}')
    assert (dataset().standing, dataset().step) == ("done", 40)
    assert lines(seen(tmp_path, runs, recorded))[1].endswith("episodes 5/5")
    record.write_text('{"episodes": []}')
    assert dataset().standing == "trained"


def test_a_dataset_of_other_settings_is_not_done(first_done, runs, tmp_path):
    recorded = STUDY.model_copy(update={"dataset": StudyDataset(seed=7, step=40, episodes=5)})
    shutil.copytree(first_done / "checkpoints/tiny/seed-0", tmp_path / "checkpoints/tiny-dataset/seed-7")
    record = tmp_path / "analyses/tiny/dataset.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"episodes": 5}')
    assert seen(tmp_path, runs, recorded).dataset.standing == "done"
    sooner = recorded.dataset.model_copy(update={"step": 30})  # its agent went further, and kept no such checkpoint
    found = seen(tmp_path, runs, recorded.model_copy(update={"dataset": sooner}))
    assert (found.dataset.standing, found.done) == ("other settings", False)
    assert "dataset other settings" in headline(found)


def test_a_number_that_another_process_was_given_is_no_holder(tmp_path):
    with held(tmp_path / "x"):
        there = json.loads((tmp_path / ".x.lock").read_text())
        assert holder(tmp_path / "x").lives()
    if not there["begun"]:
        pytest.skip("this system does not show when a process began")
    for begun in ("1 of another boot", "1" + there["begun"]):
        (tmp_path / ".x.lock").write_text(json.dumps({**there, "begun": begun}))
        assert not holder(tmp_path / "x").lives()


def test_a_killed_study_is_stopped_though_its_locks_are_there(runs, folder):
    agent = folder / "checkpoints" / "tiny" / "seed-0"
    shutil.rmtree(agent / "step-0000040")
    state = next((agent / "resume").iterdir())
    state.rename(state.with_name("00000030-0000000400"))
    for path in (agent, agent.parent, folder / "analyses/tiny/horizon/seed-0.parquet"):
        left_by_a_killed_process(path)
    found = seen(folder, runs)
    assert (found.running, found.agents[0].standing, found.agents[0].step) == ("", "stopped", 30)
    assert not any(table.running for table in found.agents[0].tables)


def test_what_was_made_with_other_settings_is_not_done(runs, folder, tiny_config):
    one = STUDY.model_copy(update={"seeds": (0,)})
    assert seen(folder, runs, one).done
    longer = one.model_copy(update={"online": OnlineConfig(episodes=3)})
    (agent,) = seen(folder, runs, longer).agents
    assert (agent.standing, [table.done for table in agent.tables]) == ("trained", [0, 3])
    other = [StudyRun(name="tiny", variant="", config=tiny_config("training.n_step=3"))]
    found = seen(folder, other, one)
    assert [agent.standing for agent in found.agents] == ["other settings"]
    assert not found.done
    assert "1 other settings" in headline(found)


def test_what_is_too_wide_for_a_terminal_stands_below(runs, folder):
    found = seen(folder, runs)
    whole = lines(found)
    assert lines(found, width=max(map(len, whole))) == whole
    narrow = lines(found, width=80)
    assert max(map(len, narrow)) <= 80
    assert narrow[0].split() == whole[0].split()[:-3]
    assert "    checkpoints probed: online 3/3, horizon 3/3" in narrow


def test_a_holder_elsewhere_lives_as_long_as_its_lock(tmp_path):
    assert holder(tmp_path / "x") is None
    with held(tmp_path / "x"):
        (tmp_path / ".x.lock").write_text(json.dumps({"process": 1, "host": "elsewhere.example"}))
        assert holder(tmp_path / "x").lives()
    (tmp_path / ".x.lock").write_text(json.dumps({"process": 1, "host": "elsewhere.example"}))
    gone = holder(tmp_path / "x")
    assert not gone.lives()  # its machine has crashed
    with held(tmp_path / "x"):  # who looks keeps nobody out
        pass
    assert not gone.lives()
    (tmp_path / ".x.lock").write_text("half a rec")
    assert holder(tmp_path / "x") is None


def test_the_time_left_is_shared_by_as_many_as_train(runs, folder):
    rows = [{"training_step": 20, "seconds": {"play": 10.0}}, {"training_step": 40, "seconds": {"play": 20.0}}]
    text = json.dumps({"rows": rows, "now": {"seconds": {"play": 20.0}}})
    (folder / "checkpoints/tiny/seed-0/timing.json").write_text(text)
    more = STUDY.model_copy(update={"seeds": (0, 1, 2, 3)})
    names = [folder / "checkpoints" / "tiny" / f"seed-{seed}" for seed in (1, 2)]
    with held(names[0]), held(names[1]):
        assert seen(folder, runs, more).left == 40 / 2.0 / 2  # one waits; what those have left is not known yet


def test_what_is_half_written_or_damaged_is_no_error(runs, folder):
    agent = folder / "checkpoints" / "tiny" / "seed-0"
    (agent / "timing.json").write_text("{")
    next((agent / "resume").iterdir()).joinpath("state.json").write_text("[]")
    (folder / "analyses/tiny/online/seed-0.parquet").write_bytes(b"PAR1")
    found = seen(folder, runs).agents[0]
    assert (found.standing, found.rate, found.tables[0].done) == ("trained", None, 0)


def test_the_command_shows_a_study_and_a_run_and_ends_its_watch_when_all_is_done(
    run_cli, folder, tiny_keys, monkeypatch
):
    monkeypatch.chdir(folder)
    lines = ['preset = "cartpole"', "seeds = [0, 1]", "online.episodes = 2", "[horizon]"]
    lines += ["states = 4", "episodes = 1", "horizon = 2", "[overrides]"]
    lines += [f'"{key}" = {value}' for key, value in tiny_keys.items()]
    (folder / "tiny.toml").write_text("\n".join(lines))
    code, out, said = run_cli("status", "tiny.toml")
    assert (code, said) == (0, "")
    head, names, one, two = out.splitlines()
    assert head == "tiny: stopped; 2 agents: 1 done, 1 not begun"
    assert " ".join(names.split()) == "agent is step steps/s return evaluated left losses checkpoints probed"
    assert one.split()[:4] == ["seed", "0", "done", "40/40"]
    assert one.endswith("online 3/3, horizon 3/3")
    assert two.split()[2:5] == ["not", "begun", "0/40"]
    (folder / "tiny.toml").write_text("\n".join(lines).replace("[0, 1]", "[0]"))
    code, out, said = run_cli("status", "tiny.toml", "--watch")
    assert (code, said) == (0, "")
    assert "tiny: done; 1 agent: 1 done" in out
    code, out, said = run_cli("status")
    assert out.splitlines()[0] == "tiny: done; 1 agent: 1 done"
    assert out.splitlines()[2].endswith("horizon 3, online 3")
    assert run_cli("status", "nothing")[0] == 2


def test_a_run_without_a_study_is_seen(folder):
    found = status_of_run("tiny", checkpoints=folder / "checkpoints", analyses=folder / "analyses")
    assert [(t.probe, t.done, t.wanted) for t in found.agents[0].tables] == [("horizon", 3, None), ("online", 3, None)]


@pytest.mark.parametrize(
    "record",
    [
        '{"config": null}',
        '{"config": {"training": 3}}',
        '{"recent": ["x"]}',
        '{"evaluations": [1]}',
        '{"metrics": []}',
        '{"last_losses": {"value_loss": "x"}}',
        '{"last_losses": 3}',
    ],
)
def test_records_that_are_none_are_no_reason_to_stop(run_cli, tmp_path, monkeypatch, record):
    monkeypatch.chdir(tmp_path)
    for name in ("step-0000000/checkpoint.json", "resume/00000000-0000000000/state.json"):
        path = tmp_path / "checkpoints" / "odd" / "seed-0" / name
        path.parent.mkdir(parents=True)
        path.write_text(record)
    code, _, said = run_cli("status", "odd")
    assert (code, said) == (0, "")
