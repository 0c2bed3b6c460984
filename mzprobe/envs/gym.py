"""Wraps any deterministic Gymnasium environment with discrete actions, named by its id: `gym:MountainCar-v0`."""

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Discrete
from numpy.typing import NDArray

from mzprobe.envs.chance import Disturbance
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.envs.gym_simulator import GymSimulator, layers_of, made_by_gymnasium
from mzprobe.envs.simulators import MOST_ACTIONS, SimulatorEnvironment, not_finite
from mzprobe.envs.validation import valid_spec
from mzprobe.errors import UsageError
from mzprobe.names import GYM

_WALKS, _STEPS = 4, 64  # number and length of the walks that are compared
_MORE_WALKS = 16  # number of walks if random numbers are drawn on the way, though nothing differs
_MASK = "action_mask"  # the key that Gymnasium and PettingZoo use


def gym_environment(
    id: str, *, gamma: float = 0.997, time_limit: int | None = None, simulators: int = 512, **options: Any
) -> SimulatorEnvironment:
    """Wraps a Gymnasium environment; a state is a seed and the actions since, reached again by replay.

    Args:
        id: id of the environment, as for `gymnasium.make`.
        gamma: discount, in (0, 1].
        time_limit: steps after which the caller truncates an episode; by default the id's own limit.
        simulators: largest number of copies that are alive at once.
        **options: keyword arguments of the environment.

    Raises:
        UsageError: if it cannot be made, its actions are not discrete, too many, masked or repeated by chance, its
            observations cannot be flattened or do not fit their space, it has no time limit or wrappers that make other
            steps than its limit counts, it raises, or the same start and actions lead to something else when other
            random numbers are drawn after the start.
        ValueError: if a number is out of range.
    """
    name = f"{GYM}{id}"
    own, shown = _time_limits(id, options)
    make = partial(GymSimulator, id, options, own)
    first = make()
    actions = first.env.action_space
    if not isinstance(actions, Discrete):
        raise UsageError(f"{name} has actions {actions}, and only Discrete ones can be searched")
    if actions.n > MOST_ACTIONS:
        raise UsageError(f"{name} has {actions.n} actions, and {MOST_ACTIONS} are the most that are kept")
    limit = shown if time_limit is None else time_limit
    if limit is None:
        raise UsageError(f"{name} has no time limit of its own: give the option time_limit")
    spec = valid_spec(
        EnvironmentSpec(
            name=name,
            observation_shape=first.shape,
            observation_dtype=first.dtype,
            num_actions=int(actions.n),
            gamma=gamma,
            time_limit=limit,
            action_meanings=tuple(f"action {a}" for a in range(int(actions.n))),
            source=f"Gymnasium {gymnasium.__version__} {id}",
        )
    )
    refuse_repeated_actions(first)
    refuse_masks(first, steps=min(limit, _STEPS))
    if time_limit is None and first.inside is not first.env:
        refuse_other_steps(first, limit=limit)
    refuse_chance(first, make, steps=min(limit, _STEPS))
    return SimulatorEnvironment(spec, make, simulators=simulators)


def _time_limits(id: str, options: dict[str, Any]) -> tuple[int | None, int | None]:
    """Returns the limit that `gymnasium.make` sets, and the one then shown, which a wrapper of the id may have set."""
    made = made_by_gymnasium(id, options)
    registered = options.get("max_episode_steps", gymnasium.spec(made.unwrapped.spec.id).max_episode_steps)
    own = registered if registered is not None and registered > 0 else None
    return own, own if made.spec is None else made.spec.max_episode_steps


# Environments that are refused


def refuse_repeated_actions(simulator: GymSimulator) -> None:
    """Refuses environments, such as those of ALE, that repeat actions by chance.

    Raises:
        UsageError: if the option `repeat_action_probability` is above 0.
    """
    option = "repeat_action_probability"
    env = simulator.env.unwrapped
    parameter = inspect.signature(type(env).__init__).parameters.get(option)
    given = [] if parameter is None else [env.spec.kwargs.get(option, parameter.default)]
    given += [getattr(env, name) for name in (option, f"_{option}") if hasattr(env, name)]
    emulator: Any = getattr(env, "ale", None)
    if hasattr(emulator, "getFloat"):
        given.append(emulator.getFloat(option))
    for value in given:
        if isinstance(value, int | float) and value > 0:
            raise UsageError(
                f"{simulator.name} repeats the last action by chance, as its option {option} is {value}: "
                f"set environment.options.{option} to 0"
            )


def refuse_masks(simulator: GymSimulator, *, steps: int) -> None:
    """Refuses environments that give a mask of legal actions in observations or in info.

    A mask in info is accepted if it is only advice, as Taxi's is: some actions were taken against it, and none of them
    changed the observation or ended the episode.

    Raises:
        UsageError: if there is any other mask.
    """
    space = simulator.env.observation_space
    where = "its observations" if isinstance(space, Dict) and _MASK in space.spaces else ""
    if not where:
        simulator.reset(0)
        if _mask(simulator) is None:  # some environments give it only after a step
            simulator.step(0)
        where = "info" if _mask(simulator) is not None and not _only_advises(simulator, steps) else ""
    if where:
        raise UsageError(
            f"{simulator.name} says by '{_MASK}' in {where} which actions are legal, and masks are not supported yet: "
            "it must take every action in every state"
        )


def _mask(simulator: GymSimulator) -> NDArray[Any] | None:
    info = simulator.info
    return np.ravel(info[_MASK]) if isinstance(info, Mapping) and _MASK in info else None


