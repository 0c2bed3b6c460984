"""Runs tasks on a Ray cluster whose nodes share a folder; a task whose node is lost is started again elsewhere.

The driver submits only as many tasks as fit, so that their order is decided here and not by Ray. Messages of tasks come
through an actor on the driver's own node. Results are written to the shared folder, as on one machine.
"""

import logging
import os
import pickle
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from mzprobe.errors import Interrupted, MzprobeError, MzprobeWarning, UsageError, said_of_unexpected
from mzprobe.execution.core import Failure, Needs, OnState, Report, Task, Warned, refuse_failures, stopped
from mzprobe.execution.local import run_here
from mzprobe.execution.schedule import Schedule
from mzprobe.records.digests import code
from mzprobe.system.signals import kept

_LOOK = 0.1  # seconds between two readings of the mailbox
_COUNT = 5.0  # seconds between two counts of the cluster's resources
_LISTEN = 0.5  # seconds between two checks by a task of whether it must stop
LOST = 300.0  # seconds allowed for the locks of a lost node to be released; file servers notice after 90 or more
_RETRIES = 20  # restarts of a task whose worker or node was lost
_NONE = "there is no Ray cluster here: start one with ray start --head, or say where it is with RAY_ADDRESS"


@dataclass(frozen=True, kw_only=True)
class OnRay:
    """Executor on a Ray cluster.

    Args:
        address: address of the cluster; by default RAY_ADDRESS, or a cluster that was started on this machine.
        tasks: maximum number of cores in use, and so of tasks at a time; by default all cores.
    """

    address: str | None = None
    tasks: int | None = None

    def total(self) -> Needs:
        """See `Executor.total`; asks the cluster.

        Raises:
            UsageError: if Ray is not installed, or there is no cluster.
        """
        nodes = _nodes(_connected(self.address))
        total = Needs(**{what: sum(getattr(node, what) for node in nodes) for what in _RESOURCES})
        return replace(total, cores=max(1, min(total.cores, self.tasks or total.cores)))

    def most(self) -> tuple[Needs, ...]:
        """See `Executor.most`; asks the cluster.

        Raises:
            UsageError: if Ray is not installed, or there is no cluster.
        """
        nodes = [node for node in _nodes(_connected(self.address)) if node.cores] or [Needs()]
        return tuple(replace(node, cores=min(node.cores, self.tasks or node.cores)) for node in nodes)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_report: Callable[[Report], None] = lambda _: None,
        on_state: OnState = lambda _task, _state, _said: None,
    ) -> None:
        """See `Executor.run`.

        Raises:
            UsageError: if Ray is not installed, or there is no cluster.
        """
        ray = _connected(self.address)
        schedule = Schedule(tasks, self.total(), self.most())

        def resize() -> None:
            schedule.resize(self.total(), self.most())

        _Driver(ray, tasks, schedule, resize, on_report, on_state).run()


class Mailbox:
    """Actor that collects the messages of tasks, and tells tasks whether they must stop."""

    def __init__(self) -> None:
        self._said: list[tuple[str, Report | Warned]] = []
        self._stop = False

    def say(self, name: str, message: Report | Warned) -> None:
        """Adds a message of the task of that name."""
        self._said.append((name, message))

    def taken(self) -> list[tuple[str, Report | Warned]]:
        """Returns and removes all messages since the last call."""
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        """Makes all tasks stop from now on."""
        self._stop = True

    def stopping(self) -> bool:
        """Returns whether tasks must stop."""
        return self._stop


