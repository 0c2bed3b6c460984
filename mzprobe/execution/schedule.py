"""Which task is next: the most urgent one whose predecessors are done and for which there is room.

A task for which others wait (training, for which its probes do) goes ahead of tasks for which nobody does once there
are no more of them than cores: else the last agents would train while cores are idle. Where it needs a card, it always
does: a card never waits for a probe.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mzprobe.execution.core import Needs, Task


class Schedule:
    """The tasks that are not done.

    Args:
        tasks: in the order in which they matter; a task that is waited for is among them, or done.
        total: what there is for those that run at a time.
        most: what one of them can have of that; a task that needs more gets this. By default all of it.
    """

    def __init__(self, tasks: Sequence[Task], total: Needs, most: Needs | None = None) -> None:
        self.total = total
        self.most = most or total
        self.running: dict[str, Task] = {}
        self._taken: dict[str, Needs] = {}  # by those
        self._free = {"cores": total.cores, "memory": total.memory, "cards": total.cards}
        self._tasks = {task.name: task for task in tasks}
        self._index = {task.name: index for index, task in enumerate(tasks)}
        self._waits = {task.name: {name for name in task.after if name in self._tasks} for task in tasks}
        self._waiting_for = defaultdict[str, list[str]](list)
        for name, others in self._waits.items():
            for other in others:
                self._waiting_for[other].append(name)
        self._leading = {name for name in self._tasks if self._waiting_for.get(name)}  # and not begun
        self._ready = defaultdict[tuple[bool, Needs], list[tuple[int, str]]](list)  # heaps
        for name, others in self._waits.items():
            if not others:
                self._add(name)

    @property
    def over(self) -> bool:
        """Whether no task is left."""
        return not self._tasks

    def resize(self, total: Needs, most: Needs) -> None:
        """There is more or less by now; what runs keeps what it has."""
        for what in self._free:
            self._free[what] += getattr(total, what) - getattr(self.total, what)
        self.total = total
        if most != self.most:
            self.most = most
            waiting = [name for heap in self._ready.values() for _, name in heap]
            self._ready.clear()
            for name in waiting:
                self._add(name)

    def next(self) -> Task | None:
        """The next task, which has begun with that; None where none can now."""
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
        """What nobody will need any more: free while no task waits to begin."""
        return Needs(**self._free) if len(self.running) == len(self._tasks) else Needs(cores=0)

    def again(self, task: Task) -> None:
        """A task that has begun did not end, and is to begin again."""
        self._end(task)
        self._add(task.name)

    def done(self, task: Task) -> None:
        """A task that has begun is done."""
        self._end(task)
        del self._tasks[task.name]
        for name in self._waiting_for[task.name]:
            self._waits[name].discard(task.name)
            if not self._waits[name] and name in self._tasks:
                self._add(name)

    def failed(self, task: Task) -> None:
        """A task that has begun has failed: those that come after it are not done."""
        self._end(task)
        dropped = [task.name]
        while dropped:
            name = dropped.pop()
            if self._tasks.pop(name, None):
                self._leading.discard(name)
                dropped += self._waiting_for[name]

    def needs(self, task: Task) -> Needs:
        """What a task takes, as far as it can have that."""
        needs, most = task.needs, self.most
        return Needs(
            cores=min(needs.cores, most.cores),
            memory=min(needs.memory, most.memory),
            cards=min(needs.cards, most.cards),
        )

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


def duration(tasks: Sequence[Task], seconds: Mapping[str, float], total: Needs) -> float:
    """Seconds from start to end when all goes as planned.

    Args:
        tasks: in the order in which they matter.
        seconds: of each, by name.
        total: what there is for those that run at a time.
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