def _only_advises(simulator: GymSimulator, steps: int) -> bool:
    tried = False
    for seed in range(_WALKS):
        simulator.reset(seed)
        for action in _actions(simulator, seed, steps):
            mask, before = _mask(simulator), simulator.observe().tobytes()
            illegal = mask is not None and action < len(mask) and not mask[action]
            try:
                _, ended = simulator.step(action)
            except UsageError:
                return False
            if illegal and (ended or simulator.observe().tobytes() != before):
                return False
            tried |= illegal
            if ended:
                break
    return tried


def refuse_other_steps(simulator: GymSimulator, *, limit: int) -> None:
    """Refuses environments whose wrappers outside Gymnasium's time limit make more or fewer steps than are asked for.

    Raises:
        UsageError: if the numbers differ, since the time limit then counts other steps than the caller does.
    """
    inside, counted, asked = simulator.inside, 0, 0
    step = inside.step

    def counting(action: Any) -> Any:
        nonlocal counted
        counted += 1
        return step(action)

    inside.step = counting  # patches this copy only
    try:
        simulator.reset(0)
        for action in _actions(simulator, 0, min(limit, _STEPS)):
            asked += 1
            if simulator.step(action)[1]:
                break
    finally:
        del inside.step
    if counted != asked:
        raise UsageError(
            f"{simulator.name} has wrappers that made {counted} steps where {asked} were asked for, and its time limit "
            f"of {limit} counts theirs: give the option time_limit, in steps that are asked for"
        )


def refuse_chance(used: GymSimulator, make: Callable[..., GymSimulator], *, steps: int) -> None:
    """Refuses environments that are not deterministic.

    Compares random walks: each is made in one copy, and then again in turns with another copy, which gets other random
    numbers and another clock.

    Args:
        used: a copy of the environment.
        make: makes another copy; its argument `without` is the number of outermost wrappers that are left off.
        steps: length of a walk.

    Raises:
        UsageError: at the first difference; differences that need longer walks are not found.
    """
    found = _difference(used, make(), steps)
    if found is None:
        return
    wrapper = _wrapper_to_blame(used, make, steps)
    raise UsageError(
        f"{used.name} is not deterministic: with {found}; "
        + (
            f"its wrapper {wrapper} makes it so: register the id without that"
            if wrapper
            else "switch its randomness off by environment.options if it has such an option"
        )
    )


def _difference(used: GymSimulator, fresh: GymSimulator, steps: int) -> str | None:
    """Returns where and why walks differ, in words, or None; compares more walks if random numbers are drawn."""
    seed, walks = 0, _WALKS
    while seed < walks:
        actions, disturbance = _actions(used, seed, steps), Disturbance(seed + 1)
        alone = list(_walk(used, seed, actions))
        with closing(_walk(used, seed, actions)) as again, closing(_walk(fresh, seed, actions, disturbance)) as other:
            for t, (first, second, third) in enumerate(zip(alone, again, other, strict=True)):
                if not first == second == third:
                    why = _why(used, fresh, seed, actions, alone)
                    return f"seed {seed} and the same actions, step {t} differs {why}"
        if disturbance.drawn:
            walks = _MORE_WALKS
        seed += 1
    return None


def _why(used: GymSimulator, fresh: GymSimulator, seed: int, actions: list[int], alone: list[Any]) -> str:
    """Returns, in words, under which condition a walk differs from `alone`."""
    if list(_walk(used, seed, actions)) != alone:
        return "when they are taken again"
    if list(_walk(fresh, seed, actions)) != alone:
        return "in another copy"
    turns = zip(_walk(used, seed, actions), _walk(fresh, seed, actions), alone, strict=True)
    if any(not first == second == third for first, second, third in turns):
        return "while another copy is played"
    return "if other random numbers are drawn, or at another time, after the start"


def _wrapper_to_blame(used: GymSimulator, make: Callable[..., GymSimulator], steps: int) -> str | None:
    """Returns the class name of the wrapper that makes walks differ; None if the environment does, or in doubt."""
    layers, below_is_sound = list(layers_of(used.env)), False
    for without in reversed(range(len(layers))):
        if layers[without].action_space != used.env.action_space:
            below_is_sound = False
            continue
        try:
            sound = _difference(make(without=without), make(without=without), steps) is None
        except UsageError:
            below_is_sound = False
            continue
        if not sound:
            return type(layers[without]).__name__ if below_is_sound else None
        below_is_sound = True
    return None


def _actions(simulator: GymSimulator, seed: int, steps: int) -> list[int]:
    actions: list[int] = np.random.default_rng(seed).integers(int(simulator.env.action_space.n), size=steps).tolist()
    return actions


def _walk(
    simulator: GymSimulator, seed: int, actions: list[int], disturbance: Disturbance | None = None
) -> Generator[Any, None, None]:
    """Yields the observation at the start, then observation, reward and end of every step, or None after an end."""
    simulator.reset(seed)
    if disturbance is not None:
        disturbance.begin(simulator.env)
    try:
        yield _sight(simulator)
        ended = False
        for action in actions:
            if ended:
                yield None
                continue
            with nullcontext() if disturbance is None else disturbance.step():
                reward, ended = simulator.step(action)
            yield _sight(simulator), reward, ended
    finally:
        if disturbance is not None:
            disturbance.end()


def _sight(simulator: GymSimulator) -> bytes:
    seen = simulator.observe()
    if not np.isfinite(seen).all():
        raise not_finite(simulator.name, seen, seed=simulator.seed, steps=simulator.steps)
    return seen.tobytes()
