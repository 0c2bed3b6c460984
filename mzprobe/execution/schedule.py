"""Chooses the next task: the most urgent one whose predecessors are done and for which there is room.

A task that others wait for (training, which its probes wait for) goes ahead of the rest once no more such tasks are
left to begin than there are cores; otherwise the last agents would train while cores are idle. One that needs a card
always goes ahead, so that a card never waits for a probe.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mzprobe.execution.core import Needs, Task


class Schedule:
    """Tasks that are not done, and the resources that the running ones hold.

    Args:
        tasks: tasks in order of importance; the predecessors of each are among them, or done already.
        total: resources for all tasks that run at the same time.
        most: resources of each machine, of which a task can have those of one; a task that fits none of them gets what
            there is of its needs where that is closest to all. By default `total` alone.
    """

    def __init__(self, tasks: Sequence[Task], total: Needs, most: Sequence[Needs] = ()) -> None:
        self.total = total
        self.most = tuple(most) or (total,)
        self._given: dict[Needs, Needs] = {}  # what a task gets, by what it needs
        self.running: dict[str, Task] = {}
        self._taken: dict[str, Needs] = {}  # by name of running task
        self._free = {"cores": total.cores, "memory": total.memory, "cards": total.cards}
        self._tasks = {task.name: task for task in tasks}
        self._index = {task.name: index for index, task in enumerate(tasks)}
        self._waits = {task.name: {name for name in task.after if name in self._tasks} for task in tasks}
        self._waiting_for = defaultdict[str, list[str]](list)
        for name, others in self._waits.items():
            for other in others:
                self._waiting_for[other].append(name)
        self._leading = {name for name in self._tasks if self._waiting_for.get(name)}  # waited for, not begun
        self._ready = defaultdict[tuple[bool, Needs], list[tuple[int, str]]](list)  # heaps, most important first
        for name, others in self._waits.items():
            if not others:
                self._add(name)

    @property
    def over(self) -> bool:
        """Whether no task is left."""
        return not self._tasks

    def resize(self, total: Needs, most: Sequence[Needs]) -> None:
        """Updates the available resources; running tasks keep what they have."""
        for what in self._free:
            self._free[what] += getattr(total, what) - getattr(self.total, what)
        self.total = total
        if tuple(most) != self.most:
            self.most = tuple(most)
            self._given.clear()
            waiting = [name for heap in self._ready.values() for _, name in heap]
            self._ready.clear()
            for name in waiting:
                self._add(name)

    def next(self) -> Task | None:
        """Marks the next task as running and returns it, or returns None if none can begin now."""
        fitting = [kind for kind, heap in self._ready.items() if heap and self._fits(kind[1])]
        if not fitting:
            return None
        kind = min(fitting, key=self._rank)
        _, name = heapq.heappop(self._ready[kind])
        self._taken[name] = kind[1]
        self._take(kind[1], 1)
        self._leading.discard(name)
        task = self.running[name] = self._tasks[name]
        return task

    def idle(self) -> Needs:
        """Returns the resources that no task will need any more: all that are free if no task is waiting, else none."""
        return Needs(**self._free) if len(self.running) == len(self._tasks) else Needs(cores=0)

    def again(self, task: Task) -> None:
        """Queues a running task again, because it did not end."""
        self._end(task)
        self._add(task.name)

    def done(self, task: Task) -> None:
        """Marks a running task as done, so that tasks that waited for it can begin."""
        self._end(task)
        del self._tasks[task.name]
        for name in self._waiting_for[task.name]:
            self._waits[name].discard(task.name)
            if not self._waits[name] and name in self._tasks:
                self._add(name)

    def failed(self, task: Task) -> None:
        """Marks a running task as failed, and drops all tasks that depend on it."""
        self._end(task)
        dropped = [task.name]
        while dropped:
            name = dropped.pop()
            if self._tasks.pop(name, None):
                self._leading.discard(name)
                dropped += self._waiting_for[name]

    def needs(self, task: Task) -> Needs:
        """Returns the needs of a task, capped at what it can have on one machine."""
        needs = task.needs
        if needs not in self._given:
            self._given[needs] = max((_capped(needs, one) for one in self.most), key=lambda given: _met(needs, given))
        return self._given[needs]

    def _add(self, name: str) -> None:
        heap = self._ready[name in self._leading or bool(self._waiting_for.get(name)), self.needs(self._tasks[name])]
        heapq.heappush(heap, (self._index[name], name))

    def _rank(self, kind: tuple[bool, Needs]) -> tuple[bool, int]:
        leads, needs = kind
        ahead = leads and (needs.cards > 0 or len(self._leading) <= self.total.cores)
        return not ahead, self._ready[kind][0][0]

    def _fits(self, needs: Needs) -> bool:
        free = self._free
        return needs.cores <= free["cores"] and needs.memory <= free["memory"] and needs.cards <= free["cards"]

    def _take(self, needs: Needs, sign: int) -> None:
        for what in self._free:
            self._free[what] -= sign * getattr(needs, what)

    def _end(self, task: Task) -> None:
        del self.running[task.name]
        self._take(self._taken.pop(task.name), -1)


def _capped(needs: Needs, most: Needs) -> Needs:
    """Returns the needs, but of each resource no more than there is."""
    return Needs(
        cores=min(needs.cores, most.cores),
        memory=min(needs.memory, most.memory),
        cards=min(needs.cards, most.cards),
    )


def _met(needs: Needs, given: Needs) -> list[float]:
    """Returns the share of each need that is met, the smallest first."""
    pairs = ((needs.cores, given.cores), (needs.memory, given.memory), (needs.cards, given.cards))
    return sorted(got / needed if needed else 1.0 for needed, got in pairs)


def makespan(tasks: Sequence[Task], seconds: Mapping[str, float], total: Needs) -> float:
    """Returns the seconds from start to end if every task takes the time given for it.

    Args:
        tasks: tasks in order of importance.
        seconds: duration of each task, by name.
        total: resources for all tasks that run at the same time.
    """
    schedule, now, ends = Schedule(tasks, total), 0.0, list[tuple[float, int, Task]]()
    count = 0
    while not schedule.over:
        while (task := schedule.next()) is not None:
            count += 1
            heapq.heappush(ends, (now + seconds[task.name], count, task))
        now, _, task = heapq.heappop(ends)
        schedule.done(task)
    return now
