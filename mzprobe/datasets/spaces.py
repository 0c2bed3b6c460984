"""Checks the spaces of a dataset against the environment's, and flattens observations as `gym:` does."""

import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.datasets.core import fitting
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import UsageError
from mzprobe.files import sha256
from mzprobe.names import GYM

_LONGEST = 60  # characters of a space in an error message


@dataclass(frozen=True, kw_only=True)
class Spaces:
    """Spaces of a dataset, as objects of Gymnasium."""

    observation: Any
    action: Any
    said: tuple[str, str]  # text of both in the metadata

    @property
    def flattens(self) -> bool:
        """Whether observations are flattened."""
        from gymnasium.spaces import Box

        return not isinstance(self.observation, Box)

    @property
    def plain(self) -> bool:
        """Whether episodes are used exactly as the files hold them: nothing is flattened, and actions begin at 0."""
        return not self.flattens and self.action.start == 0

    def identity(self, digest: str) -> str:
        """Returns the SHA-256 that identifies the episodes, given the digest of the files.

        The spaces are part of it only where they change what is read from the files.
        """
        return digest if self.plain else sha256("\0".join((digest, *self.said)).encode())


def spaces_of(metadata: Mapping[str, Any]) -> Spaces:
    """Returns the spaces in a dataset's metadata.

    The keys of dictionaries keep the order that they have there, since observations are flattened in that order.
    """
    from minari.serialization import deserialize_space

    said = (metadata["observation_space"], metadata["action_space"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns of unusual bounds
        observation, action = (_in_order(deserialize_space(text), json.loads(text)) for text in said)
    return Spaces(observation=observation, action=action, said=said)


def refuse_other_spaces(name: str, spaces: Spaces, spec: EnvironmentSpec) -> None:
    """Checks that the spaces of a dataset are those of the environment.

    For `gym:` environments, observation spaces other than `Box` are flattened, and actions may begin at any number.

    Raises:
        UsageError: if they differ.
    """
    from gymnasium.spaces import Box, Discrete
    from gymnasium.spaces.utils import flatdim

    action, observation, gym = spaces.action, spaces.observation, spec.name.startswith(GYM)
    remedy = f"give a dataset of {spec.name}, or the environment that it was recorded in"
    if not isinstance(action, Discrete) or action.n != spec.num_actions or not (gym or action.start == 0):
        raise UsageError(
            f"dataset {name} has actions {_shortly(action)} where {spec.name} has Discrete({spec.num_actions}): "
            f"{remedy}"
        )
    if isinstance(observation, Box):
        kind, shape = f"Box{observation.shape}", observation.shape
    elif gym and observation.is_np_flattenable:
        size = flatdim(observation)
        kind, shape = f"{_shortly(observation)}, flattened Box({size},)", (size,)
    else:
        kind, shape = type(observation).__name__, None
    if shape != spec.observation_shape:
        raise UsageError(
            f"dataset {name} has observations {kind} where {spec.name} has Box{spec.observation_shape}: {remedy}"
        )


def flattened(space: Any, values: Any, rows: int, name: str = "observations") -> NDArray[Any]:
    """Returns observations flattened one by one as by `gymnasium.spaces.utils.flatten`, `[rows, entries]`.

    Args:
        space: space of one observation.
        values: arrays over all rows, in dictionaries or tuples as the space is; a list of strings for `Text`.
        rows: number of rows that there must be.
        name: name of the values, for errors.

    Raises:
        ValueError: if they do not fit the space; the message is worded to follow "episode 3".
    """
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

    if isinstance(space, (Dict, Tuple)):
        parts = [flattened(sub, values[key], rows, f"{name}/{key}") for key, sub in parts_of(space)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0))
    if isinstance(space, (Box, MultiBinary)):
        return fitting(name, values, "fiub", (rows, *space.shape)).reshape(rows, -1)
    if isinstance(space, Discrete):
        return _one_hot(fitting(name, values, "iu", (rows,)), int(space.start), int(space.n), name)
    if isinstance(space, MultiDiscrete):
        found = fitting(name, values, "iu", (rows, *space.nvec.shape)).reshape(rows, -1)
        starts, sizes = space.start.ravel().tolist(), space.nvec.ravel().tolist()
        parts = [_one_hot(found[:, i], starts[i], sizes[i], name) for i in range(len(sizes))]
        return np.concatenate(parts, axis=1)
    if isinstance(space, Text):
        return _characters(space, values, rows, name)
    raise ValueError(f"has {name} of {type(space).__name__}, which cannot be flattened")


def parts_of(space: Any) -> list[tuple[Any, Any]]:
    """Returns the parts of a nested space in order, each as its key or index and its space."""
    inside = space.spaces
    return list(inside.items()) if isinstance(inside, dict) else list(enumerate(inside))


def _one_hot(values: NDArray[Any], start: int, n: int, name: str) -> NDArray[np.uint8]:
    if values.min() < start or values.max() >= start + n:
        raise ValueError(f"has {name} outside {start}..{start + n - 1}")
    rows = np.zeros((len(values), n), np.uint8)
    rows[np.arange(len(values)), values.astype(np.int64) - start] = 1
    return rows


def _characters(space: Any, values: Any, rows: int, name: str) -> NDArray[Any]:
    from gymnasium.spaces.utils import flatten

    if len(values) != rows:
        raise ValueError(f"has {len(values)} {name}, not {rows}")
    if not all(space.contains(value) for value in values):
        raise ValueError(f"has {name} that are not of {_shortly(space)}")
    return np.array([flatten(space, value) for value in values])


def _in_order(space: Any, said: Mapping[str, Any]) -> Any:
    """Returns a space whose dictionaries keep the order of keys in `said`; Gymnasium sorts the keys of plain ones."""
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict):
        inside = said["subspaces"]
        return Dict(OrderedDict((key, _in_order(space.spaces[key], inside[key])) for key in inside))
    if isinstance(space, Tuple):
        return Tuple([_in_order(sub, inside) for sub, inside in zip(space.spaces, said["subspaces"], strict=True)])
    return space


def _shortly(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
