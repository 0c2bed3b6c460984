"""Independent random generators from one seed: each named role has its own stream."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ROLES = (
    "network",
    "play",
    "replay",
    "evaluation",
    "probe",
    "claims",
    "dataset",
    "reanalyse",
    "collect",
    "audit",
    "watch",
    "report",
    "learn",
)


def sequence(seed: int, role: str, *keys: int) -> np.random.SeedSequence:
    """Returns the seed sequence of an agent's role; each tuple of keys (an episode, a state) has its own branch."""
    return np.random.SeedSequence(seed, spawn_key=(ROLES.index(role), *keys))


def numpy_generator(seed: int, role: str, *keys: int) -> np.random.Generator:
    """Returns a numpy generator for a role; arguments as in `sequence`."""
    return np.random.Generator(np.random.PCG64(sequence(seed, role, *keys)))


def torch_generator(seed: int, role: str) -> "torch.Generator":
    """Returns a torch generator for a role, such as for initial weights."""
    import torch  # slow to import, and needed only here

    return torch.Generator().manual_seed(torch_seed(seed, role))


def torch_seed(seed: int, role: str, *keys: int) -> int:
    """Returns the seed of a torch generator for a role; arguments as in `sequence`."""
    return int(sequence(seed, role, *keys).generate_state(1, np.uint64)[0]) >> 1
