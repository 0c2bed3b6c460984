"""Settings of networks: a base with the keys that all kinds share, and a class per kind with its own keys."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from mzprobe.config.base import WIDEST, Atom, Config, Options, Positive, PositiveInt, Share, Width


class NetworkConfig(Config):
    """Keys that every network has, as `networks.build` takes them."""

    kind: str = "mlp"
    """`mlp`, `resnet`, or `module:attribute` of a factory of your own."""
    support_minimum: Atom = -10.0
    """Lowest atom of the reward and value heads, transformed units."""
    support_maximum: Atom = 10.0
    """Highest atom, transformed units."""
    atoms: Annotated[int, Field(ge=2, le=WIDEST)] = 21
    """Number of atoms."""
    reward_scale: Positive = 1.0
    """Factor on rewards and values before the value transform; undone wherever the heads are read."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.support_minimum < self.support_maximum:
            raise ValueError("support_minimum must be below support_maximum")
        return self


class VectorsConfig(NetworkConfig):
    """Keys of networks of perceptrons."""

    latent: Width = 32
    """Entries of the latent, L."""
    hidden: Width = 64
    """Width of every hidden layer, H."""
    reward_input: Literal["next", "transition"] = "next"
    """What the reward head reads: the latent that a step led to, or the latent before, the action and the latent
    after."""


class MLPConfig(VectorsConfig):
    """Small perceptrons, for vector observations."""

    kind: Literal["mlp"] = "mlp"
    """Five perceptrons with one hidden layer each; images are flattened to vectors."""
    latent: Annotated[int, Field(ge=2, le=WIDEST)] = 32
    """Entries of the latent, L; scaling to [0, 1] would make a single one 0."""


class ResNetConfig(NetworkConfig):
    """Residual blocks of convolutions, for images; `network.support_*` and `network.atoms` apply to its heads too."""

    kind: Literal["resnet"] = "resnet"
    """EfficientZero's network, without its projections and its value prefix."""
    channels: Width = 64
    """Planes of the latent."""
    blocks: PositiveInt = 1
    """Residual blocks of each of representation, dynamics and prediction."""
    downsample: bool = False
    """Whether height and width are halved four times before these blocks, as for images of 96 x 96."""
    head_channels: Width = 16
    """Planes that a head reduces the latent to."""
    head_hidden: Width = 32
    """Width of the hidden layer of a head."""
    image_layout: Literal["last", "first"] = "last"
    """Where the channels of an observation are: `[H, W, C]`, or `[C, H, W]`."""
    action_planes: Literal["share", "one_hot"] = "share"
    """How the dynamics read an action a: one plane of a / A, or A planes of which one is 1."""
    momentum: Share = 0.1
    """Weight of a training batch in the running statistics of its batch normalisation."""

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.downsample and self.channels < 2:
            raise ValueError(
                "network.channels must be at least 2 with network.downsample, which begins with half of them"
            )
        return self


class FactoryConfig(VectorsConfig):
    """Keys that a factory of your own receives: it may use any of these, and `options` for all others."""

    kind: Annotated[str, Field(pattern=":")]
    """`module:attribute` of a callable that takes (config, spec, generator)."""
    options: Options = Field(default_factory=dict)
    """Options of the factory: any values that JSON can hold."""


KINDS: Mapping[str, type[NetworkConfig]] = {"mlp": MLPConfig, "resnet": ResNetConfig}


def config_class(kind: str) -> type[NetworkConfig]:
    """Returns the configuration class of a kind of network.

    Raises:
        ValueError: if there is no such kind.
    """
    if ":" in kind:
        return FactoryConfig
    if kind not in KINDS:
        raise ValueError(f"there is no network {kind}: use {', '.join(KINDS)}, or module:attribute of a factory")
    return KINDS[kind]


def keys_for_kind(section: Mapping[str, Any], kind: object) -> dict[str, Any]:
    """Returns the entries of a network section whose keys another kind has too; all entries for an unknown kind."""
    try:
        known = config_class(str(kind)).model_fields
    except ValueError:
        return dict(section)  # validation refuses the kind later
    return {key: value for key, value in section.items() if key in known}


def network_kind(network: Any) -> str:
    """Returns the kind of a network section or configuration; `mlp` for older files, which do not name one."""
    kind = network.get("kind", "mlp") if isinstance(network, Mapping) else getattr(network, "kind", "mlp")
    return str(kind)


def _tag(network: Any) -> str:
    kind = network_kind(network)
    return "network.kind=module:attribute" if ":" in kind else f"network.kind={kind}"


AnyNetworkConfig = Annotated[
    Annotated[MLPConfig, Tag("network.kind=mlp")]
    | Annotated[ResNetConfig, Tag("network.kind=resnet")]
    | Annotated[FactoryConfig, Tag("network.kind=module:attribute")],
    Discriminator(_tag),
]