@dataclass
class _Driver:
    """State of one run of tasks."""

    ray: Any
    tasks: Sequence[Task]
    schedule: Schedule
    resize: Callable[[], None]
    on_report: Callable[[Report], None]
    on_state: OnState
    running: dict[Any, Task] = field(default_factory=dict)  # by reference to its result
    tries: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[Task, str]] = field(default_factory=list)
    looked: float = 0.0  # time of the last reading of the mailbox
    counted: float = field(default_factory=time.monotonic)  # time of the last count of resources

    def run(self) -> None:
        """Runs all tasks."""
        self._connect_tasks()
        try:
            while not self.schedule.over:
                while (task := self.schedule.next()) is not None:
                    self._begin(task)
                self._relay()
            self._hear()
            refuse_failures(self.failures, self.tasks)
        except (KeyboardInterrupt, Interrupted, SystemError) as stop:
            # A signal that arrives inside Ray's own code may surface as the cause of a SystemError.
            if isinstance(stop, SystemError) and not isinstance(stop.__cause__, KeyboardInterrupt | Interrupted):
                raise
            self._stop()
            raise stopped() from None
        except self.ray.exceptions.RayError as reason:  # from the mailbox; `_said` handles those of tasks
            said = f"the cluster has lost the node that this command runs on ({_first(reason)})"
            raise MzprobeError(f"{said}: run the same command again to resume") from None
        finally:
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(self.mailbox)

    def _connect_tasks(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        lasting = {"max_restarts": -1, "max_task_retries": -1}  # a restarted mailbox has lost its messages
        self.mailbox = self.ray.remote(num_cpus=0)(Mailbox).options(scheduling_strategy=here, **lasting).remote()
        self.remote = self.ray.remote(max_retries=0)(_run_there)  # retried by `_ended`, in the schedule's order

    def _begin(self, task: Task) -> None:
        again, needed = self.tries.get(task.name, 0), self.schedule.needs(task)
        needs = {"num_cpus": needed.cores, "num_gpus": needed.cards, "memory": needed.memory}
        placed = self.remote.options(name=task.name, **{name: need for name, need in needs.items() if need})
        ended = placed.remote(pickle.dumps(task), self.mailbox, os.getcwd(), code(), bool(again))
        self.running[ended] = task
        self.on_state(task, "again" if again else "begun", "where it ran is lost" if again else "")

    def _relay(self) -> None:
        """Passes on new messages, and handles the tasks that have ended."""
        ended, _ = self.ray.wait(list(self.running), timeout=_LOOK)
        if len(self.running) > 1 and ended:
            ended, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        if time.monotonic() >= self.looked + _LOOK:
            self._hear()
        if time.monotonic() >= self.counted + _COUNT:
            self.resize()
            self.counted = time.monotonic()
        for one in ended:
            self._ended(self.running.pop(one), one)

    def _hear(self) -> None:
        """Passes on the messages since the last call."""
        for name, message in self.ray.get(self.mailbox.taken.remote()):
            if isinstance(message, Warned):
                warnings.warn(message.sentence, MzprobeWarning, stacklevel=6)
            elif any(task.name == name for task in self.running.values()):
                self.on_report(message)
        self.looked = time.monotonic()

    def _ended(self, task: Task, ended: Any) -> None:
        """Handles a task that is done, has failed, or was lost with its worker or node and must begin again."""
        said = self._said(task, ended)
        if isinstance(said, str):  # it stopped without being asked to, or was lost
            self.tries[task.name] = self.tries.get(task.name, 0) + 1
            if self.tries[task.name] <= _RETRIES:
                self.schedule.again(task)
                return
            said = Failure(f"{task.label}: {task.name} was lost {_RETRIES} times with where it ran ({said})")
        if isinstance(said, Failure):
            self.failures.append((task, said.sentence))
            self.schedule.failed(task)
            self.on_state(task, "failed", said.sentence)
        else:
            self.schedule.done(task)
            self.on_state(task, "done", "")

    def _said(self, task: Task, ended: Any) -> Failure | str | None:
        """Returns why a task failed, or as a string why it must begin again, or None if it is done."""
        known = self.ray.exceptions
        try:
            said: Failure | str | None = self.ray.get(ended)
        except known.RayTaskError as raised:  # raised outside of `run_here`: any node would raise it again
            if isinstance(raised.cause, known.RayError):
                return _first(raised.cause)
            return Failure(f"{task.label}: {said_of_unexpected(raised.cause, remedy='mend the node that it ran on')}")
        except known.RayError as reason:
            return _first(reason)
        return said

    def _stop(self) -> None:
        """Tells all tasks to stop, and waits until they have saved."""
        left = list(self.running)
        while True:
            self.ray.get(self.mailbox.stop.remote())  # repeatedly: a restarted mailbox has forgotten it
            if not left:
                break
            _, left = self.ray.wait(left, num_returns=len(left), timeout=_COUNT)


def _run_there(called: bytes, mailbox: Any, folder: str, sources: str, again: bool) -> Failure | str | None:
    """Runs a pickled task on a node of the cluster.

    Args:
        called: the pickled task.
        mailbox: actor that receives the messages of the task.
        folder: working directory of the driver, which all nodes share.
        sources: digest of the driver's mzprobe.
        again: whether the task was lost before, so that the locks of its lost process may take a while to be released.

    Returns:
        None if the task is done, a string if it was stopped, else why it failed.
    """
    import ray

    node = platform.node()
    try:
        os.chdir(folder)
    except OSError:
        return Failure(f"{folder} is not there on node {node}: run the study in a folder that all nodes share")
    if code() != sources:
        return Failure(f"node {node} has another mzprobe than this one: install the same one on all nodes")
    listened, must = time.monotonic() - _LISTEN, False

    def must_stop() -> bool:
        nonlocal listened, must
        if not must and time.monotonic() >= listened + _LISTEN:
            listened = time.monotonic()
            try:
                must = ray.get(mailbox.stopping.remote())
            except ray.exceptions.RayError:  # the driver is gone
                must = True
        return must

    def say(message: Report | Warned) -> None:
        told = mailbox.say.remote(name, message)
        if isinstance(message, Warned):
            ray.get(told)  # otherwise the driver might exit before it arrives

    try:
        name = pickle.loads(called).name
    except ImportError as missing:
        return Failure(f"node {node} lacks a package of this study ({missing}): install it on all nodes")
    until = time.monotonic() + (LOST if again else 0.0)
    while True:
        said = run_here(called, report=say, warn=say, must_stop=must_stop)
        if not (isinstance(said, Failure) and said.in_use and time.monotonic() < until):
            break
        time.sleep(1.0)
    return str(said) if isinstance(said, Interrupted) else said


def _connected(address: str | None) -> Any:
    """Returns the module `ray`, connected to a cluster.

    Raises:
        UsageError: if Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("--executor ray needs Ray: pip install 'mzprobe[ray]'") from None
    if not ray.is_initialized():
        where = address or os.environ.get("RAY_ADDRESS") or "auto"
        # The output of tasks is not forwarded: their reports say all that a study shows.
        try:
            with kept():
                ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as reason:
            said = f" ({_first(reason)})" if address or os.environ.get("RAY_ADDRESS") else ""
            raise UsageError(f"{_NONE}{said}") from None
    return ray


def _nodes(ray: Any) -> list[Needs]:
    """Returns what each living node has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Needs(**{what: int(node.get(name, 0)) for what, name in _RESOURCES.items()}) for node in nodes]


_RESOURCES = {"cores": "CPU", "memory": "memory", "cards": "GPU"}


def _first(reason: BaseException) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0][:200] if lines else type(reason).__name__
