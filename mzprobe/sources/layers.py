"""Builds torch modules from the named arrays in a file; they compute as the file's own do in evaluation mode."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mzprobe.errors import CheckpointError
from mzprobe.networks.support import Support
from mzprobe.sources.foreign import layer_names

_EPSILON = 1e-5  # default of torch's norms, which no source here changes
Activation = Literal["relu", "elu", "gelu"]


class Layers:
    """Layers of the network in a file.

    Args:
        weights: arrays by name.
        source: the file, for errors.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]], source: object) -> None:
        self.weights, self.source = dict(weights), source

    def has(self, name: str) -> bool:
        """Whether there is a module of that name."""
        return any(key.startswith(f"{name}.") for key in self.weights)

    def linear(self, name: str, norm: str | None = None) -> nn.Module:
        """Returns a linear layer, followed by the norm that is named, if any."""
        weight = self._weight(name, dimensions=2)
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # on meta, no random numbers are drawn
        return self._filled(layer, name, norm, bias=True)

    def convolution(
        self,
        name: str,
        norm: str | None = None,
        *,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> nn.Module:
        """Returns a convolution of planes, followed by the norm that is named, if any.

        The default padding keeps the size of the planes but for the stride.
        """
        weight = self._weight(name, dimensions=4)
        outputs, inputs, height, width = weight.shape
        around = (height // 2, width // 2) if padding is None else padding
        layer = nn.Conv2d(inputs, outputs, (height, width), stride=stride, padding=around, device="meta")
        return self._filled(layer, name, norm, bias=bias)

    def perceptron(
        self, prefix: str, activation: Activation, *, ends: Literal["plain", "active"] = "plain"
    ) -> nn.Module:
        """Returns the linear layers of a `Sequential`, each but the last followed by its norm and the activation.

        Args:
            prefix: prefix of their names.
            activation: activation between them.
            ends: whether the last one is also followed by its norm and the activation (`active`).

        Raises:
            CheckpointError: if there is none, one does not fit the one before it, or a norm is where none should be.
        """
        norms = self._normed(prefix, ends)
        parts: list[nn.Module] = []
        for layer, (name, norm) in enumerate(norms.items(), start=1):
            parts.append(self.linear(name, norm))
            if layer < len(norms) or ends == "active":
                parts.append(activated(activation))
        return nn.Sequential(*parts)

    def outputs(self, name: str) -> int:
        """Returns the number of entries or planes that a layer outputs."""
        return self._sizes(name)[0]

    def inputs(self, name: str) -> int:
        """Returns the number of entries or planes that a layer reads."""
        return self._sizes(name)[1]

    def kernel(self, name: str) -> int:
        """Returns the height of a convolution's kernel."""
        return self._sizes(name)[2]

    def width(self, prefix: str) -> int:
        """Returns the number of outputs of the last linear layer of a `Sequential`."""
        found = [self.weights[f"{name}.weight"] for name in layer_names(self.weights, prefix)]
        wide = [weight.shape[0] for weight in found if weight.ndim == 2]
        if not wide:
            raise self.other(f"has no linear layers {prefix}")
        return int(wide[-1])

    def count(self, prefix: str) -> int:
        """Returns the number of modules in a `ModuleList`."""
        return len(self._numbered(prefix))

    def support(self, *heads: str) -> Support:
        """Returns the support of all scalar heads: whole numbers around 0.

        Raises:
            CheckpointError: if the heads have no such support, or not the same.
        """
        atoms = {self.width(head) for head in heads}
        if len(atoms) != 1 or min(atoms) < 3 or min(atoms) % 2 == 0:
            raise self.other("has heads without one support around 0")
        (count,) = atoms
        return Support(minimum=-(count // 2), maximum=count // 2, atoms=count)

    def norm(self, name: str, *, planes: bool) -> nn.Module:
        """Returns a norm over all numbers of a row; with `planes`, scale and shift may be one number per plane."""
        weight, bias = self._array(f"{name}.weight"), self._array(f"{name}.bias")
        if weight.shape != bias.shape:
            raise self.other(f"has no norm {name}")
        over: nn.Module
        if planes and weight.ndim == 1:
            over = nn.GroupNorm(1, len(weight), eps=_EPSILON, device="meta")
        else:
            over = nn.LayerNorm(weight.shape, eps=_EPSILON, device="meta")
        over.weight, over.bias = _parameter(weight), _parameter(bias)
        return over

    def other(self, what: str) -> CheckpointError:
        """Returns the error for weights that belong to another network."""
        return CheckpointError(f"{self.source} {what}: it is of another network than this source's")

    def _filled(self, layer: nn.Linear | nn.Conv2d, name: str, norm: str | None, *, bias: bool) -> nn.Module:
        """Fills a layer with its numbers; a batch norm is affine in evaluation mode, and is merged into the layer."""
        weight = self._array(f"{name}.weight")
        added = self._array(f"{name}.bias") if bias else np.zeros(len(weight))
        if added.shape != weight.shape[:1]:
            raise self.other(f"has no layer {name}")
        if norm is None or not any(f"{norm}.running_{part}" in self.weights for part in ("mean", "var")):
            layer.weight, layer.bias = _parameter(weight), _parameter(added)
            return layer if norm is None else nn.Sequential(layer, self.norm(norm, planes=weight.ndim == 4))
        scale, shift, mean, variance = (
            self._array(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")
        )
        if any(part.shape != added.shape for part in (scale, shift, mean, variance)) or variance.min() < 0:
            raise self.other(f"has no batch norm {norm}")
        factor = scale / np.sqrt(variance + _EPSILON)
        layer.weight = _parameter(weight * factor.reshape(-1, *(1 for _ in weight.shape[1:])))
        layer.bias = _parameter((added - mean) * factor + shift)
        return layer

    def _normed(self, prefix: str, ends: Literal["plain", "active"]) -> dict[str, str | None]:
        """Returns the names of a `Sequential`'s linear layers in order, each with its norm's name, or None."""
        names = layer_names(self.weights, prefix)
        linear = [name for name in names if self.weights[f"{name}.weight"].ndim == 2]
        if not linear or linear[0] != f"{prefix}.0":
            raise self.other(f"has no linear layers {prefix}")
        norms: dict[str, str | None] = dict.fromkeys(linear)
        norms.update({name: norm for name, norm in pairwise(names) if name in norms and norm not in norms})
        if self._numbered(prefix) != {*linear, *norms.values()} - {None}:
            raise self.other(f"lacks parts of {prefix}")
        if any(self.inputs(after) != self.outputs(name) for name, after in pairwise(linear)):
            raise self.other(f"has layers {prefix} that do not fit each other")
        *inner, last = (norm is not None for norm in norms.values())
        if len({*inner}) > 1 or last != (ends == "active" and (inner[0] if inner else last)):
            raise self.other(f"has norms elsewhere in {prefix}")
        return norms

    def _numbered(self, prefix: str) -> set[str]:
        """Returns the names of the modules in a `Sequential` or a `ModuleList` that have an array."""
        following = (name.removeprefix(f"{prefix}.") for name in self.weights if name.startswith(f"{prefix}."))
        numbers = {rest.partition(".")[0] for rest in following}
        return {f"{prefix}.{number}" for number in numbers if number.isdecimal()}

    def _sizes(self, name: str) -> tuple[int, int, int]:
        """Returns outputs, inputs and kernel height of a layer; the height is 1 if it has no kernel."""
        shape = self._array(f"{name}.weight").shape
        if len(shape) not in (2, 4) or 0 in shape:
            raise self.other(f"has no layer {name}")
        return shape[0], shape[1], (*shape, 1)[2]

    def _weight(self, name: str, *, dimensions: int) -> NDArray[np.float64]:
        weight = self._array(f"{name}.weight")
        if weight.ndim != dimensions or 0 in weight.shape:
            raise self.other(f"has no layer {name}")
        return weight

    def _array(self, name: str) -> NDArray[np.float64]:
        if name not in self.weights:
            raise self.other(f"has no {name}")
        return self.weights[name].astype(np.float64)


class Block(nn.Module):
    """Residual block: relu(second(relu(first(x))) + shortcut(x)); norms are part of `first` and `second`."""

    def __init__(self, first: nn.Module, second: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Maps planes `[B, C, H, W]` to planes."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def activated(activation: Activation) -> nn.Module:
    """Returns the module of an activation."""
    made: dict[str, nn.Module] = {"relu": nn.ReLU(), "elu": nn.ELU(), "gelu": nn.GELU(approximate="tanh")}
    return made[activation]


def chained(*parts: nn.Module | Iterable[nn.Module]) -> nn.Sequential:
    """Chains modules into a `Sequential`; lists of modules are flattened."""
    flat: list[nn.Module] = []
    for part in parts:
        flat.extend([part] if isinstance(part, nn.Module) else part)
    return nn.Sequential(*flat)


def pooling() -> nn.Module:
    """Returns the pooling that halves the height and width of planes."""
    return nn.AvgPool2d(kernel_size=3, stride=2, padding=1)


def _parameter(array: NDArray[np.float64]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(array.astype(np.float32)))
