"""Writes `tests/golden/landings.json`: seeds and actions of 50 episodes that a trained Lunar Lander agent plays.

Run `python tests/helpers/record_landings.py CHECKPOINT`. Only actions are kept, which any Box2D can be asked to make.
"""

import json
import sys
from pathlib import Path

import numpy as np

from mzprobe.behaviour import draw_episode_numbers
from mzprobe.checkpoints import read_checkpoint
from mzprobe.datasets.collect import record_episodes
from mzprobe.sources.own import load_agent

PATH = Path(__file__).parent.parent / "golden" / "landings.json"
EPISODES = 50


def main():
    """Plays and writes."""
    agent = load_agent(read_checkpoint(Path(sys.argv[1])))
    seeds, uniforms = draw_episode_numbers(np.random.default_rng(0), EPISODES, agent.environment.spec.time_limit)
    played = record_episodes(agent.environment, agent.policy, seeds=seeds, uniforms=uniforms)
    origin = agent.origin
    record = {
        "run": origin.run,
        "seed": origin.seed,
        "training_step": origin.training_step,
        "weights_sha256": origin.weights_sha256,
        "episodes": {int(seed): "".join(map(str, own.actions)) for seed, own in zip(seeds, played, strict=True)},
    }
    PATH.write_text(json.dumps(record, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
