"""The learned model: the protocol, a check for implementations, and the networks that come with mzprobe."""

import inspect

import torch

from mzprobe._plugins import kind_of, load_attribute, raised
from mzprobe.config import NetworkConfig
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.memory import refuse_more_than_fits
from mzprobe.networks.check import check_network
from mzprobe.networks.core import MuZeroNetwork, TrainableNetwork, Unroll
from mzprobe.networks.mlp import MLPNetwork
from mzprobe.networks.support import Support

__all__ = ["MLPNetwork", "MuZeroNetwork", "Support", "TrainableNetwork", "Unroll", "build", "check_network"]


def build(config: NetworkConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    """A fresh network for an environment.

    Args:
        config: `kind` is `mlp`, or `module:attribute` of a callable that takes (config, spec, generator).
        spec: of the environment.
        generator: draws the initial weights.

    Raises:
        UsageError: if the kind is unknown, the network does not fit into memory, or what a factory gives is no network
            that can be trained.
    """
    if ":" in config.kind:
        return _of_factory(config, spec, generator)
    if config.kind != "mlp":
        raise UsageError(f"there is no network {config.kind}: use mlp, or module:attribute of a factory of your own")
    size = 1
    for entries in spec.observation_shape:
        size *= entries
    L, H, atoms, A = config.latent, config.hidden, config.atoms, spec.num_actions
    read = L if config.reward_input == "next" else L + A + L
    weights = H * (size + L + L + A + L + read + 2 * L + 2 * atoms + A)
    what = f"network.latent={L} with network.hidden={H} and network.atoms={atoms}"
    refuse_more_than_fits(16 * weights, what=what)  # with gradient and two moments, 4 bytes each
    return MLPNetwork(
        observation_size=size,
        num_actions=spec.num_actions,
        latent=config.latent,
        hidden=config.hidden,
        support=Support(
            minimum=config.support_minimum,
            maximum=config.support_maximum,
            atoms=config.atoms,
            reward_scale=config.reward_scale,
        ),
        reward_input=config.reward_input,
        generator=generator,
    )


def _of_factory(config: NetworkConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    """What anybody's factory gives, looked at so far as that is to be seen without asking it."""
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
    return made


_PARTS = ("represent", "transition", "reward_logits", "prediction_logits", "support", "num_actions", "parameters")
