"""Networks from other code bases that are more than chains of layers: shared trunks, residual latents, planes."""

from collections.abc import Callable

from torch import Tensor, nn

from mzprobe.networks.core import ActionEncoding, TrainableNetwork, with_actions
from mzprobe.networks.support import Support


class Composed(TrainableNetwork):
    """A network of six torch modules; latents are vectors `[B, L]` or planes `[B, C, H, W]`.

    Args:
        representation: observations `[B, *shape]` -> latents.
        dynamics: latents with the encoded action appended along dimension 1 -> input of `following`.
        reward: the next latents before they are scaled -> logits `[B, atoms]`.
        trunk: latents -> input of both heads.
        policy: output of the trunk -> logits `[B, A]`.
        value: output of the trunk -> logits `[B, atoms]`.
        support: support of both scalar heads.
        num_actions: A.
        encoding: encoding of an action a: A entries or planes, one of them 1, or a single one of a / A.
        residual: whether the latents are added to the output of `dynamics`.
        following: module applied to the result, which returns the next latents; None for the identity.
        scale: scaling of latents, after the representation and after the dynamics; None for none.
        cpu_batch_size: see `TrainableNetwork`.
    """

    def __init__(
        self,
        *,
        representation: nn.Module,
        dynamics: nn.Module,
        reward: nn.Module,
        trunk: nn.Module,
        policy: nn.Module,
        value: nn.Module,
        support: Support,
        num_actions: int,
        encoding: ActionEncoding = "one_hot",
        residual: bool = False,
        following: nn.Module | None = None,
        scale: Callable[[Tensor], Tensor] | None = None,
        cpu_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.cpu_batch_size = cpu_batch_size
        self.support, self.num_actions = support, num_actions
        self.encoding, self.residual = encoding, residual
        self.representation, self.step, self.reward = representation, dynamics, reward
        self.trunk, self.policy, self.value = trunk, policy, value
        self.following = nn.Identity() if following is None else following
        self.scale = nn.Identity() if scale is None else scale

    def represent(self, observations: Tensor) -> Tensor:
        """See `MuZeroNetwork.represent`."""
        return self.scale(self.representation(observations))

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """See `TrainableNetwork.transition`."""
        return self.scale(self._unscaled(latents, actions))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:  # noqa: ARG002
        """See `TrainableNetwork.reward_logits`; this head reads the unscaled next latents instead of `next_latents`."""
        logits: Tensor = self.reward(self._unscaled(latents, actions))
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainableNetwork.prediction_logits`."""
        read = self.trunk(latents)
        return self.policy(read), self.value(read)

    def dynamics(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """See `MuZeroNetwork.dynamics`."""
        unscaled = self._unscaled(latents, actions)
        return self.scale(unscaled), self.support.scalar(self.reward(unscaled))

    def _unscaled(self, latents: Tensor, actions: Tensor) -> Tensor:
        made = self.step(with_actions(latents, actions, self.num_actions, self.encoding))
        following: Tensor = self.following(made + latents if self.residual else made)
        return following
