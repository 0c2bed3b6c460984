"""Checkpoints of JimOhman/model-based-rl, fully connected networks, at its commit 2557590.

Formulas are those of its `networks.py` and `config.py`: latents pass a ReLU before they are scaled, and the reward is
read from the latent and the action. Settings lie in the file as an object, whose attributes are read without making it.
"""

import re
from dataclasses import dataclass
from typing import Any

from mzprobe.errors import CheckpointError
from mzprobe.names import ATARI
from mzprobe.networks.fully_connected import Chain, FullyConnected, LatentScale
from mzprobe.networks.support import Support
from mzprobe.sources.archives import arrays_of, field_of
from mzprobe.sources.foreign import DISPERSED, Described, chain_of, count, facts_of

_CHAINS = {
    "representation": ("representation_head.fc1", "representation_head.out"),
    "dynamics": ("transition_head.fc1", "transition_head.out"),
    "reward": ("reward_head.fc1", "reward_head.reward"),
    "policy": ("policy_head.fc1", "policy_head.policy"),
    "value": ("value_head.fc1", "value_head.value"),
}
_OF_GAMES = (
    "after 500 frames without a reward one in twenty of its actions was drawn at random, here none is",
    "its later lives began where the game stood, here every episode begins a new game",
)
_RAM = "-ramNoFrameskip-v4"  # Gym's games observed as RAM
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class JimOhman:
    """Adapter for checkpoints of JimOhman/model-based-rl."""

    name: str = "jimohman"
    of: str = "JimOhman/model-based-rl"
    verified: str = "its networks.py and config.py in double precision, FCNetwork"

    def recognises(self, tree: Any) -> bool:
        """See `Adapter.recognises`."""
        weights = tree.get("weights") if isinstance(tree, dict) and "config" in tree else None
        return isinstance(weights, dict) and "transition_head.fc1.weight" in weights

    def describe(self, tree: Any, *, source: object) -> Described:
        """See `Adapter.describe`."""
        config = tree["config"]
        named, gamma, N, K = (
            field_of(config, key) for key in ("environment", "discount", "num_simulations", "num_unroll_steps")
        )
        facts: dict[str, Any] = {
            "search": {"simulations": N, "normalisation_floor": 1e-8},  # it divides by any range, however small
            "unroll": K,
            "training_step": count(tree, "step", source=source),
        }
        temperatures = field_of(config, "eval_temperatures")
        if isinstance(temperatures, list) and len(temperatures) == 1:
            facts["temperature"] = temperatures[0]
        sources = {"temperature": "eval_temperatures of its config; its actors played at several temperatures at once"}
        if isinstance(named, str) and named.endswith(_RAM):
            return _atari(config, named.removesuffix(_RAM), facts, sources, source=source)
        if named != "LunarLander-v2":
            return Described(facts=facts_of(facts, source=source), sources=sources)
        limit = field_of(config, "max_episode_steps") or 1000
        facts["environment"] = {"name": "lunarlander", "options": {"gamma": gamma, "time_limit": limit}}
        return Described(
            facts=facts_of(facts, source=source),
            sources=sources,
            differences=(DISPERSED,),
            returned=280.0,
            returned_where="about, at the end of training, in its authors' figure",
        )

    def network(self, tree: Any, *, source: object) -> FullyConnected:
        """See `Adapter.network`."""
        config, chains = tree["config"], _chains(tree, source)
        low, high = (field_of(config, f"value_support_{end}") for end in ("min", "max"))
        same = [field_of(config, f"reward_support_{end}") for end in ("min", "max")] == [low, high]
        atoms = len(chains["value"][-1][1])
        whole = isinstance(low, int) and isinstance(high, int) and high - low + 1 == atoms
        if not whole or not same or field_of(config, "no_support") or field_of(config, "no_target_transform"):
            raise CheckpointError(f"{source} has heads that this source does not know: give one with a support of each")
        support = Support(minimum=low, maximum=high, atoms=atoms)
        scale = LatentScale(rectified=True)
        return FullyConnected(chains, support=support, activation="relu", scale=scale, rewards="step")


def _atari(config: Any, game: str, facts: dict[str, Any], sources: dict[str, str], *, source: object) -> Described:
    """Describes a game that the agent saw as RAM.

    The environment stays unknown if our options cannot express what its wrappers did.
    """
    skip, no_ops, frames = (field_of(config, key) for key in ("sticky_actions", "noop_max", "max_steps"))
    known = (
        [field_of(config, key) for key in ("wrap_atari", "norm_states", "state_range")] == [False, True, [0.0, 255.0]]
        and all(isinstance(number, int) and number > 0 for number in (skip, no_ops, frames))
        and game != "Pong"  # where a lost point ended an episode
    )
    if not known:
        return Described(facts=facts_of(facts, source=source), sources=sources)
    facts["environment"] = {
        "name": f"{ATARI}{_CAPITAL.sub('_', game).lower()}",
        "options": {
            "observation": "ram",
            "gamma": field_of(config, "discount"),
            "time_limit": frames // skip,
            "frame_skip": skip,
            "stack": field_of(config, "stack_states"),
            "clip_rewards": field_of(config, "clip_rewards"),
            "end_of_life": field_of(config, "episode_life"),
            "no_ops": no_ops if field_of(config, "noop_reset") else 0,
            "opening": ["fire", "right"] if field_of(config, "fire_reset") else [],
        },
    }
    breakout = game == "Breakout"
    return Described(
        facts=facts_of(facts, source=source),
        sources=sources,
        differences=_OF_GAMES if field_of(config, "avoid_repeat") else _OF_GAMES[1:],
        returned=640.0 if breakout else None,
        returned_where="about, the scores of its actors' whole games at T <= 0.5, in its author's figure: "
        "--agent environment.options.end_of_life=false plays whole games"
        if breakout
        else "",
    )


def _chains(tree: Any, source: object) -> dict[str, Chain]:
    weights = arrays_of(tree["weights"], source=source, what="weights")
    return {part: chain_of(weights, *names, source=source) for part, names in _CHAINS.items()}
