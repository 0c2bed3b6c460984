"""Forty short episodes of random actions in CartPole, and the keys of runs that learn from them."""

import numpy as np

from mzprobe.datasets import Recorded, new_dataset
from mzprobe.envs import CartPole


def recorded_at_random(seed, *, truncate_at=None):
    """An episode of random actions in CartPole, cut short where asked."""
    environment, generator = CartPole(), np.random.default_rng(seed)
    states = environment.reset([seed])
    observations, actions = [environment.observe(states)[0]], []
    terminated = False
    while not terminated and len(actions) != truncate_at:
        actions.append(int(generator.integers(2)))
        states, outcome = environment.step(states, actions[-1:])
        observations.append(environment.observe(states)[0])
        terminated = bool(outcome.terminated[0])
    return Recorded(
        observations=np.array(observations),
        actions=np.array(actions),
        rewards=np.ones(len(actions)),
        terminated=terminated,
    )


EPISODES = [recorded_at_random(seed, truncate_at=12 if seed % 4 == 0 else None) for seed in range(40)]


def write_recordings(path):
    """Writes the episodes as a dataset; gives its path."""
    with new_dataset(path, CartPole().spec, algorithm="random", record={"command": "tests"}) as writer:
        writer.append(EPISODES)
    return path


def offline(dataset, *overrides, fraction=1):
    return [f'dataset.path="{dataset}"', f"reanalyse.fraction={fraction}", "dataset.targets_per_step=9", *overrides]


def demonstrations(dataset, *overrides, fraction=0.5):
    use = ["dataset.use=demonstrations", "dataset.share=0.75", "dataset.decay_steps=30"]
    return offline(dataset, *use, *overrides, fraction=fraction)
