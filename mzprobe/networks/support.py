"""Scalars and categorical distributions: the value transform, the two-hot support, and their inverses.

Equations: h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x (Pohlen et al. 2018, Prop. A.2; MuZero, appendix F).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 0.001


def transform(x: Tensor) -> Tensor:
    """Applies h, which compresses returns: any shape, environment units -> transformed units."""
    return torch.sign(x) * (torch.sqrt(torch.abs(x) + 1) - 1) + EPSILON * x


def inverse_transform(y: Tensor) -> Tensor:
    """Applies the inverse of `transform`, in the form that does not cancel near 0.

    With q = sqrt(|x| + 1) - 1, |h| = q + eps (q^2 + 2 q), a quadratic in q whose positive root is taken.
    """
    size = torch.abs(y)
    linear = 1 + 2 * EPSILON
    q = 2 * size / (linear + torch.sqrt(linear * linear + 4 * EPSILON * size))
    return torch.sign(y) * (q * q + 2 * q)


def symlog(x: Tensor) -> Tensor:
    """Returns sign(x) log(|x| + 1), any shape."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


class Axis(NamedTuple):
    """The numbers of a support, as kernels take them."""

    minimum: float  # transformed units
    centre: float  # transformed units, midway between the outermost atoms
    spacing: float  # transformed units
    reward_scale: float


@dataclass(frozen=True, kw_only=True)
class Support:
    """Evenly spaced atoms in transformed units.

    Scalars are multiplied by `reward_scale` before the transform and divided by it after the inverse, so that all
    scalars outside of the support are in environment units.

    Raises:
        ValueError: if there are fewer than two atoms, the minimum is not below the maximum, or `reward_scale` is not
            above 0.
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
        """Midpoint of the outermost atoms, transformed units; the mean of a uniform distribution."""
        return (self.minimum + self.maximum) / 2

    @property
    def axis(self) -> Axis:
        """The support's numbers, for kernels."""
        return Axis(self.minimum, self.centre, self.spacing, self.reward_scale)

    def points(self, like: Tensor) -> Tensor:
        """Returns the atoms `[atoms]`, on the device and in the precision of `like`."""
        steps = torch.arange(self.atoms, dtype=like.dtype, device=like.device)
        return self.minimum + self.spacing * steps

    def two_hot(self, scalars: Tensor) -> Tensor:
        """Encodes scalars `[...]` in environment units as probabilities `[..., atoms]` whose mean is h(scale * scalar).

        Scalars outside the support are moved to its nearer end.
        """
        inside = self.transformed(scalars * self.reward_scale).clamp(self.minimum, self.maximum)
        place = (inside - self.minimum) / self.spacing
        low = place.floor().clamp(max=self.atoms - 2)
        share = (place - low).unsqueeze(-1)
        index = low.long().clamp(0, self.atoms - 2).unsqueeze(-1)  # a NaN gets a valid index, and stays in the share
        result = torch.zeros(*scalars.shape, self.atoms, dtype=scalars.dtype, device=scalars.device)
        return result.scatter_(-1, index, 1 - share).scatter_(-1, index + 1, share)

    def decode_bias(self, probabilities: Tensor) -> Tensor:
        """Returns how far decoding moves the mean: h^-1 of a distribution's mean minus the mean of h^-1.

        h^-1 is convex where it is positive and concave where it is negative, so that a wide distribution of large
        values is decoded too close to 0.

        Args:
            probabilities: `[B, atoms]`; normalised in float64, and summed in order, so that no bit depends on B.

        Returns:
            `[B]`, float64, environment units.
        """
        p = probabilities.double()
        points = self.points(p)
        total = p.cumsum(dim=1)[:, -1]
        mean = (p * points).cumsum(dim=1)[:, -1] / total
        of_atoms = (p * self.restored(points)).cumsum(dim=1)[:, -1] / total
        return (self.restored(mean) - of_atoms) / self.reward_scale

    def scalar(self, logits: Tensor) -> Tensor:
        """Decodes logits `[..., atoms]` to scalars `[...]` in environment units: h^-1 of the mean, over the scale.

        The mean is taken in pairs of atoms around the centre, sum of d (p_{c + d} - p_{c - d}), in which symmetric
        parts cancel: a head that knows nothing returns exactly the centre (0 for a symmetric support), not a rounding
        error that a search takes for a value. It is taken in float32 at least, whatever the network runs in.
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
        """Converts transformed numbers `[...]` to scalars `[...]` in environment units."""
        return self.restored(transformed) / self.reward_scale

    def transformed(self, scaled: Tensor) -> Tensor:
        """Applies h to scaled numbers `[...]`; returns transformed units."""
        return transform(scaled)

    def restored(self, transformed: Tensor) -> Tensor:
        """Applies h^-1 to transformed numbers `[...]`; returns scaled ones."""
        return inverse_transform(transformed)


@dataclass(frozen=True, kw_only=True)
class SymlogSupport(Support):
    """Atoms in the units of symlog, which replaces h (Hafner et al. 2023, Eq. 9 and 10)."""

    def transformed(self, scaled: Tensor) -> Tensor:
        """See `Support.transformed`."""
        return symlog(scaled)

    def restored(self, transformed: Tensor) -> Tensor:
        """See `Support.restored`."""
        return torch.sign(transformed) * torch.expm1(torch.abs(transformed))
