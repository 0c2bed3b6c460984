"""Scalars and categorical distributions: the value transform, the two-hot support, and their inverses.

Equations: h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x (Pohlen et al. 2018, Prop. A.2; MuZero, appendix F).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 0.001


def transform(x: Tensor) -> Tensor:
    """h: compresses returns, any shape, environment units -> transformed units."""
    return torch.sign(x) * (torch.sqrt(torch.abs(x) + 1) - 1) + EPSILON * x


def inverse_transform(y: Tensor) -> Tensor:
    """The inverse of `transform`, in the form that does not cancel near 0.

    With q = sqrt(|x| + 1) - 1, |h| = q + eps (q^2 + 2 q), a quadratic in q whose positive root is taken.
    """
    size = torch.abs(y)
    linear = 1 + 2 * EPSILON
    q = 2 * size / (linear + torch.sqrt(linear * linear + 4 * EPSILON * size))
    return torch.sign(y) * (q * q + 2 * q)


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(|x| + 1), any shape."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


class Axis(NamedTuple):
    """A support as kernels take it."""

    minimum: float  # transformed units
    centre: float  # transformed units, half-way between the outermost atoms
    spacing: float  # transformed units
    reward_scale: float


@dataclass(frozen=True, kw_only=True)
class Support:
    """Evenly spaced atoms in transformed units.

    Scalars are multiplied by `reward_scale` before the transform and divided by it after the inverse, so that all
    outside of the support is in environment units.
    """

    minimum: float
    maximum: float
    atoms: int
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.atoms < 2 or not self.minimum < self.maximum or not self.reward_scale > 0:
            raise ValueError(f"a support needs two atoms or more, minimum < maximum and reward_scale > 0, not {self}")

    @property
    def spacing(self) -> float:
        """Distance between neighbouring atoms, transformed units."""
        return (self.maximum - self.minimum) / (self.atoms - 1)

    @property
    def centre(self) -> float:
        """Half-way between the outermost atoms, transformed units; what a uniform distribution means."""
        return (self.minimum + self.maximum) / 2

    @property
    def axis(self) -> Axis:
        """Its numbers, for kernels."""
        return Axis(self.minimum, self.centre, self.spacing, self.reward_scale)

    def points(self, like: Tensor) -> Tensor:
        """The atoms `[atoms]`, on the device and in the precision of `like`."""
        steps = torch.arange(self.atoms, dtype=like.dtype, device=like.device)
        return self.minimum + self.spacing * steps

    def two_hot(self, scalars: Tensor) -> Tensor:
        """Scalars `[...]` in environment units -> probabilities `[..., atoms]` whose mean is h(scale * scalar).

        What lies outside the support is moved to its end.
        """
        inside = self.transformed(scalars * self.reward_scale).clamp(self.minimum, self.maximum)
        place = (inside - self.minimum) / self.spacing
        low = place.floor().clamp(max=self.atoms - 2)
        share = (place - low).unsqueeze(-1)
        index = low.long().clamp(0, self.atoms - 2).unsqueeze(-1)  # a NaN stays inside, and in the share
        result = torch.zeros(*scalars.shape, self.atoms, dtype=scalars.dtype, device=scalars.device)
        return result.scatter_(-1, index, 1 - share).scatter_(-1, index + 1, share)

    def decode_bias(self, probabilities: Tensor) -> Tensor:
        """How far decoding moves the mean: h^-1 of a distribution's mean minus its mean of h^-1, environment units.

        h^-1 is convex where it is positive and concave where it is negative, so that a wide distribution of large
        values comes out too close to 0.

        Args:
            probabilities: `[B, atoms]`; made to sum to 1 in float64, and summed in order, so that no bit depends on B.

        Returns:
            `[B]`, float64.
        """
        p = probabilities.double()
        points = self.points(p)
        total = p.cumsum(dim=1)[:, -1]
        mean = (p * points).cumsum(dim=1)[:, -1] / total
        of_atoms = (p * self.restored(points)).cumsum(dim=1)[:, -1] / total
        return (self.restored(mean) - of_atoms) / self.reward_scale

    def scalar(self, logits: Tensor) -> Tensor:
        """Logits `[..., atoms]` -> scalars `[...]`, environment units: h^-1 of the mean, over the scale.

        The mean is taken in pairs of atoms around the centre, sum of d (p_{c + d} - p_{c - d}): what is symmetric
        cancels exactly, so that a head that says nothing says 0, not a rounding error that a search takes for a value.
        It is taken in float32 at least, whatever the network runs in.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self._scalar(logits.float() if logits.dtype == torch.bfloat16 else logits)

    def _scalar(self, logits: Tensor) -> Tensor:
        probabilities = torch.softmax(logits, dim=-1)
        pairs = self.atoms // 2
        below, above = probabilities[..., :pairs].flip(-1), probabilities[..., self.atoms - pairs :]
        distances = torch.arange(pairs, dtype=logits.dtype, device=logits.device) + (1 + self.atoms % 2) / 2
        mean = self.centre + self.spacing * ((above - below) @ distances)
        return self.decoded(mean)

    def decoded(self, transformed: Tensor) -> Tensor:
        """Transformed numbers `[...]` -> scalars `[...]`, environment units."""
        return self.restored(transformed) / self.reward_scale

    def transformed(self, scaled: Tensor) -> Tensor:
        """h: scaled numbers `[...]` -> transformed units."""
        return transform(scaled)

    def restored(self, transformed: Tensor) -> Tensor:
        """h^-1: transformed numbers `[...]` -> scaled ones."""
        return inverse_transform(transformed)


@dataclass(frozen=True, kw_only=True)
class SymlogSupport(Support):
    """Atoms in the units of symlog, which stands in the place of h (Hafner et al. 2023, Eq. 9 and 10)."""

    def transformed(self, scaled: Tensor) -> Tensor:
        """As in `Support`."""
        return symlog(scaled)

    def restored(self, transformed: Tensor) -> Tensor:
        """As in `Support`."""
        return torch.sign(transformed) * torch.expm1(torch.abs(transformed))
