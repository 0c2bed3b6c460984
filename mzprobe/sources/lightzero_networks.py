"""Networks of LightZero: `MuZeroModelMLP` for vectors, `MuZeroModel` for images.

Formulas are those of its `lzero/model`. Latents are not scaled after the dynamics, the reward is read from the next
latent, and both heads of the prediction share a trunk.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from mzprobe.networks.composed import Composed
from mzprobe.networks.core import ROWS_OF_IMAGES, ActionEncoding
from mzprobe.sources.layers import Block, Layers, activated, chained, pooling

Encoder = Literal["simplex", "plain"]
VECTORS, IMAGES = "representation_network.fc_representation.0", "prediction_network.conv1x1_value"
NORMED = "representation_network.norm"  # of vectors, after version 0.2.0
_PREDICTION = "prediction_network"
_GROUP = 8  # entries of a simplex
_AREA = 64  # of latent planes that are pooled once, as from images of 64 x 64


class Simplices(nn.Module):
    """Softmax of each group of eight entries."""

    def forward(self, latents: Tensor) -> Tensor:
        """Maps latents `[B, L]` to latents of the same shape."""
        return torch.softmax(latents.view(len(latents), -1, _GROUP), dim=2).flatten(1)


def of_vectors(layers: Layers, *, encoder: Encoder) -> Composed:
    """Builds a `MuZeroModelMLP`.

    Args:
        layers: layers of the file.
        encoder: what follows the representation if the file has no norm for it: `simplex` as in 0.1 and 0.2, whose
            representation has a GELU, or `plain` for nothing as in older versions, with a ReLU.
    """
    residual, normed = layers.has("dynamics_network.fc_dynamics_1"), layers.has(NORMED)
    step = "dynamics_network.fc_dynamics" + ("_1" if residual else "")
    latent, A = layers.width(step), layers.width(f"{_PREDICTION}.fc_policy_head")
    _refuse_other_latents(layers, latent, residual=residual, simplices=encoder == "simplex" and not normed)
    end: list[nn.Module] = [Simplices()] if encoder == "simplex" else []
    if normed:
        end = [layers.norm(NORMED, planes=False)]
    represent = layers.perceptron("representation_network.fc_representation", "relu" if encoder == "plain" else "gelu")
    reward = layers.perceptron("dynamics_network.fc_reward_head", "relu")
    if residual:
        reward = chained(layers.perceptron("dynamics_network.fc_dynamics_2", "relu", ends="active"), reward)
    return Composed(
        representation=chained(nn.Flatten(), represent, end),
        dynamics=layers.perceptron(step, "relu", ends="active"),
        reward=reward,
        trunk=layers.perceptron(f"{_PREDICTION}.fc_prediction_common", "relu", ends="active"),
        policy=layers.perceptron(f"{_PREDICTION}.fc_policy_head", "relu"),
        value=layers.perceptron(f"{_PREDICTION}.fc_value_head", "relu"),
        support=layers.support("dynamics_network.fc_reward_head", f"{_PREDICTION}.fc_value_head"),
        num_actions=A,
        encoding=_encoding(layers, layers.inputs(f"{step}.0") - latent, A),
        residual=residual,
    )


def of_images(layers: Layers) -> Composed:
    """Builds a `MuZeroModel`, for planes `[B, C, H, W]` as its environments' wrappers return them."""
    A = layers.width(f"{_PREDICTION}.fc_policy")
    step = "dynamics_network.conv"
    return Composed(
        representation=_representation(layers),
        dynamics=layers.convolution(step, "dynamics_network.norm_common"),
        reward=_head(layers, "dynamics_network", "reward", "fc_reward_head"),
        trunk=chained(_blocks(layers, f"{_PREDICTION}.resblocks")),
        policy=_head(layers, _PREDICTION, "policy", "fc_policy"),
        value=_head(layers, _PREDICTION, "value", "fc_value"),
        support=layers.support("dynamics_network.fc_reward_head", f"{_PREDICTION}.fc_value"),
        num_actions=A,
        encoding=_encoding(layers, layers.inputs(step) - layers.outputs(step), A),
        residual=True,
        following=chained(activated("relu"), _blocks(layers, "dynamics_network.resblocks")),
        cpu_batch_size=ROWS_OF_IMAGES,
    )


def _refuse_other_latents(layers: Layers, latent: int, *, residual: bool, simplices: bool) -> None:
    """Refuses a `MuZeroModelMLP` whose parts do not read and return latents of one width."""
    reading = [f"dynamics_network.{part}" for part in ("fc_reward_head", *(["fc_dynamics_2"] if residual else []))]
    reading += [f"{_PREDICTION}.{part}" for part in ("fc_prediction_common", "fc_value_head", "fc_policy_head")]
    widths = {latent, layers.width("representation_network.fc_representation")}
    widths |= {layers.inputs(f"{part}.0") for part in reading}
    if len(widths) > 1 or (simplices and latent % _GROUP):
        raise layers.other("has latents that do not fit its networks")


def _representation(layers: Layers) -> nn.Module:
    prefix, net = "representation_network", "representation_network.downsample_net"
    blocks = _blocks(layers, f"{prefix}.resblocks")
    if not layers.has(net):
        return chained(layers.convolution(f"{prefix}.conv", f"{prefix}.norm"), activated("relu"), blocks)
    area = layers.inputs(f"{_PREDICTION}.fc_value.0") // layers.outputs(IMAGES)
    return chained(
        layers.convolution(f"{net}.conv1", f"{net}.norm1", stride=2),
        activated("relu"),
        _blocks(layers, f"{net}.resblocks1"),
        _block(layers, f"{net}.downsample_block", stride=2),
        _blocks(layers, f"{net}.resblocks2"),
        pooling(),
        _blocks(layers, f"{net}.resblocks3"),
        [] if area == _AREA else pooling(),
        blocks,
    )


def _blocks(layers: Layers, prefix: str) -> list[nn.Module]:
    return [_block(layers, f"{prefix}.{place}") for place in range(layers.count(prefix))]


def _block(layers: Layers, name: str, *, stride: int = 1) -> Block:
    """Builds a residual block; one that halves planes has a convolution on its shortcut."""
    return Block(
        layers.convolution(f"{name}.conv1.0", f"{name}.conv1.1", stride=stride),
        layers.convolution(f"{name}.conv2.0", f"{name}.conv2.1"),
        layers.convolution(f"{name}.conv3.0", stride=stride) if stride > 1 else None,
    )


def _head(layers: Layers, network: str, what: str, perceptron: str) -> nn.Module:
    """Builds a head: planes are reduced by a 1 x 1 convolution and flattened, and a perceptron follows."""
    reduced = layers.convolution(f"{network}.conv1x1_{what}", f"{network}.norm_{what}", bias=True)
    return chained(reduced, activated("relu"), nn.Flatten(), layers.perceptron(f"{network}.{perceptron}", "relu"))


def _encoding(layers: Layers, entries: int, num_actions: int) -> ActionEncoding:
    if entries not in (1, num_actions):
        raise layers.other("encodes actions in a way of its own")
    return "one_hot" if entries == num_actions else "share"
