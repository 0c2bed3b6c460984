"""Finds the random generators that an environment may use, and replaces their numbers and the clock for a while.

An environment is deterministic if other random numbers and another clock after its start change nothing.
"""

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

    @contextmanager
    def step(self) -> Iterator[None]:
        """Replaces the generators and clocks of the process during a step, and restores them after it."""
        before = [kind.get(module) for module, kind in _GLOBAL]
        clocks = {name: getattr(time, name) for name in _CLOCKS}
        for (module, kind), (_, other) in zip(_GLOBAL, self._others, strict=True):
            kind.put(module, other)
        for name, clock in clocks.items():
            setattr(time, name, _late(clock, _LATER * _CLOCKS[name]))
        try:
            yield
        finally:
            for name, clock in clocks.items():
                setattr(time, name, clock)
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


def _late(clock: Callable[[], float], by: int) -> Callable[[], float]:
    return lambda: clock() + by
