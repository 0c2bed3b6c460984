"""Writes `tests/golden/landings.json`: seeds and actions of 50 episodes that a trained Lunar Lander agent plays.

Run `python tests/record_landings.py CHECKPOINT`. Only actions are kept, which any Box2D can be asked to make.
"""

import json
import sys
from pathlib import Path

import numpy as np

from mzprobe.behaviour import draw_episode_numbers, play_episodes
from mzprobe.checkpoints import read_checkpoint
from mzprobe.probes.sampling import load_agent

PATH = Path(__file__).parent / "golden" / "landings.json"
EPISODES = 50


class Recording:
    """Acts as the policy, and keeps each episode's actions by its seed."""

    def __init__(self, environment):
        self.environment = environment
        self.actions = {}

    @property
    def spec(self):
        return self.environment.spec

    def reset(self, seeds):
        return self.environment.reset(seeds)

    def step(self, states, actions):
        following, outcome = self.environment.step(states, actions)
        self.actions |= dict(zip(following.seed.tolist(), following.actions, strict=True))
        return following, outcome


def main():
    """Plays and writes."""
    agent = load_agent(read_checkpoint(Path(sys.argv[1])))
    seeds, uniforms = draw_episode_numbers(np.random.default_rng(0), EPISODES, agent.environment.spec.time_limit)
    recording = Recording(agent.environment)
    play_episodes(recording, agent.policy, seeds=seeds, uniforms=uniforms)
    checkpoint = agent.checkpoint
    record = {
        "run": checkpoint.run,
        "seed": checkpoint.seed,
        "training_step": checkpoint.training_step,
        "weights_sha256": checkpoint.weights_sha256,
        "episodes": {seed: "".join(map(str, actions)) for seed, actions in recording.actions.items()},
    }
    PATH.write_text(json.dumps(record, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
