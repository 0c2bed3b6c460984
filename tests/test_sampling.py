"""States are drawn uniformly from whole episodes of the policy."""

import brute
import numpy as np
import pytest

from mzprobe.behaviour import draw_episode_numbers
from mzprobe.envs import TabularEnvironment
from mzprobe.probes.sampling import sample_states


def generator(seed=0):
    return np.random.default_rng(seed)


# States


def test_sampled_states_are_states_of_episodes_of_the_policy():
    env, _, policy, _ = brute.case(7)
    sample = sample_states(env, policy, states=12, episodes=20, generator=generator(2))
    seeds, uniforms = draw_episode_numbers(generator(2), 20, env.spec.time_limit)
    starts = env.reset(seeds).index
    episodes = [
        brute.played(env, lambda s: policy.probabilities[s], *own) for own in zip(starts, uniforms, strict=True)
    ]
    found = [episodes[episode].states[time] for episode, time in zip(sample.episode, sample.time, strict=True)]
    assert sample.states.index.tolist() == found
    assert len(found) == 12
    assert len(set(found)) > 1


def test_some_of_the_states_keep_their_episodes_and_times():
    sample = brute.case(0)[3].take(np.array([4, 1]))
    assert (sample.states.index.tolist(), sample.episode.tolist(), sample.time.tolist()) == ([4, 1], [8, 2], [12, 3])


@pytest.fixture
def line():
    """One action, four steps to the end: four time steps an episode."""
    return TabularEnvironment(
        [[1], [2], [3], [4], [4]], np.zeros((5, 1)), [0, 0, 0, 0, 1], starts=[0], gamma=0.9, time_limit=9, name="line"
    )


def test_states_are_drawn_without_replacement_while_there_are_enough(line):
    policy = brute.TabularPolicy(np.ones((5, 1)))
    sample = sample_states(line, policy, states=12, episodes=3, generator=generator())
    assert sorted(zip(sample.episode, sample.time, strict=True)) == [(e, t) for e in range(3) for t in range(4)]
    assert (sample.states.index == sample.time).all()


def test_states_are_drawn_with_replacement_where_episodes_are_too_short(line):
    policy = brute.TabularPolicy(np.ones((5, 1)))
    sample = sample_states(line, policy, states=50, episodes=3, generator=generator())
    assert len(sample.states) == len(sample.episode) == len(sample.time) == 50
    assert not line.terminal(sample.states).any()


def test_time_steps_are_drawn_uniformly(line):
    policy = brute.TabularPolicy(np.ones((5, 1)))
    draws = [
        sample_states(line, policy, states=1, episodes=2, generator=generator(seed)).time[0] for seed in range(2000)
    ]
    assert (np.abs(np.bincount(draws, minlength=4) - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)).all()
