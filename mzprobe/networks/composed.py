"""Networks of other code that are more than chains of layers: shared trunks, residual latents, planes."""

from collections.abc import Callable

from torch import Tensor, nn

from mzprobe.networks.core import ActionEncoding, TrainableNetwork, with_actions
from mzprobe.networks.support import Support


class Composed(TrainableNetwork):
    """A network of six modules of torch; latents are vectors `[B, L]` or planes `[B, C, H, W]`.

    Args:
        representation: observations `[B, *shape]` -> latents.
        dynamics: latents with the action behind them, along dimension 1 -> what the next latents are made from.
        reward: the next latents, before they are scaled -> logits `[B, atoms]`.
        trunk: latents -> what both heads read.
        policy: of that, logits `[B, A]`.
        value: of that, logits `[B, atoms]`.
        support: of both scalar heads.
        num_actions: A.
        encoding: of an action a: A entries or planes, one of them 1, or a single one of a / A.
        residual: whether the latents are added to what `dynamics` gives.
        following: what happens to that, and gives the next latents.
        scale: of latents, after the representation and after the dynamics.
        cpu_batch_size: as in `TrainableNetwork`.
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
        """As in the protocol."""
        return self.scale(self.representation(observations))

    def transition(self, latents: Tensor, actions: Tensor) -> Tensor:
        """As in `TrainableNetwork`."""
        return self.scale(self._unscaled(latents, actions))

    def reward_logits(self, latents: Tensor, actions: Tensor, next_latents: Tensor) -> Tensor:  # noqa: ARG002
        """As in `TrainableNetwork`; the next latents, which may be scaled, are not what this head reads."""
        logits: Tensor = self.reward(self._unscaled(latents, actions))
        return logits

    def prediction_logits(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """As in `TrainableNetwork`."""
        read = self.trunk(latents)
        return self.policy(read), self.value(read)

    def dynamics(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """As in the protocol."""
        unscaled = self._unscaled(latents, actions)
        return self.scale(unscaled), self.support.scalar(self.reward(unscaled))

    def _unscaled(self, latents: Tensor, actions: Tensor) -> Tensor:
        made = self.step(with_actions(latents, actions, self.num_actions, self.encoding))
        following: Tensor = self.following(made + latents if self.residual else made)
        return following
