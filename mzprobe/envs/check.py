"""Tests whether an environment keeps the protocol: `check_env`."""

import hashlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from pickle import PicklingError
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mzprobe._plugins import raised
from mzprobe.envs.core import Environment, EnvironmentSpec, Int64, concatenate, legal_actions, stack_of
from mzprobe.envs.validation import dtype_and_shape, of_gymnasium, valid_spec
from mzprobe.errors import CheckFailed, UsageError

_BATCH = 5  # number of states in the walk
_BRANCHES = 8
_FEW_STEPS, _FEW_BRANCHES = 32, 2  # for the test before a command begins: replaying simulators take seconds

_Look = Mapping[str, NDArray[Any]]  # all that can be observed of a batch, by name, each [B, ...]


def check_env(env: Environment, *, steps: int = 64, seed: int = 0, processes: bool = True) -> None:
    """Tests whether an environment keeps every rule of the protocol, and returns silently if it does.

    It plays a few episodes with random actions. Choose enough steps to reach an end, or the rule on terminal states is
    not tested.

    Args:
        env: the environment.
        steps: length of the walk.
        seed: seed of the starts and the actions.
        processes: whether to repeat the walk in a fresh process, for which the environment is pickled.

    Raises:
        CheckFailed: at the first broken rule, in one sentence that names it and says what was seen.
        ValueError: if `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"check_env needs steps >= 1, not {steps}")
    if not isinstance(getattr(env, "spec", None), EnvironmentSpec):
        remedy = of_gymnasium(env) or ": its spec must be a mzprobe.EnvironmentSpec"
        raise CheckFailed(f"{type(env).__name__} is no environment of mzprobe{remedy}")
    rules = [rule for rule, test in _RULES.items() if processes or test not in _LONG]
    _try(_Case(env, steps, seed), rules)


def refuse_broken(env: Environment, *, name: str) -> None:
    """Runs a short `check_env`, which third-party environments must pass before they are trained in or probed.

    Raises:
        UsageError: at the first broken rule, naming the environment.
    """
    limit = env.spec.time_limit  # not valid yet: the first rule tests it
    steps = min(_FEW_STEPS, limit) if isinstance(limit, Integral) and limit > 0 else 1
    case = _Case(env, steps, seed=0, branches=_FEW_BRANCHES)
    try:
        _try(case, [rule for rule, test in _RULES.items() if test not in _LONG])
    except CheckFailed as broken:
        raise UsageError(
            f"environment '{name}' cannot be used: {broken}; mend it until mzprobe.check_env(env) is silent"
        ) from broken


def _try(case: "_Case", rules: Iterable[str]) -> None:
    """Tests rules in order and raises `CheckFailed` at the first that is broken."""
    kind = type(case.env).__name__
    for rule in rules:
        try:
            _RULES[rule](case)
        except _Broken as broken:
            raise CheckFailed(f"{kind} breaks the rule '{rule}': {broken}") from None
        except Exception as error:
            raise CheckFailed(f"{kind} breaks the rule '{rule}': {raised(error)}") from error


class _Broken(Exception):  # noqa: N818
    """Raised where a rule is broken; the message says what was seen."""


@dataclass(frozen=True)
class _Case:
    """The environment under test and the random walk that it is tested along."""

    env: Environment
    steps: int
    seed: int
    branches: int = _BRANCHES  # number of points of the walk that are branched from

    @cached_property
    def seeds(self) -> Int64:
        """Seeds of the starts, `[B]`."""
        return np.arange(self.seed, self.seed + _BATCH)

    @cached_property
    def actions(self) -> Int64:
        """Actions of the walk, `[steps, B]`."""
        generator = np.random.default_rng(self.seed)
        actions = generator.integers(self.env.spec.num_actions, size=(self.steps, _BATCH))
        states = self.env.reset(self.seeds)
        if legal_actions(self.env, states) is not None:
            for chosen in actions:
                legal = np.asarray(legal_actions(self.env, states))
                for b in np.flatnonzero(legal.any(axis=1)):
                    allowed = np.flatnonzero(legal[b])
                    chosen[b] = allowed[chosen[b] % len(allowed)]
                states, _ = self.env.step(states, chosen)
        return actions

    @cached_property
    def walk(self) -> tuple[list[Any], list[_Look]]:
        """States along the walk, `steps + 1` batches, and what was seen of each when it was reached."""
        return _walk(self.env, self.seeds, self.actions)


def _look(env: Environment, states: Any) -> _Look:
    """Returns all that can be observed of states, copied, since an environment may hand out its own buffers."""
    look = {"observation": np.array(env.observe(states)), "terminal": np.array(env.terminal(states))}
    legal = legal_actions(env, states)
    return look if legal is None else {**look, "legal": legal}


def _step(env: Environment, states: Any, actions: ArrayLike) -> tuple[Any, _Look]:
    following, outcome = env.step(states, actions)
    reward, terminated = np.array(outcome.reward), np.array(outcome.terminated)
    return following, {"reward": reward, "terminated": terminated, **_look(env, following)}


def _walk(env: Environment, seeds: Int64, actions: Int64) -> tuple[list[Any], list[_Look]]:
    states = [env.reset(seeds)]
    looks: list[_Look] = [_look(env, states[0])]
    for chosen in actions:
        following, look = _step(env, states[-1], chosen)
        states.append(following)
        looks.append(look)
    return states, looks


def _rows(look: _Look, rows: ArrayLike) -> _Look:
    return {name: array[np.asarray(rows)] for name, array in look.items()}


def _same(seen: _Look, expected: _Look, where: str) -> None:
    """Raises `_Broken` unless two looks agree bit for bit; the message names the first number that differs."""
    for name, wanted in expected.items():
        got = seen[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise _Broken(f"{where}, {name} is {dtype_and_shape(got)}, not {dtype_and_shape(wanted)}")
        if got.tobytes() != wanted.tobytes():
            unequal = np.argwhere(got != wanted)
            first = tuple(unequal[0].tolist()) if len(unequal) else ()
            pair = f"{got[first]}, not {wanted[first]}" if first else "equal in value but not in bits"
            raise _Broken(f"{where}, {name}{list(first)} is {pair}")


def _typed(value: object, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
        seen = dtype_and_shape(value) if isinstance(value, np.ndarray) else type(value).__name__
        raise _Broken(f"{name} is {seen}, not {np.dtype(dtype)} {list(shape)}")
    if not np.isfinite(value).all():
        raise _Broken(f"{name} holds a number that is not finite")


def _specification(case: _Case) -> None:
    try:
        valid_spec(case.env.spec)
    except ValueError as error:
        raise _Broken(str(error)) from None


def _types_and_shapes(case: _Case) -> None:
    env = case.env
    states = env.reset(case.seeds)
    if isinstance(states, np.ndarray | list | tuple):
        raise _Broken(
            f"its states are {type(states).__name__}, whose own take and len mean something else: keep the arrays in a "
            "subclass of mzprobe.envs.ArrayStates"
        )
    lacking = [part for part in ("take", "concatenate", "__len__") if not hasattr(states, part)]
    if lacking:
        raise _Broken(f"its states lack {', '.join(lacking)}: subclass mzprobe.envs.ArrayStates, or write them")
    for t, chosen in enumerate([None, *case.actions]):
        if chosen is not None:
            states, outcome = env.step(states, chosen)
            _typed(outcome.reward, f"reward of step {t}", (_BATCH,), np.float64)
            _typed(outcome.terminated, f"terminated of step {t}", (_BATCH,), np.bool_)
        if len(states) != _BATCH:
            raise _Broken(f"len(states) after {t} steps is {len(states)}, not {_BATCH}")
        shape = (_BATCH, *env.spec.observation_shape)
        _typed(env.observe(states), f"observation after {t} steps", shape, env.spec.observation_dtype)
        _typed(env.terminal(states), f"terminal after {t} steps", (_BATCH,), np.bool_)


def _starts(case: _Case) -> None:
    terminal = np.asarray(case.env.terminal(case.env.reset(case.seeds)))
    if terminal.any():
        raise _Broken(f"with seed {case.seeds[terminal.argmax()]} an episode begins in a terminal state")


def _reset_by_seed(case: _Case) -> None:
    env, first = case.env, _look(case.env, case.env.reset(case.seeds))
    _same(_look(env, env.reset(case.seeds)), first, "on the second reset with the same seeds")
    backwards = _look(env, env.reset(case.seeds[::-1].copy()))
    _same(_rows(backwards, np.arange(_BATCH)[::-1]), first, "with the seeds in reverse order")
    for i, seed in enumerate(case.seeds):
        _same(_look(env, env.reset([seed])), _rows(first, [i]), f"with seed {seed} alone")


def _states_unchanged(case: _Case) -> None:
    env, states = case.env, case.env.reset(case.seeds)
    for t, chosen in enumerate(case.actions):
        before = _look(env, states)
        following, _ = env.step(states, chosen)
        _same(_look(env, states), before, f"of the states given to step {t + 1}, looked at after it")
        states = following
    kept, looks = case.walk
    for t, look in enumerate(looks):
        seen = {name: look[name] for name in ("observation", "terminal")}
        _same(_look(env, kept[t]), seen, f"of states kept from step {t} to the end of the walk")


def _take_and_concatenate(case: _Case) -> None:
    env = case.env
    kept, looks = case.walk
    times = sorted({0, case.steps // 2, case.steps})
    order = [_BATCH - 1, 0, 0, 2]
    for t in times:
        before = _look(env, kept[t])
        taken = kept[t].take(order)
        if len(taken) != len(order):
            raise _Broken(f"take({order}) has len {len(taken)}, not {len(order)}")
        _same(_look(env, taken), _rows(before, order), f"of take({order}) at step {t}")
        _same(_look(env, kept[t]), before, f"of the states at step {t} after take")
        if t < case.steps:
            _, stepped = _step(env, taken, case.actions[t][order])
            _same(stepped, _rows(looks[t + 1], order), f"after stepping take({order}) at step {t}")
    joined = concatenate([kept[t] for t in times])
    if len(joined) != len(times) * _BATCH:
        raise _Broken(f"concatenate of {len(times)} batches of {_BATCH} has len {len(joined)}")
    parts = [_look(env, kept[t]) for t in times]
    expected = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _same(_look(env, joined), expected, "of joined batches")


def _branching(case: _Case) -> None:
    """Tries every action in both orders, and each state alone; compares with the walk, which is one branch."""
    env, every_action = case.env, range(case.env.spec.num_actions)
    kept, looks = case.walk
    for t in sorted({int(t) for t in np.linspace(0, case.steps - 1, case.branches)}):
        first = [_step(env, kept[t], np.full(_BATCH, a))[1] for a in every_action]
        for a in reversed(every_action):
            where = f"after action {a} from step {t}"
            _same(_step(env, kept[t], np.full(_BATCH, a))[1], first[a], f"{where}, tried again")
            for i in range(_BATCH):
                alone = _step(env, kept[t].take([i]), [a])[1]
                _same(alone, _rows(first[a], [i]), f"{where}, state {i} alone instead of in its batch")
            rows = np.flatnonzero(case.actions[t] == a)
            _same(_rows(looks[t + 1], rows), _rows(first[a], rows), f"{where}, in the walk")


def _replay(case: _Case) -> None:
    _, again = _walk(case.env, case.seeds, case.actions)
    for t, (seen, expected) in enumerate(zip(again, case.walk[1], strict=True)):
        _same(seen, expected, f"it is not deterministic: at step {t} of the same seeds and actions")


def _absorbing_end(case: _Case) -> None:
    env = case.env
    kept, looks = case.walk
    for t, look in enumerate(looks[1:], start=1):
        if (look["terminated"] != look["terminal"]).any():
            raise _Broken(f"at step {t}, terminated is {look['terminated']} but terminal is {look['terminal']}")
        ended = np.flatnonzero(looks[t - 1]["terminal"])
        if not len(ended):
            continue
        still = _rows(looks[t - 1], ended)
        states = kept[t - 1].take(ended)
        for a in range(env.spec.num_actions):
            where = f"after action {a} in a terminal state"
            _, stepped = _step(env, states, np.full(len(ended), a))
            if stepped["reward"].any():
                raise _Broken(f"{where}, reward is {stepped['reward']}, not 0")
            if not stepped["terminated"].all():
                raise _Broken(f"{where}, terminated is {stepped['terminated']}")
            _same(stepped, {name: still[name] for name in ("observation", "terminal")}, where)


def _rewards_along(case: _Case) -> None:
    """Compares `rewards_along` with stepping, if the environment has that method."""
    env = case.env
    if not hasattr(env, "rewards_along"):
        return
    kept, looks = case.walk
    for t in (0, case.steps // 2):
        given = np.array(env.rewards_along(kept[t], case.actions[t:].T))
        expected = np.stack([look["reward"] for look in looks[t + 1 :]], axis=1)
        _same({"reward": given}, {"reward": expected}, f"of rewards_along from step {t}")


def _stacked(case: _Case) -> None:
    """Tests that an observation also shows the frames before, if observations are stacks of frames."""
    stack = stack_of(case.env)
    if stack == 1:
        return
    channels, over = divmod(case.env.spec.observation_shape[-1], stack)
    if over:
        raise _Broken(f"{case.env.spec.observation_shape[-1]} channels are no stack of {stack} frames")
    seen = [look["observation"] for look in case.walk[1]]
    parts = np.split(seen[0], stack, axis=-1)
    if not all(np.array_equal(part, parts[-1]) for part in parts):
        raise _Broken("a start does not show its one frame in all places")
    for t, (before, after) in enumerate(pairwise(seen)):
        going = ~case.walk[1][t]["terminal"]
        if not np.array_equal(after[going][..., :-channels], before[going][..., channels:]):
            raise _Broken(f"after {t + 1} steps an observation does not show the frames before it, the newest last")


def _legal(case: _Case) -> None:
    """Tests `legal`, if the environment has that method."""
    env = case.env
    states = env.reset(case.seeds)
    if legal_actions(env, states) is None:
        return
    for t, chosen in enumerate([None, *case.actions]):
        states = states if chosen is None else env.step(states, chosen)[0]
        _typed(env.legal(states), f"legal after {t} steps", (_BATCH, env.spec.num_actions), np.bool_)  # type: ignore[attr-defined]
        stuck = np.flatnonzero(~np.asarray(legal_actions(env, states)).any(axis=1) & ~env.terminal(states))
        if len(stuck):
            raise _Broken(f"after {t} steps no action is legal in a state that is not terminal")


def _same_in_every_process(case: _Case) -> None:
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # This is the fresh process, in which a script without a guard runs again: the parent reports what is wrong.
        raise SystemExit(1)
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            there = pool.submit(_digest_of_walk, case.env, case.seeds, case.actions).result()
    except BrokenProcessPool as error:
        guard = "call check_env below `if __name__ == '__main__':` in your script"
        if not hasattr(sys.modules["__main__"], "__file__"):  # a notebook, whose definitions cannot be imported
            guard = "put the environment into a module of its own"
        guard += ", or pass processes=False"
        raise _Broken(f"the fresh process died before it could answer; {guard}") from error
    except (AttributeError, TypeError, PicklingError) as error:
        remedy = "make it picklable, or pass processes=False"
        raise _Broken(f"it cannot be pickled ({error}); {remedy}") from error
    here = _digest(case.walk[1])
    if there != here:
        raise _Broken(f"the walk's sha256 is {there[:12]} in a fresh process and {here[:12]} in this one")


def _digest_of_walk(env: Environment, seeds: Int64, actions: Int64) -> str:
    return _digest(_walk(env, seeds, actions)[1])


def _digest(looks: list[_Look]) -> str:
    digest = hashlib.sha256()
    for look in looks:
        for name in sorted(look):
            digest.update(look[name].tobytes())
    return digest.hexdigest()


_RULES: dict[str, Callable[[_Case], None]] = {
    "the specification is consistent": _specification,
    "results have the right types and shapes": _types_and_shapes,
    "the same seed is the same start": _reset_by_seed,
    "no start is an end": _starts,
    "seed and actions replay to the same bits": _replay,
    "step leaves the given states unchanged": _states_unchanged,
    "take, concatenate and len agree": _take_and_concatenate,
    "branching comes back to the same": _branching,
    "a terminal state is absorbing": _absorbing_end,
    "rewards_along gives what stepping gives": _rewards_along,
    "what is legal is said of every state": _legal,
    "a stack shows the frames before": _stacked,
    "every process sees the same": _same_in_every_process,
}
_LONG = (_same_in_every_process,)  # a fresh process takes seconds, and must be able to import the environment
