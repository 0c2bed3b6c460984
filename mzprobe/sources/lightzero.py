"""Checkpoints of LightZero (opendilab): `ckpt/ckpt_best.pth.tar` and `ckpt/iteration_N.pth.tar` of its MuZero.

A file holds weights and counters alone. Constants are those of `lzero/policy/muzero.py` and of the configurations in
`zoo`. Two generations of `MuZeroModelMLP` name their weights alike: up to 0.0.5 nothing follows the representation, in
0.1 and 0.2 a softmax of each eight entries does. Such a file is read as one of 0.1 or 0.2, unless the user names the
source `lightzero-0.0`. Later versions are recognised by a norm among the weights.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mzprobe.networks.composed import Composed
from mzprobe.sources.archives import arrays_of
from mzprobe.sources.foreign import DISPERSED, Described, Facts, count
from mzprobe.sources.layers import Layers
from mzprobe.sources.lightzero_networks import IMAGES, NORMED, VECTORS, Encoder, of_images, of_vectors

_POLICY = "lzero/policy/muzero.py"
_OTHERS = ("dynamics_network.lstm.", "chance_encoder.", "afterstate_")  # weights of its other algorithms
# `lzero/mcts`: an untried action is worth the mean of the tried ones, and N(s) is the sum of N(s, a).
_SEARCH = {"untried": "mean", "node_visits": "children"}
_UNSEEN = {
    "simplex": "LightZero 0.1 and 0.2, where a softmax of eights follows it; older ones need --source lightzero-0.0",
    "plain": "LightZero up to 0.0.5, where nothing follows it; younger ones need no --source",
}


class _Game(NamedTuple):
    """Constants of one of its configurations."""

    file: str
    environment: dict[str, Any]
    simulations: int
    differences: tuple[str, ...] = ()


_GAMES = {  # by observed entries and actions
    (4, 2): _Game(
        file="zoo/classic_control/cartpole/config/cartpole_muzero_config.py",
        environment={"name": "cartpole", "options": {"gamma": 0.997, "time_limit": 200}},
        simulations=25,
    ),
    (8, 4): _Game(
        file="zoo/box2d/lunarlander/config/lunarlander_disc_muzero_config.py",
        environment={"name": "lunarlander", "options": {"gamma": 0.997, "time_limit": 1000}},
        simulations=50,
        differences=(DISPERSED,),
    ),
}


@dataclass(frozen=True)
class LightZero:
    """Adapter for checkpoints of LightZero.

    Attributes:
        encoder: what follows the representation of vectors if a file does not show it.
    """

    name: str = "lightzero"
    of: str = "LightZero"
    verified: str = "its lzero/model of 0.2.0 and 9f717c8 in double precision, MuZeroModelMLP and MuZeroModel"
    encoder: Encoder = "simplex"

    def recognises(self, tree: Any) -> bool:
        """See `Adapter.recognises`."""
        weights = _weights(tree)
        if any(name.startswith(_OTHERS) for name in weights):
            return False
        if f"{VECTORS}.weight" in weights:
            return self.encoder == "simplex" or f"{NORMED}.weight" not in weights
        return self.encoder == "simplex" and f"{IMAGES}.weight" in weights

    def describe(self, tree: Any, *, source: object) -> Described:
        """See `Adapter.describe`; the game follows from the sizes of observation and policy."""
        layers = _layers(tree, source)
        facts: dict[str, Any] = {"temperature": 0.25, "unroll": 5, "search": _SEARCH}
        for key, counter in (("training_step", "last_iter"), ("environment_steps", "last_step")):
            if counter in tree:
                facts[key] = count(tree, counter, source=source)
        sources = dict.fromkeys(("search", "temperature", "unroll"), _POLICY)
        if not layers.has(VECTORS):
            return Described(facts=Facts(**facts), sources=sources)
        if not layers.has(NORMED):
            sources["representation"] = _UNSEEN[self.encoder]
        game = _GAMES.get((layers.inputs(VECTORS), layers.width("prediction_network.fc_policy_head")))
        if game is None:
            return Described(facts=Facts(**facts), sources=sources)
        facts |= {"environment": game.environment, "search": {"simulations": game.simulations, **_SEARCH}}
        return Described(
            facts=Facts(**facts),
            sources={**sources, "environment": f"{game.file}, its discount from {_POLICY}", "search": game.file},
            differences=game.differences,
        )

    def network(self, tree: Any, *, source: object) -> Composed:
        """See `Adapter.network`."""
        layers = _layers(tree, source)
        return of_vectors(layers, encoder=self.encoder) if layers.has(VECTORS) else of_images(layers)


EARLIER = LightZero(
    name="lightzero-0.0",
    of="LightZero up to 0.0.5, when named",
    verified="its lzero/model of 0.0.5 in double precision, MuZeroModelMLP",
    encoder="plain",
)


def _weights(tree: Any) -> dict[str, Any]:
    found = tree.get("model") if isinstance(tree, dict) else None
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def _layers(tree: Any, source: object) -> Layers:
    """Returns the layers that an agent plays with, without those of the self-supervised loss."""
    used = {name: value for name, value in _weights(tree).items() if name.partition(".")[0].endswith("_network")}
    return Layers(arrays_of(used, source=source, what="model"), source)
