"""Finds the random generators that an environment may use, and replaces their numbers and the clock for a while.

An environment is deterministic if other random numbers and another clock after its start change nothing.
"""

import datetime as dates
import gc
import pickle
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, cast

import numpy as np

from mzprobe.envs.gym_simulator import layers_of

_MOST_OBJECTS = 200_000  # largest number of objects searched, nearest first

_CLOCKS = {  # functions of the module `time`, with their units per second
    **dict.fromkeys(("time", "monotonic", "perf_counter"), 1),
    **dict.fromkeys(("time_ns", "monotonic_ns", "perf_counter_ns"), 10**9),
}
_LATER = 12_345_677  # s, added to the clocks; odd, and no whole number of minutes or hours

_LIBRARIES = sys.stdlib_module_names | {"gymnasium", "numpy"}  # modules whose classes hold no generators
_ATOMS = frozenset((str, bytes, int, float, bool, type(None)))


class _Kind(NamedTuple):
    """Functions that read, write and reseed the state of one kind of generator."""

    get: Callable[[Any], Any]
    put: Callable[[Any, Any], None]
    reseed: Callable[[Any, int], object]


def _put_bits(bits: Any, state: Any) -> None:
    bits.state = state


def _reseed_bits(bits: Any, seed: int) -> None:
    bits.state = type(bits)(seed).state


def _reseed_legacy(generator: Any, seed: int) -> None:
    generator.standard_normal(2 * (seed % 8) + 7)  # works with any bit generator; odd, as normals come in pairs


_KINDS: dict[type, _Kind] = {
    np.random.BitGenerator: _Kind(lambda g: g.state, _put_bits, _reseed_bits),
    np.random.Generator: _Kind(
        lambda g: g.bit_generator.state,
        lambda g, state: _put_bits(g.bit_generator, state),
        lambda g, seed: _reseed_bits(g.bit_generator, seed),
    ),
    np.random.RandomState: _Kind(lambda g: g.get_state(legacy=False), lambda g, s: g.set_state(s), _reseed_legacy),
    random.Random: _Kind(lambda g: g.getstate(), lambda g, state: g.setstate(state), lambda g, seed: g.seed(seed)),
}
_TORCH = _Kind(lambda g: g.get_state(), lambda g, state: g.set_state(state), lambda g, seed: g.manual_seed(seed))
_GLOBAL = (  # generators of the process, reached through modules
    (random, _Kind(lambda m: m.getstate(), lambda m, state: m.setstate(state), lambda m, seed: m.seed(seed))),
    (np.random, _Kind(lambda m: m.get_state(), lambda m, state: m.set_state(state), lambda m, seed: m.seed(seed))),
)


@cache
def _kind(own: type) -> _Kind | None:
    if issubclass(own, random.SystemRandom):  # it has no state, and walks differ without a reseed
        return None
    for of, kind in _KINDS.items():
        if issubclass(own, of):
            return kind
    torch = all(hasattr(own, name) for name in ("manual_seed", "get_state", "set_state"))
    return _TORCH if torch else None


def generators(root: Any) -> list[tuple[Any, _Kind]]:
    """Returns the random generators that an object reaches through attributes, containers, closures and its classes."""
    found: list[tuple[Any, _Kind]] = []
    kept: dict[int, Any] = {}  # keeps the objects seen alive, so that no id is reused
    todo = deque([root])
    while todo and len(kept) < _MOST_OBJECTS:
        thing = todo.popleft()
        if type(thing) in _ATOMS or id(thing) in kept or issubclass(type(thing), type | ModuleType):
            continue
        kept[id(thing)] = thing
        kind = _kind(cast(Any, type(thing)))  # `isinstance` would run the code of proxies
        if kind is not None:
            found.append((thing, kind))
        else:
            todo.extend(_parts(thing))
    return found


def _parts(thing: Any) -> list[Any]:
    """Returns what an object holds, except namespaces of modules, through which everything can be reached."""
    if type(thing) is FunctionType:
        return [*(thing.__closure__ or ()), *(thing.__defaults__ or ()), thing.__kwdefaults__]
    if not gc.is_tracked(thing) or (type(thing) is dict and "__builtins__" in thing):
        return []
    parts = gc.get_referents(thing)
    for own in _own_classes(cast(Any, type(thing))):
        parts.extend(vars(own).values())
    return parts


