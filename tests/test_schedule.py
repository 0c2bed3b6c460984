"""Which task is next, against rules in words; and that executors keep to it."""

import io
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tasks import Job

from mzprobe.errors import MzprobeError
from mzprobe.execution.core import Needs, refuse_failures
from mzprobe.execution.local import Local
from mzprobe.execution.schedule import Schedule, makespan
from mzprobe.system.cgroups import usable_cores


def agents(count, probes=("a", "b"), **needs):
    """The tasks of agents: a training each, and its probes."""
    tasks = []
    for seed in range(count):
        tasks.append(Job(f"{seed} train", "", needs=needs.get("train", Needs())))
        tasks += [
            Job(f"{seed} {probe}", "", after=(f"{seed} train",), needs=needs.get(probe, Needs())) for probe in probes
        ]
    return tasks


def begun(schedule):
    """The names of all tasks that can begin now."""
    names = []
    while (task := schedule.next()) is not None:
        names.append(task.name)
    return names


def end(schedule, *names, how="done"):
    for name in names:
        getattr(schedule, how)(schedule.running[name])


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (["0 train"], "no (2 tasks that need it were not done, the other agents are not affected)"),
        (["0 a"], "no (the other agents are not affected)"),
        (["0 train", "1 b"], "no (1 failed too, 2 tasks that need it were not done)"),
        (["data"], "no (7 tasks that need it were not done)"),
    ],
)
def test_a_failure_says_what_was_not_done_for_it_and_whether_others_were(failed, said):
    first = Job("data", "")
    tasks = [first, *(Job(task.name, "", task.after or ("data",)) for task in agents(2)), Job("2 train", "", ("data",))]
    if failed[0] != "data":
        tasks = tasks[1:-1]
    named = {task.name: task for task in tasks}
    with pytest.raises(MzprobeError) as reason:
        refuse_failures([(named[name], "no") for name in failed], tasks)
    assert str(reason.value) == said


def test_a_job_may_have_fewer_cores_than_its_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert (usable_cores(), Local().total().cores, Local(processes=4).total().cores) == (1, 1, 4)


def test_agents_come_in_order_and_probes_wait_for_their_agent():
    schedule = Schedule(agents(5), Needs(cores=2))
    assert begun(schedule) == ["0 train", "1 train"]
    assert begun(schedule) == []
    end(schedule, "1 train", "0 train")
    assert begun(schedule) == ["0 a", "0 b"]  # three wait to be trained: the first agents are finished first
    end(schedule, "0 a", "0 b")
    assert begun(schedule) == ["1 a", "1 b"]
    end(schedule, "1 a", "1 b")
    assert begun(schedule) == ["2 train", "3 train"]


def test_the_last_agents_train_before_the_probes_of_others():
    schedule = Schedule(agents(3), Needs(cores=2))
    begun(schedule)
    end(schedule, "0 train")
    assert begun(schedule) == ["2 train"]
    end(schedule, "1 train")
    assert begun(schedule) == ["0 a"]


def test_no_core_is_idle_while_the_last_of_an_odd_number_of_agents_trains():
    tasks = agents(3)
    seconds = {task.name: 100.0 if task.name.endswith("train") else 25.0 for task in tasks}
    assert makespan(tasks, seconds, Needs(cores=2)) == 225.0 == sum(seconds.values()) / 2


def test_a_card_never_waits_for_a_probe():
    card = Needs(cards=1)
    schedule = Schedule(agents(9, train=card, a=card, b=card), Needs(cores=4, cards=1))
    trained = []
    for _ in range(9):
        (name,) = begun(schedule)
        trained.append(name)
        end(schedule, name)
    assert trained == [f"{seed} train" for seed in range(9)]


def test_memory_and_cores_are_never_given_twice_and_a_task_that_needs_more_than_there_is_runs_alone():
    chance = random.Random(0)
    tasks = [
        Job(f"{n}", "", needs=Needs(cores=chance.randint(1, 6), memory=chance.randint(0, 120))) for n in range(200)
    ]
    schedule, total, ended = Schedule(tasks, Needs(cores=4, memory=100)), Needs(cores=4, memory=100), []
    while not schedule.over:
        begun(schedule)
        running = list(schedule.running.values())
        assert sum(min(task.needs.cores, 4) for task in running) <= total.cores
        assert sum(min(task.needs.memory, 100) for task in running) <= total.memory
        assert running
        name = chance.choice(running).name
        end(schedule, name)
        ended.append(name)
    assert sorted(ended) == sorted(task.name for task in tasks)


def test_nodes_that_come_and_go_change_what_fits_and_not_what_runs():
    tasks = [Job(str(n), "", needs=Needs(cores=2)) for n in range(9)]
    schedule = Schedule(tasks, Needs(cores=1))
    assert begun(schedule) == ["0"]  # of what there is it gets all
    schedule.resize(Needs(cores=5), [Needs(cores=4)])
    assert begun(schedule) == ["1", "2"]
    schedule.resize(Needs(cores=2), [Needs(cores=2)])
    end(schedule, "0")
    assert begun(schedule) == []
    end(schedule, "1", "2")
    assert begun(schedule) == ["3"]


