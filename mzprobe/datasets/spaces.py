"""The spaces that a dataset says it has, against the environment's; and observations flattened as `gym:` flattens."""

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

_LONGEST = 60  # characters of a space in a sentence


@dataclass(frozen=True, kw_only=True)
class Spaces:
    """Gymnasium's spaces of a dataset."""

    observation: Any
    action: Any
    said: tuple[str, str]  # as the metadata have the two

    @property
    def flattens(self) -> bool:
        """Whether observations are flattened."""
        from gymnasium.spaces import Box

        return not isinstance(self.observation, Box)

    @property
    def plain(self) -> bool:
        """Whether episodes are what the files hold: nothing is flattened, and actions begin at 0."""
        return not self.flattens and self.action.start == 0

    def identity(self, digest: str) -> str:
        """The SHA-256 of the episodes, given that of the files: the spaces count where they decide what is seen."""
        return digest if self.plain else sha256("\0".join((digest, *self.said)).encode())


def spaces_of(metadata: Mapping[str, Any]) -> Spaces:
    """The spaces in a dataset's metadata, the keys of dictionaries in their order there: so they are flattened."""
    from minari.serialization import deserialize_space

    said = (metadata["observation_space"], metadata["action_space"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's opinions on bounds
        observation, action = (_in_order(deserialize_space(text), json.loads(text)) for text in said)
    return Spaces(observation=observation, action=action, said=said)


def refuse_other_spaces(name: str, spaces: Spaces, spec: EnvironmentSpec) -> None:
    """Compares the spaces that a dataset says it has with the environment's.

    Those of `gym:` environments are flattened where they are no `Box`, and their actions may begin at any number.

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
    """Observations of a space as `gymnasium.spaces.utils.flatten` gives them one by one, `[rows, entries]`.

    Args:
        space: of one observation.
        values: arrays over all rows; in a dictionary or tuple, or a list of strings, where the space is such.
        rows: how many there must be.
        name: of the values, in errors.

    Raises:
        ValueError: saying what does not fit the space, to follow "episode 3".
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
    """Names or numbers of what a nested space is made of, each with its space, in order."""
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
    """A space whose dictionaries have their keys as they are said; Gymnasium sorts those that it is given."""
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