@cache
def _own_classes(of: type) -> tuple[type, ...]:
    """Returns the bases of a type that belong to no library; their attributes, which may change, are not cached."""
    return tuple(own for own in of.__mro__ if str(own.__module__).partition(".")[0] not in _LIBRARIES)


class Disturbance:
    """Replacement of random numbers and clocks during one episode of one copy of an environment.

    Args:
        seed: seed of the replacement numbers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._own: list[tuple[Any, _Kind, Any, bytes]] = []  # with old state, and new state pickled
        self._others: list[tuple[Any, Any]] = []  # modules, with states that advance
        self._began: list[bytes] = []
        self._clocks: list[tuple[ModuleType, str, Any]] = []  # see `_late_clocks`
        self.drawn = False  # whether any replacement number was drawn; set by `end`

    def begin(self, environment: Any) -> None:
        """Reseeds every generator that an environment holds; to be called after the start of the episode."""
        for generator, kind in generators(environment):
            before = kind.get(generator)
            kind.reseed(generator, self._seed)
            self._own.append((generator, kind, before, pickle.dumps(kind.get(generator))))
        for module, kind in _GLOBAL:
            before = kind.get(module)
            kind.reseed(module, self._seed)
            self._others.append((module, kind.get(module)))
            kind.put(module, before)
        self._began = [pickle.dumps(state) for _, state in self._others]
        self._clocks = _late_clocks(environment)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Replaces the generators and clocks of the process during a step, and restores them after it."""
        before = [kind.get(module) for module, kind in _GLOBAL]
        clocks = [(module, name, getattr(module, name)) for module, name, _ in self._clocks]
        for (module, kind), (_, other) in zip(_GLOBAL, self._others, strict=True):
            kind.put(module, other)
        _put(self._clocks)
        try:
            yield
        finally:
            _put(clocks)
            self._others = [(module, kind.get(module)) for module, kind in _GLOBAL]
            for (module, kind), state in zip(_GLOBAL, before, strict=True):
                kind.put(module, state)

    def end(self) -> None:
        """Restores the generators that `begin` changed, and sets `drawn`."""
        now = [pickle.dumps(state) for _, state in self._others]
        self.drawn = now != self._began or any(pickle.dumps(k.get(g)) != other for g, k, _, other in self._own)
        for generator, kind, before, _ in reversed(self._own):
            kind.put(generator, before)
        self._own.clear()


def _put(values: list[tuple[ModuleType, str, Any]]) -> None:
    for module, name, value in values:
        setattr(module, name, value)


def _late_clocks(environment: Any) -> list[tuple[ModuleType, str, Any]]:
    """Returns later clocks, each with the module and the name where they are to be put.

    They are put into the module `time`, and wherever the packages of an environment and its wrappers imported a clock.
    The module `datetime` is left as it is, since dates are pickled by the name of their class there.
    """
    clocks = [(getattr(time, name), units) for name, units in _CLOCKS.items()]
    late: dict[int, Any] = {id(clock): _late(clock, _LATER * units) for clock, units in clocks}
    late |= {id(dates.datetime): _LateDatetime, id(dates): _LATE_DATES}
    packages = {type(layer).__module__.partition(".")[0] for layer in layers_of(environment)} - _LIBRARIES
    modules = [time, *(module for name, module in sys.modules.copy().items() if name.partition(".")[0] in packages)]
    found = [module for module in modules if isinstance(module, ModuleType)]
    return [(one, name, late[id(value)]) for one in found for name, value in vars(one).items() if id(value) in late]


def _late(clock: Callable[[], float], by: int) -> Callable[[], float]:
    return lambda: clock() + by


class _AnyDatetime(type):
    """Type of a class that all dates with a time are instances of."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, dates.datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, dates.datetime)


class _LateDatetime(dates.datetime, metaclass=_AnyDatetime):
    """Stands in for `datetime.datetime`, of which it makes instances; only its clock is late."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return dates.datetime(*args, **options)

    @classmethod
    def now(cls, tz: dates.tzinfo | None = None) -> Any:
        return dates.datetime.now(tz) + dates.timedelta(seconds=_LATER)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dates.UTC).replace(tzinfo=None)


_LATE_DATES = ModuleType("datetime")
vars(_LATE_DATES).update({**vars(dates), "datetime": _LateDatetime})
