"""A residual network for images: EfficientZero's (Ye et al. 2021, appendix A.1), see docs/networks.md."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mzprobe.networks.core import MINMAX_EPSILON, ROWS_OF_IMAGES, ActionEncoding, TrainableNetwork, with_actions
from mzprobe.networks.support import Support

Layout = Literal["last", "first"]

_HALVINGS = 4  # halvings of height and width, if an image is downsampled


class ResNet(TrainableNetwork):
    """Representation, dynamics and prediction by residual blocks; latents are planes `[B, C, H, W]`.

    Each plane of a latent is min-max scaled to [0, 1]. The dynamics add what they compute from latent and action planes
    to the latent. The reward is read from the next latent.

    Args:
        image_shape: shape of an observation, `[H, W, C]` or `[C, H, W]`.
        num_actions: A.
        support: support of the reward and value heads.
        generator: draws the initial weights; required, so that a seed decides them.
        channels: planes of the latent.
        blocks: residual blocks in each of representation, dynamics and prediction.
        downsample: whether height and width are halved four times first.
        head_channels: planes that a head reduces the latent to.
        head_hidden: width of a head's hidden layer.
        image_layout: whether an observation has its channels `last` or `first`.
        action_planes: how the dynamics read an action: a plane of a / A, or A planes of which one is 1.
        momentum: momentum of the statistics of batch normalisation.
    """

    cpu_batch_size = ROWS_OF_IMAGES

    def __init__(
        self,
        *,
        image_shape: tuple[int, ...],
        num_actions: int,
        support: Support,
        generator: torch.Generator,
        channels: int = 64,
        blocks: int = 1,
        downsample: bool = False,
        head_channels: int = 16,
        head_hidden: int = 32,
        image_layout: Layout = "last",
        action_planes: ActionEncoding = "share",
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_actions, self.support = num_actions, support
        self.image_layout, self.action_planes = image_layout, action_planes
        self.blocks = blocks
        self.downsample = downsample
        self.image_planes = image_shape if image_layout == "first" else (image_shape[2], *image_shape[:2])
        planes, height, width = self.image_planes
        self.latent_shape = latent_shape((height, width), channels, downsample=downsample)
        read = 1 if action_planes == "share" else num_actions
        with torch.random.fork_rng(devices=[]):  # layers draw initial weights, which are replaced below
            self.representation = nn.Sequential(
                _Downsampling(planes, channels) if downsample else _Normed(planes, channels),
                *(_Block(channels) for _ in range(blocks)),
            )
            self.step = _convolution(channels + read, channels)
            self.step_norm = nn.BatchNorm2d(channels)
            self.dynamics_blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
            self.trunk = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
            sizes = (self.latent_shape, head_channels, head_hidden)
            self.reward_head = _Head(*sizes, support.atoms)
            self.value_head = _Head(*sizes, support.atoms)
            self.policy_head = _Head(*sizes, num_actions)
        _initialise(self, generator)
        for head in (self.reward_head, self.value_head, self.policy_head):
            for parameter in head[-1].parameters():
                nn.init.zeros_(parameter)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = momentum

    @property
    def kept_per_step(self) -> int:
        """See `TrainableNetwork.kept_per_step`; counts what convolutions and normalisations read and return."""
        return math.prod(self.latent_shape) * (4 + 10 * self.blocks)

    @property
    def kept_per_position(self) -> int:
        """See `TrainableNetwork.kept_per_position`; counts an image, and what its layers read and return."""
        planes, height, width = self.image_planes
        kept = planes * height * width
        if self.downsample:
            quarter = self.latent_shape[0] * height * width // 16
            kept += 6 * 2 * quarter + 8 * quarter + quarter  # at half the height, at a quarter, and below
        return kept + 4 * self.blocks * math.prod(self.latent_shape)

    def represent(self, observations: Tensor) -> Tensor:
        """Encodes float32 observations `[B, *image_shape]` as latents `[B, C, H, W]` (h_theta)."""
        images = observations if self.image_layout == "first" else observations.permute(0, 3, 1, 2)
        return scale_planes(self.representation(self._laid(images)))

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Steps latents `[B, C, H, W]` by int64 actions `[B]` to the next latents, the state part of g_theta."""
        read = with_actions(latents, actions, self.num_actions, self.action_planes)
        made = torch.relu(self.step_norm(self.step(self._laid(read))) + self._laid(latents))
        return scale_planes(self.dynamics_blocks(made))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:  # noqa: ARG002
        """Returns reward logits `[B, atoms]`."""
        logits: Tensor = self.reward_head(self._laid(next_latents))
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns policy logits `[B, A]` and value logits `[B, atoms]`."""
        read = self.trunk(self._laid(latents))
        return self.policy_head(read), self.value_head(read)

    def _laid(self, planes: Tensor) -> Tensor:
        """Returns planes in the weights' memory layout; else the rounding would depend on the caller's."""
        last = self.step.weight.stride(1) == 1
        return planes.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def latent_shape(image: tuple[int, int], channels: int, *, downsample: bool) -> tuple[int, int, int]:
    """Returns planes, height and width of the latent of an image of a given height and width."""
    height, width = (-(-side // 2**_HALVINGS) if downsample else side for side in image)
    return channels, height, width


def scale_planes(latents: Tensor) -> Tensor:
    """Scales each plane of latents `[B, C, H, W]` to [0, 1]; 1e-5 in the divisor keeps a constant one finite.

    The result is float32 at least, as in a search: the model that is trained must be the one that is searched.
    """
    latents = latents.float() if latents.dtype == torch.bfloat16 else latents
    flat = latents.flatten(2)
    low, high = (x[:, :, None, None] for x in torch.aminmax(flat, dim=2))
    return (latents - low) / (high - low + MINMAX_EPSILON)


class _Block(nn.Module):
    """Residual block, relu(x + norm(conv(relu(norm(conv(x)))))); a stride gives x a convolution of its own."""

    def __init__(self, channels: int, outputs: int | None = None, *, stride: int = 1) -> None:
        super().__init__()
        outputs = outputs or channels
        self.first, self.second = _convolution(channels, outputs, stride), _convolution(outputs, outputs)
        self.first_norm, self.second_norm = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else _convolution(channels, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(made)) + self.shortcut(x))


class _Normed(nn.Sequential):
    """Normalised convolution, relu(norm(conv(x)))."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(_convolution(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU())


class _Downsampling(nn.Sequential):
    """Layers from an image to `channels` planes of a sixteenth of its height and width."""

    def __init__(self, planes: int, channels: int) -> None:
        half = channels // 2
        super().__init__(
            _Normed(planes, half, 2),
            _Block(half),
            _Block(half, channels, stride=2),
            _Block(channels),
            nn.AvgPool2d(3, stride=2, padding=1),
            _Block(channels),
            nn.AvgPool2d(3, stride=2, padding=1),
        )


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class _Head(nn.Sequential):
    """Layers from a latent to logits, a 1 x 1 convolution and a perceptron; float32 whatever the rest runs in."""

    def __init__(self, latent: tuple[int, int, int], reduced: int, hidden: int, outputs: int) -> None:
        channels, height, width = latent
        super().__init__(
            nn.Conv2d(channels, reduced, 1),
            nn.BatchNorm2d(reduced),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(reduced * height * width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = super().forward(x.float())  # type: ignore[no-untyped-call]
        return logits


@torch.no_grad()
def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draws weights and biases of all layers uniformly within 1/sqrt(fan in), torch's own bound, layer by layer."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters():
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
