"""The learned model: the protocol, a check for implementations, and the networks that come with mzprobe."""

import inspect
import math

import torch

from mzprobe._plugins import kind_of, load_attribute, raised
from mzprobe.config import NetworkConfig, ResNetConfig, VectorsConfig
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.networks.check import check_network, look_at
from mzprobe.networks.core import MuZeroNetwork, TrainableNetwork, Unroll, evaluating
from mzprobe.networks.mlp import MLPNetwork
from mzprobe.networks.resnet import ResNet, latent_shape
from mzprobe.networks.support import Support
from mzprobe.system.memory import refuse_more_than_fits

__all__ = [
    "MLPNetwork",
    "MuZeroNetwork",
    "ResNet",
    "Support",
    "TrainableNetwork",
    "Unroll",
    "build",
    "check_network",
    "evaluating",
    "look_at",
]


def build(config: NetworkConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    """Returns a fresh network for an environment, in evaluation mode.

    Args:
        config: configuration of the network's kind.
        spec: specification of the environment.
        generator: draws the initial weights.

    Raises:
        UsageError: if the network cannot read the environment's observations, it does not fit into memory, the
            configuration is of another kind, or what a factory returns is no network that can be trained.
    """
    if ":" in config.kind:
        return _of_factory(config, spec, generator).eval()
    if config.kind == "resnet" and isinstance(config, ResNetConfig):
        return _resnet(config, spec, generator).eval()
    if config.kind == "mlp" and isinstance(config, VectorsConfig):  # not only MLPConfig: a factory may pass its own
        return _mlp(config, spec, generator).eval()
    raise UsageError(f"{type(config).__name__} is no configuration of network.kind={config.kind}")


def _mlp(config: VectorsConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    size = math.prod(spec.observation_shape)
    L, H, atoms, A = config.latent, config.hidden, config.atoms, spec.num_actions
    read = L if config.reward_input == "next" else L + A + L
    weights = H * (size + L + L + A + L + read + 2 * L + 2 * atoms + A)
    what = f"network.latent={L} with network.hidden={H} and network.atoms={atoms}"
    refuse_more_than_fits(_BYTES * weights, what=what)
    return MLPNetwork(
        observation_size=size,
        num_actions=spec.num_actions,
        latent=config.latent,
        hidden=config.hidden,
        support=_support(config),
        reward_input=config.reward_input,
        generator=generator,
    )


def _resnet(config: ResNetConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    if len(spec.observation_shape) != 3:
        raise UsageError(
            f"network.kind=resnet is for images [H, W, C] or [C, H, W], and {spec.name} shows "
            f"{list(spec.observation_shape)}: use network.kind=mlp"
        )
    planes, height, width = spec.observation_shape
    if config.image_layout == "last":
        height, width, planes = spec.observation_shape
    C, H, W = latent_shape((height, width), config.channels, downsample=config.downsample)
    if H * W == 1:  # each plane is scaled by its own smallest and largest entry
        remedy = "leave network.downsample=true out, or " if config.downsample else ""
        raise UsageError(
            f"of each plane of {height}x{width} one entry is left, which scaling makes 0: {remedy}show larger images"
        )
    heads = 3 * config.head_channels * (C + H * W * config.head_hidden) + 2 * config.head_hidden * config.atoms
    weights = 9 * C * (planes + C * (10 + 6 * config.blocks)) + heads
    what = f"network.channels={C} with network.blocks={config.blocks} and network.head_hidden={config.head_hidden}"
    refuse_more_than_fits(_BYTES * weights, what=what)
    return ResNet(
        image_shape=spec.observation_shape,
        num_actions=spec.num_actions,
        support=_support(config),
        generator=generator,
        **config.model_dump(include=_OF_RESNET),
    )


def _support(config: NetworkConfig) -> Support:
    return Support(
        minimum=config.support_minimum,
        maximum=config.support_maximum,
        atoms=config.atoms,
        reward_scale=config.reward_scale,
    )


def _of_factory(config: NetworkConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    """Returns what a user's factory returns, checked as far as possible without calling the network."""
    factory = load_attribute(config.kind)
    try:
        made = factory(config, spec, generator)
    except (MemoryError, MzprobeError):
        raise
    except Exception as error:
        raise UsageError(
            f"network {config.kind} cannot be made ({raised(error)}): its factory takes (config, spec, generator)"
        ) from error
    lacking = [part for part in _PARTS if not hasattr(made, part)]
    if lacking or not isinstance(made, TrainableNetwork):
        lacks = f"it lacks {', '.join(lacking)}" if lacking else "it does not inherit from it"
        raise UsageError(
            f"network {config.kind} gave {kind_of(made)}, which is no mzprobe.TrainableNetwork ({lacks}): mend its "
            "factory and try what it gives with mzprobe.check_network"
        )
    try:
        inspect.signature(made.reward_logits).bind(None, None, None)
    except TypeError:
        raise UsageError(
            f"network {config.kind} has a reward_logits that does not take a whole step: give it (latents, actions, "
            "next_latents)"
        ) from None
    _refuse_unsavable(config, made)
    return made


def _refuse_unsavable(config: NetworkConfig, network: TrainableNetwork) -> None:
    """Refuses a tensor whose numbers numpy, and with it a checkpoint, cannot hold."""
    for name, tensor in network.state_dict().items():
        if tensor.dtype == torch.bfloat16 or tensor.is_complex():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(
                f"network {config.kind} holds {name} as {dtype}, which no checkpoint can: make it float32, and "
                "train with --precision bfloat16 for faster products"
            )


_PARTS = ("represent", "transition", "reward_logits", "prediction_logits", "support", "num_actions", "parameters")
_BYTES = 16  # per weight, with its gradient and two moments
_OF_RESNET = {*ResNetConfig.model_fields} - {*NetworkConfig.model_fields}