@pytest.mark.parametrize(
    ("needs", "given"),
    [
        (Needs(cores=8, memory=16), Needs(cores=8, memory=16)),
        (Needs(cores=1, memory=200), Needs(cores=1, memory=200)),
        (Needs(cores=8, memory=32), Needs(cores=8, memory=16)),  # half of its memory, or a quarter of its cores
        (Needs(cores=3, memory=200), Needs(cores=2, memory=200)),
        (Needs(cores=1, memory=50, cards=2), Needs(cores=1, memory=8, cards=1)),
    ],
)
def test_a_task_gets_no_more_than_one_node_has_and_of_the_one_that_has_most_of_what_it_needs(needs, given):
    nodes = [Needs(cores=8, memory=16), Needs(cores=2, memory=256), Needs(cores=1, memory=8, cards=1)]
    schedule = Schedule([Job("a", "", needs=needs)], Needs(cores=11, memory=280, cards=1), nodes)
    assert schedule.needs(schedule.next()) == given


def test_what_comes_after_a_failure_is_not_done_and_the_rest_is():
    schedule = Schedule(agents(2), Needs(cores=2))
    begun(schedule)
    end(schedule, "0 train", how="failed")
    end(schedule, "1 train")
    assert begun(schedule) == ["1 a", "1 b"]
    end(schedule, "1 a", how="failed")
    end(schedule, "1 b")
    assert schedule.over


def test_a_task_that_is_lost_begins_again_before_those_behind_it():
    schedule = Schedule(agents(4), Needs(cores=1))
    begun(schedule)
    end(schedule, "0 train", how="again")
    assert begun(schedule) == ["0 train"]


def test_ten_thousand_tasks_are_ordered_in_a_moment():
    tasks = agents(1000, probes="abcdefghi")
    began = time.process_time()
    assert makespan(tasks, {task.name: 1.0 for task in tasks}, Needs(cores=64)) >= 10_000 / 64
    assert time.process_time() - began < 10  # a list searched for each would take minutes


class Slow(io.StringIO):
    def flush(self):
        time.sleep(1)


class Failing(Job):
    def run(self, _report, _must_stop):
        sys.stdout = Slow()  # flushed at the process's end: it is still there when the next task is begun
        raise MzprobeError("no such thing")


def test_cores_are_idle_when_no_task_waits():
    tasks = [*agents(1), Job("last", "", needs=Needs(memory=30))]
    schedule = Schedule(tasks, Needs(cores=3, memory=100))
    assert begun(schedule) == ["0 train", "last"]
    assert schedule.idle().cores == 0  # probes wait for the training
    end(schedule, "0 train")
    assert begun(schedule) == ["0 a", "0 b"]
    assert schedule.idle().cores == 0
    end(schedule, "0 a")
    assert (schedule.idle().cores, schedule.idle().memory) == (1, 70)
    end(schedule, "0 b")
    assert schedule.idle().cores == 2


@dataclass
class Wide(Job):
    """Takes until so many cores are idle, and writes them down as they are lent."""

    wanted: int = 0
    spreads: bool = True

    def spread(self, idle):
        self.idle = idle
        return self

    def run(self, _report, must_stop):
        seen = [0]
        while seen[-1] < self.wanted and not must_stop():
            time.sleep(0.02)
            seen += [n for n in [self.idle()] if n != seen[-1]]
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{self.name} {seen}\n")


@pytest.mark.slow
def test_idle_cores_are_lent_to_what_can_spread_as_far_as_memory_allows(tmp_path):
    path, least = str(tmp_path / "seen"), Needs(memory=1 << 20)
    Local(processes=4).run([Wide("a", path, needs=least, wanted=1), Wide("b", path, needs=least, wanted=3)])
    early, late = "a [0, 1]\nb [0, 1, 3]\n", "a [0, 1]\nb [0, 3]\n"  # whether b's process was up before a had ended
    assert Path(path).read_text() in (early, late)
    whole = Needs(memory=Local().total().memory)
    Local(processes=2).run([Wide("c", path, needs=least, wanted=1), Job("d", path)])
    Local(processes=2).run([Wide("e", path, needs=whole), Job("f", path)])
    assert Path(path).read_text().splitlines()[2:] in (["d", "c [0, 1]", "e [0]", "f"], ["d", "c [0, 1]", "f", "e [0]"])


@pytest.mark.slow
def test_processes_do_every_task_once_and_in_order_and_name_all_agents_that_failed(tmp_path):
    path = str(tmp_path / "done")
    tasks = [Job(task.name, path, task.after) for task in agents(20)]
    tasks.insert(0, Failing("x train", path))
    tasks.append(Job("x a", path, after=("x train",)))
    tasks.append(Failing("y train", path))
    states = []
    with pytest.raises(MzprobeError) as reason:
        Local(processes=2).run(tasks, on_state=lambda task, state, said: states.append((task.name, state, said)))
    lost = "1 task that needs it was not done"
    assert str(reason.value) == f"x: no such thing (y failed too, {lost}, the other agents are not affected)"
    done = (tmp_path / "done").read_text().split("\n")[:-1]
    assert sorted(done) == sorted(task.name for task in agents(20))
    for seed in range(20):
        assert done.index(f"{seed} train") < min(done.index(f"{seed} {probe}") for probe in "ab")
    assert ("x train", "failed", "x: no such thing") in states
    assert len([state for state in states if state[1] == "done"]) == 60
