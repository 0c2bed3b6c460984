"""Verifies an adapter: what it recognises, what its network computes, and how its agent plays."""

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.errors import UsageError
from mzprobe.files import read_bytes
from mzprobe.networks.engine import Engine, engine_for
from mzprobe.sources import sources
from mzprobe.sources.core import Source
from mzprobe.sources.returns import Returns

TOLERANCE = 1e-5  # largest accepted difference, as a share of the largest number of its kind
INPUTS = ("observations", "actions")  # [B, *shape] and [B]
NUMBERS = ("latents", "following", "reward", "policy", "value")  # results of an original's own code; policy in logits
_REMEDY = "write one with numpy.savez(path, observations=..., actions=..., value=..., ...)"


class Finding(NamedTuple):
    """Result of one check."""

    kept: bool
    said: str


def recognised(path: Path, source: Source) -> Finding:
    """Checks that a source recognises its own file, and that no other source does."""
    if not source.recognises(path):
        return Finding(False, f"{source.name} does not recognise {path}")
    others = [one.name for one in sources().values() if one.name != source.name and one.recognises(path)]
    if others:
        return Finding(False, f"{path} is recognised by {source.name}, and by {', '.join(others)} too")
    return Finding(True, f"{path} is recognised by {source.name} alone")


def differences(engine: Engine, numbers: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Returns how far a network is from its own code: the largest difference for each of `NUMBERS` that is known.

    It is relative to the largest number of its kind, or absolute if all of them are 0. It is infinite if shapes differ.

    Args:
        engine: engine that runs the network.
        numbers: `INPUTS`, and the known ones of `NUMBERS`: latents `[B, ...]`, and `following` for those after the
            actions, of both of which the first entries are enough; rewards and values `[B]` in environment units;
            policy logits `[B, A]`.
    """
    latents = engine.represent(numbers["observations"])
    following, reward = engine.dynamics(latents, numbers["actions"])
    policy, value = engine.predict(latents)
    said = dict(zip(NUMBERS, (latents, following, reward, policy, value), strict=True))
    found = {}
    for name in (name for name in NUMBERS if name in numbers):
        wanted = numbers[name].astype(np.float64).reshape(len(numbers["actions"]), -1)
        wanted = _softmax(wanted) if name == "policy" else wanted
        own = said[name].cpu().numpy().astype(np.float64).reshape(len(wanted), -1)[:, : wanted.shape[1]]
        fits = own.shape == wanted.shape
        largest = np.abs(wanted).max() or 1.0  # an absolute difference if all are 0
        found[name] = float(np.abs(own - wanted).max() / largest) if fits else math.inf
    return found


def compared(agent: Agent, numbers: Mapping[str, NDArray[Any]]) -> Iterator[Finding]:
    """Checks that an agent's network computes what its own code does, to `TOLERANCE`."""
    with agent.compute.limited():
        found = differences(engine_for(agent.network, agent.compute), numbers)
    for name, worst in found.items():
        yield Finding(worst <= TOLERANCE, f"{name} differ by {worst:.1e} of the largest at most")


def played(returns: Returns) -> Finding:
    """Checks that an agent does not play like chance."""
    mean, chance = returns.agent.mean(), returns.chance.mean()
    return Finding(not returns.plays_like_chance, f"returns {mean:.4g} where chance returns {chance:.4g}")


def read_numbers(path: Path, agent: Agent) -> dict[str, NDArray[Any]]:
    """Reads what an original's own code computes, from a file of arrays that `numpy.savez` wrote.

    Raises:
        UsageError: if it is no such file, or its arrays are not those of such an agent.
    """
    data, spec = read_bytes(path, error=UsageError, remedy=_REMEDY), agent.environment.spec
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            numbers = {name: np.asarray(file[name]) for name in (*INPUTS, *NUMBERS) if name in file.files}
            unknown = sorted({*file.files} - {*INPUTS, *NUMBERS})
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile):
        raise UsageError(f"{path} holds no arrays: {_REMEDY}") from None
    for name in unknown:
        for meant in get_close_matches(
            name, [one for one in (*INPUTS, *NUMBERS) if one not in numbers], n=1, cutoff=0.8
        ):
            raise UsageError(f"{path} has {name}, which is compared with nothing: call it {meant}")
    missing = [name for name in INPUTS if name not in numbers]
    if missing or len(numbers) == len(INPUTS):
        raise UsageError(f"{path} lacks {', '.join(missing) or 'all of ' + ', '.join(NUMBERS)}: {_REMEDY}")
    observations, actions = (numbers[name] for name in INPUTS)
    B = len(actions) if actions.ndim == 1 else 0
    fits = B and observations.shape == (B, *spec.observation_shape) and actions.dtype.kind in "iu"
    if not fits or actions.min() < 0 or actions.max() >= spec.num_actions:
        raise UsageError(
            f"{path} must hold observations [B, {', '.join(map(str, spec.observation_shape))}] and actions [B] below "
            f"{spec.num_actions}, of integers"
        )
    for name, array in numbers.items():
        if (
            len(np.atleast_1d(array)) != B
            or array.dtype.kind not in ("biuf" if name == "observations" else "iuf")
            or not np.isfinite(array).all()
        ):
            raise UsageError(f"{path} must hold {name} as {B} rows of finite numbers")
    return numbers | {"observations": observations.astype(spec.observation_dtype), "actions": actions.astype(np.int64)}


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
