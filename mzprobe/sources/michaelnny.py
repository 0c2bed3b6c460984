"""Checkpoints of michaelnny/muzero: fully connected networks for classic control.

Formulas are those of its `muzero/network.py` and `muzero/util.py`, constants those of `make_classic_config`. Its agent
sees the latest four observations, each with the action before it (`StackFrameAndAction`). Its own search gives every
node the prior of the root; here each node has its own, as in MuZero.
"""

from dataclasses import dataclass
from typing import Any

from mzprobe.networks.fully_connected import Chain, FullyConnected, LatentScale
from mzprobe.networks.support import Support
from mzprobe.sources.archives import arrays_of
from mzprobe.sources.foreign import DISPERSED, Described, Facts, chain_of, count

_CHAINS = {
    "representation": "represent_net.net",
    "dynamics": "dynamics_net.transition_net",
    "reward": "dynamics_net.reward_net",
    "policy": "prediction_net.policy_net",
    "value": "prediction_net.value_net",
}
_HISTORY = 4
_CONFIG = "make_classic_config of muzero/config.py"
_GAMES: dict[tuple[int, int], tuple[dict[str, Any], tuple[str, ...], float]] = {  # by observed entries and actions
    (4, 2): ({"name": "cartpole", "options": {"gamma": 0.997, "time_limit": 500}}, (), 500.0),
    (8, 4): (
        {"name": "lunarlander", "options": {"gamma": 0.997, "time_limit": 1000}},
        (DISPERSED,),
        250.0,
    ),
}


@dataclass(frozen=True)
class MichaelNny:
    """Adapter for checkpoints of michaelnny/muzero."""

    name: str = "michaelnny"
    of: str = "michaelnny/muzero"
    verified: str = "its muzero/network.py in double precision, MLP networks"

    def recognises(self, tree: Any) -> bool:
        """See `Adapter.recognises`."""
        network = tree.get("network") if isinstance(tree, dict) and "train_steps" in tree else None
        return isinstance(network, dict) and f"{_CHAINS['representation']}.0.weight" in network

    def describe(self, tree: Any, *, source: object) -> Described:
        """See `Adapter.describe`; the environment follows from the sizes of observation and policy."""
        chains, step = _chains(tree, source), count(tree, "train_steps", source=source)
        seen = chains["representation"][0][0].shape[1] // _HISTORY - 1
        facts = {
            "history": _HISTORY,
            "search": {"simulations": 50, "normalisation_floor": 1e-8},  # it divides by any range, however small
            "temperature": 1.0 if step < 30_000 else 0.5 if step < 60_000 else 0.25,
            "unroll": 5,
            "training_step": step,
        }
        sources = dict.fromkeys(("search", "temperature", "unroll"), _CONFIG)
        sources["history"] = "stack_history of muzero/classic/run_training.py"
        known = _GAMES.get((seen, len(chains["policy"][-1][1])))
        if known is None:
            return Described(facts=Facts(**facts), sources=sources)
        environment, differences, returned = known
        return Described(
            facts=Facts(environment=environment, **facts),
            sources={**sources, "environment": _CONFIG},
            differences=differences,
            returned=returned,
            returned_where="about, at the end of training, in its authors' figure",
        )

    def network(self, tree: Any, *, source: object) -> FullyConnected:
        """See `Adapter.network`."""
        chains = _chains(tree, source)
        atoms = len(chains["value"][-1][1])
        support = Support(minimum=-(atoms // 2), maximum=atoms // 2, atoms=atoms)
        scale = LatentScale(epsilon=1e-8)
        return FullyConnected(chains, support=support, activation="relu", scale=scale, rewards="unscaled")


def _chains(tree: Any, source: object) -> dict[str, Chain]:
    weights = arrays_of(tree["network"], source=source, what="network")
    return {part: chain_of(weights, f"{prefix}.0", f"{prefix}.2", source=source) for part, prefix in _CHAINS.items()}
