"""One seed, many independent generators: each named role has its own stream."""

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
    """The seed sequence of a role of an agent; further keys branch it (an episode, a state)."""
    return np.random.SeedSequence(seed, spawn_key=(ROLES.index(role), *keys))


def numpy_generator(seed: int, role: str, *keys: int) -> np.random.Generator:
    """A numpy generator for a role."""
    return np.random.Generator(np.random.PCG64(sequence(seed, role, *keys)))


def torch_generator(seed: int, role: str) -> "torch.Generator":
    """A torch generator for a role (initial weights)."""
    import torch  # who draws no weights does without

    return torch.Generator().manual_seed(torch_seed(seed, role))


def torch_seed(seed: int, role: str, *keys: int) -> int:
    """What seeds a torch generator for a role."""
    return int(sequence(seed, role, *keys).generate_state(1, np.uint64)[0]) >> 1
