"""The truth side: environments whose states are values, and how to make one by name."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from mzprobe._plugins import load_attribute, nearest
from mzprobe.envs.cartpole import CartPole
from mzprobe.envs.check import check_env
from mzprobe.envs.core import Environment, EnvironmentSpec, Outcome, States, concatenate
from mzprobe.envs.lunarlander import LunarLander
from mzprobe.envs.tabular import TabularEnvironment, random_mdp
from mzprobe.errors import UsageError

__all__ = [
    "CartPole",
    "Environment",
    "EnvironmentSpec",
    "LunarLander",
    "Outcome",
    "States",
    "TabularEnvironment",
    "check_env",
    "concatenate",
    "make",
    "random_mdp",
    "registered",
]

_REGISTRY: dict[str, Callable[..., Environment]] = {
    "cartpole": CartPole,
    "lunarlander": LunarLander,
    "tabular": random_mdp,
}


def registered() -> tuple[str, ...]:
    """Names that `make` knows, sorted."""
    return tuple(sorted(_REGISTRY))


def make(name: str, **options: Any) -> Environment:
    """Makes an environment.

    Args:
        name: a registered name, `gym:ID` of a deterministic Gymnasium environment, or `module:attribute` of a class or
            function of your own that returns one.
        **options: passed on to it.

    Raises:
        UsageError: if nothing has that name, or it does not take those options.
    """
    factory = _factory(name)
    _refuse_bad_options(name, factory, options)
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        if not options:
            raise
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise UsageError(f"environment '{name}' cannot be made with {given}: {error}") from error


def _factory(name: str) -> Callable[..., Environment]:
    if name.startswith("gym:"):
        from mzprobe.envs.gym import gym_environment  # imports Gymnasium, which others do without

        return partial(gym_environment, name.removeprefix("gym:"))
    return load_attribute(name) if ":" in name else _known(name)


def _known(name: str) -> Callable[..., Environment]:
    if name not in _REGISTRY:
        known = ", ".join(registered())
        own = "Gymnasium's is named 'gym:ID', your own 'module:attribute'"
        raise UsageError(f"no environment '{name}'{nearest(name, registered())}; known are {known}; {own}")
    return _REGISTRY[name]


def _refuse_bad_options(name: str, factory: Callable[..., Environment], options: dict[str, Any]) -> None:
    """Compares option names with the signature: a TypeError would not say which one was wrong."""
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
