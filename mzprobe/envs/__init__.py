"""Real environments, the truth that models are compared with: their states are values; `make` creates one by name."""

import inspect
import json
from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any

from mzprobe._plugins import LookedAt, is_ours, kind_of, load_attribute, nearest, raised
from mzprobe.envs.cartpole import CartPole
from mzprobe.envs.check import check_env, refuse_broken
from mzprobe.envs.core import Environment, EnvironmentSpec, Outcome, States, concatenate
from mzprobe.envs.lunarlander import LunarLander
from mzprobe.envs.minatar import MinAtarBreakout
from mzprobe.envs.states import ArrayStates
from mzprobe.envs.tabular import TabularEnvironment, random_mdp
from mzprobe.envs.validation import of_gymnasium
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.names import ATARI, GYM

__all__ = [
    "ArrayStates",
    "CartPole",
    "Environment",
    "EnvironmentSpec",
    "LunarLander",
    "MinAtarBreakout",
    "Outcome",
    "States",
    "TabularEnvironment",
    "check_env",
    "concatenate",
    "make",
    "random_mdp",
    "registered",
]

_PASSED = LookedAt()
_SOUND: set[tuple[str, Callable[..., Environment], str]] = set()  # name, factory and options of what has passed
_REGISTRY: dict[str, Callable[..., Environment]] = {
    "cartpole": CartPole,
    "lunarlander": LunarLander,
    "minatar-breakout": MinAtarBreakout,
    "tabular": random_mdp,
}


def registered() -> tuple[str, ...]:
    """Returns the names that `make` knows, sorted."""
    return tuple(sorted(_REGISTRY))


def make(name: str, /, **options: Any) -> Environment:
    """Makes an environment by its name.

    Args:
        name: a registered name, `atari:GAME` for a game of ALE, `gym:ID` for a deterministic Gymnasium environment, or
            `module:attribute` for your own class or a function that returns an environment.
        **options: passed on to the environment.

    Raises:
        UsageError: if nothing has that name, it does not take those options or fails, or what it returns is no
            environment or breaks a rule of `check_env`.
    """
    if not isinstance(name, str):
        raise UsageError(f"an environment is made by its name, not of {kind_of(name)}{of_gymnasium(name)}")
    factory = _factory(name)
    _refuse_bad_options(name, factory, options)
    made = _made(name, factory, options)
    _refuse_no_environment(name, made)
    if ":" in name and not name.startswith((GYM, ATARI)):  # those two are tested where they are wrapped
        _refuse_broken(name, factory, options)
        _PASSED.add(made)
    return made


def refuse_unsound(environment: Environment) -> None:
    """Tests an environment that was given as an object, once; skips those of this package and those from `make`.

    Raises:
        UsageError: if it is no environment, or breaks a rule of `check_env` on a short walk; the message names it.
    """
    if is_ours(environment) or environment in _PASSED:
        return
    _refuse_no_environment(type(environment).__name__, environment)
    refuse_broken(environment, name=environment.spec.name)
    _PASSED.add(environment)


def _refuse_broken(name: str, factory: Callable[..., Environment], options: dict[str, Any]) -> None:
    """Tests a copy, so that the environment itself stays unused; once per process, since every checkpoint makes one."""
    try:
        keys = {(name, factory, json.dumps(options, sort_keys=True))}
    except (TypeError, ValueError):  # options that JSON cannot hold, or a factory that cannot be hashed
        keys = set()
    if not keys or keys - _SOUND:
        refuse_broken(_made(name, factory, options), name=name)
        _SOUND.update(keys)


def _made(name: str, factory: Callable[..., Environment], options: dict[str, Any]) -> Environment:
    """Calls a factory, and says with which options it failed."""
    try:
        return factory(**options)
    except (MemoryError, MzprobeError):
        raise
    except Exception as error:
        if not options and ":" not in name:
            raise
        given = ", ".join(f"{option}={value!r}" for option, value in options.items()) or "its defaults"
        said = error if isinstance(error, TypeError | ValueError) else raised(error)
        raise UsageError(f"environment '{name}' cannot be made with {given}: {said}") from error


def _refuse_no_environment(name: str, made: Any) -> None:
    """Refuses what a factory returned if it lacks a part of the protocol; takes no step."""
    lacking = [part for part in ("spec", "reset", "step", "observe", "terminal") if not hasattr(made, part)]
    if not lacking and isinstance(made.spec, EnvironmentSpec):
        return
    lacks = f"it lacks {', '.join(lacking)}" if lacking else f"its spec is {kind_of(made.spec)}, not an EnvironmentSpec"
    remedy = of_gymnasium(made) or ": mend its factory and try what it gives with mzprobe.check_env"
    if isinstance(made, str):
        remedy = f": give mzprobe.make({made!r})"
    raise UsageError(
        f"environment '{name}' gave {kind_of(made)}, which does not keep the protocol mzprobe.Environment "
        f"({lacks}){remedy}"
    )


def _factory(name: str) -> Callable[..., Environment]:
    if name.startswith(GYM):
        from mzprobe.envs.gym import gym_environment  # imports Gymnasium, which other environments do not need

        return partial(gym_environment, name.removeprefix(GYM))
    if name.startswith(ATARI):
        from mzprobe.envs.atari import atari_environment  # compiles kernels, which other environments do not need

        return partial(atari_environment, name.removeprefix(ATARI))
    return load_attribute(name) if ":" in name else _known(name)


def _known(name: str) -> Callable[..., Environment]:
    if name not in _REGISTRY:
        known = ", ".join(registered())
        own = "Gymnasium's is named 'gym:ID', ALE's 'atari:GAME', your own 'module:attribute'"
        raise UsageError(f"no environment '{name}'{nearest(name, registered())}; known are {known}; {own}")
    return _REGISTRY[name]


def _refuse_bad_options(name: str, factory: Callable[..., Environment], options: dict[str, Any]) -> None:
    """Refuses options that do not fit the signature of the factory.

    A TypeError would not say which option is wrong, and any text would count as true.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have no signature
        return
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for option in options:
            if option not in named:
                known = ", ".join(sorted(named)) or "none"
                hint = nearest(option, tuple(named))
                raise UsageError(f"environment '{name}' has no option '{option}'{hint}; it takes {known}")
    for p in parameters:
        if p.name in named and p.default is p.empty and p.name not in options:
            raise UsageError(f"environment '{name}' needs the option '{p.name}'")
        kinds = {bool: (bool,), bool | None: (bool, NoneType)}.get(p.annotation)
        if kinds and p.name in options and not isinstance(options[p.name], kinds):
            raise UsageError(f"environment '{name}' takes true or false for '{p.name}', not {options[p.name]!r}")
