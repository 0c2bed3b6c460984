"""Checkpoints of muzero-general (werner-duvaud): `model.checkpoint`, with either of its networks.

Formulas are those of its `models.py`. Fully connected networks have ELU between layers, read the reward from the next
latent before it is scaled, and add 1e-5 to a latent's range that is smaller than that. Residual ones are built in
`muzero_general_residual`; none of the games that it plays with them is known here. Constants are those of
`games/cartpole.py` and `games/lunarlander.py`, since a checkpoint holds weights and counters alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mzprobe.networks.composed import Composed
from mzprobe.networks.fully_connected import Chain, FullyConnected, LatentScale
from mzprobe.networks.support import Support
from mzprobe.sources.archives import arrays_of
from mzprobe.sources.foreign import Described, Facts, chain_of, count, layer_names
from mzprobe.sources.layers import Layers
from mzprobe.sources.muzero_general_residual import MARK, residual

_CHAINS = {
    "representation": "representation_network",
    "dynamics": "dynamics_encoded_state_network",
    "reward": "dynamics_reward_network",
    "policy": "prediction_policy_network",
    "value": "prediction_value_network",
}
_SCALE = LatentScale(epsilon=1e-5, always=False)


class _Game(NamedTuple):
    """Constants of a file of `games/`."""

    file: str
    facts: dict[str, Any]
    temperature: Callable[[int], float]  # by training step
    scale: float  # factor of rewards
    differences: tuple[str, ...]


_GAMES = {  # by observed entries and actions
    (4, 2): _Game(
        file="games/cartpole.py",
        facts={"environment": {"name": "cartpole", "options": {"gamma": 0.997, "time_limit": 500}}, "unroll": 10},
        temperature=lambda step: 1.0 if step < 5000 else 0.5 if step < 7500 else 0.25,
        scale=1.0,
        differences=(),
    ),
    (8, 4): _Game(
        file="games/lunarlander.py",
        facts={"environment": {"name": "lunarlander", "options": {"gamma": 0.999, "time_limit": 700}}, "unroll": 10},
        temperature=lambda _: 0.35,
        scale=1 / 3,
        differences=("its own lander always came down on the same ground, that of Gymnasium is drawn by the seed",),
    ),
}


@dataclass(frozen=True)
class MuZeroGeneral:
    """Adapter for checkpoints of muzero-general."""

    name: str = "muzero-general"
    of: str = "muzero-general"
    verified: str = "its models.py in double precision, both of its networks"

    def recognises(self, tree: Any) -> bool:
        """See `Adapter.recognises`."""
        return isinstance(tree, dict) and "num_played_steps" in tree and isinstance(tree.get("weights"), dict)

    def describe(self, tree: Any, *, source: object) -> Described:
        """See `Adapter.describe`; the game follows from the sizes of observation and policy."""
        game = None if _is_residual(tree) else _game(_chains(tree, source))
        step = count(tree, "training_step", source=source)
        facts = {
            "search": {"simulations": 50, "normalisation_floor": 1e-8},  # it divides by any range, however small
            "training_step": step,
            "environment_steps": count(tree, "num_played_steps", source=source),
        }
        if game is None:
            return Described(facts=Facts(**facts), sources={"search": "the games of muzero-general"})
        facts |= {**game.facts, "temperature": game.temperature(step)}
        returned = tree.get("total_reward")
        return Described(
            facts=Facts(**facts),
            sources=dict.fromkeys(("environment", "search", "temperature", "unroll"), game.file),
            differences=game.differences,
            returned=returned / game.scale if isinstance(returned, float) else None,
            returned_where="in its latest test game, by the file",
        )

    def network(self, tree: Any, *, source: object) -> FullyConnected | Composed:
        """See `Adapter.network`."""
        if _is_residual(tree):
            return residual(Layers(arrays_of(tree["weights"], source=source, what="weights"), source))
        chains = _chains(tree, source)
        game, atoms = _game(chains), len(chains["value"][-1][1])
        support = Support(
            minimum=-(atoms // 2), maximum=atoms // 2, atoms=atoms, reward_scale=1.0 if game is None else game.scale
        )
        return FullyConnected(chains, support=support, activation="elu", scale=_SCALE, rewards="unscaled")


def _is_residual(tree: Any) -> bool:
    return f"{MARK}.weight" in tree["weights"]


def _chains(tree: Any, source: object) -> dict[str, Chain]:
    weights = arrays_of(tree["weights"], source=source, what="weights")
    return {
        part: chain_of(weights, *layer_names(weights, f"{prefix}.module"), source=source)
        for part, prefix in _CHAINS.items()
    }


def _game(chains: Mapping[str, Chain]) -> _Game | None:
    return _GAMES.get((chains["representation"][0][0].shape[1], len(chains["policy"][-1][1])))
