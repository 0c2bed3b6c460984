"""Residual network of muzero-general, for planes; formulas are those of its `models.py`.

Latents are scaled to [0, 1] in each plane, and an action is encoded as a plane of a / A. A file with `downsample_net`
also holds a convolution and a norm that are not used.
"""

from torch import Tensor, nn

from mzprobe.networks.composed import Composed
from mzprobe.networks.core import ROWS_OF_IMAGES
from mzprobe.networks.fully_connected import LatentScale
from mzprobe.sources.layers import Block, Layers, activated, chained, pooling

MARK = "dynamics_network.module.conv"  # name among the weights of such a network
_REPRESENTATION = "representation_network.module"
_DYNAMICS, _PREDICTION = "dynamics_network.module", "prediction_network.module"


def residual(layers: Layers) -> Composed:
    """Builds a `MuZeroResidualNetwork`."""
    A = layers.width(f"{_PREDICTION}.fc_policy")
    return Composed(
        representation=_representation(layers),
        dynamics=layers.convolution(MARK, f"{_DYNAMICS}.bn"),
        reward=_head(layers, f"{_DYNAMICS}.conv1x1_reward", f"{_DYNAMICS}.fc"),
        trunk=chained(_blocks(layers, f"{_PREDICTION}.resblocks")),
        policy=_head(layers, f"{_PREDICTION}.conv1x1_policy", f"{_PREDICTION}.fc_policy"),
        value=_head(layers, f"{_PREDICTION}.conv1x1_value", f"{_PREDICTION}.fc_value"),
        support=layers.support(f"{_DYNAMICS}.fc", f"{_PREDICTION}.fc_value"),
        num_actions=A,
        encoding="share",
        following=chained(activated("relu"), _blocks(layers, f"{_DYNAMICS}.resblocks")),
        scale=PlaneScale(LatentScale(epsilon=1e-5, always=False)),
        cpu_batch_size=ROWS_OF_IMAGES,
    )


class PlaneScale(nn.Module):
    """Scales each plane by itself, with a scale of vectors."""

    def __init__(self, scale: LatentScale) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, latents: Tensor) -> Tensor:
        """Scales latents `[B, C, H, W]`."""
        return self.scale(latents.flatten(0, 1).flatten(1)).view_as(latents)


def _representation(layers: Layers) -> nn.Module:
    net, blocks = f"{_REPRESENTATION}.downsample_net", _blocks(layers, f"{_REPRESENTATION}.resblocks")
    if layers.has(f"{net}.features"):
        return chained(_features(layers, f"{net}.features"), blocks)
    if layers.has(net):
        return chained(
            layers.convolution(f"{net}.conv1", stride=2),
            _blocks(layers, f"{net}.resblocks1"),
            layers.convolution(f"{net}.conv2", stride=2),
            _blocks(layers, f"{net}.resblocks2"),
            pooling(),
            _blocks(layers, f"{net}.resblocks3"),
            pooling(),
            blocks,
        )
    first = layers.convolution(f"{_REPRESENTATION}.conv", f"{_REPRESENTATION}.bn")
    return chained(first, activated("relu"), blocks)


def _features(layers: Layers, name: str) -> list[nn.Module]:
    """Builds its `CNN`; latent planes are half as high as its kernel, and their width follows from the heads."""
    area = layers.inputs(f"{_PREDICTION}.fc_value.0") // layers.outputs(f"{_PREDICTION}.conv1x1_value")
    height = layers.kernel(f"{name}.0") // 2
    if height == 0 or area == 0 or area % height:
        raise layers.other("has planes that do not fit its networks")
    return [
        layers.convolution(f"{name}.0", stride=4, padding=2, bias=True),
        activated("relu"),
        nn.MaxPool2d(kernel_size=3, stride=2),
        layers.convolution(f"{name}.3", bias=True),
        activated("relu"),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.AdaptiveAvgPool2d((height, area // height)),
    ]


def _blocks(layers: Layers, prefix: str) -> list[nn.Module]:
    names = [f"{prefix}.{place}" for place in range(layers.count(prefix))]
    return [
        Block(layers.convolution(f"{name}.conv1", f"{name}.bn1"), layers.convolution(f"{name}.conv2", f"{name}.bn2"))
        for name in names
    ]


def _head(layers: Layers, reduced: str, perceptron: str) -> nn.Module:
    """Builds a head: planes are reduced by a 1 x 1 convolution and flattened, and a perceptron follows."""
    return chained(layers.convolution(reduced, bias=True), nn.Flatten(), layers.perceptron(perceptron, "elu"))
