"""Self-play: what it records happens again, and what acts is what was asked for."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from models import episode, random_network

from mzprobe.config import SearchConfig, TrainingConfig
from mzprobe.envs import CartPole
from mzprobe.errors import MzprobeError
from mzprobe.search import LearnedModel
from mzprobe.search.mcts import search
from mzprobe.training.replay import Replay
from mzprobe.training.selfplay import SelfPlay

pytestmark = pytest.mark.usefixtures("one_thread")


def player(*, time_limit, environments=4, simulations=4, seed=0, rule="puct"):
    environment = CartPole(time_limit=time_limit)
    model = LearnedModel(random_network(1), num_actions=2, gamma=0.99)
    generator = np.random.default_rng(seed)
    return model, SelfPlay(
        environment,
        search=SearchConfig(simulations=simulations, rule=rule),
        environments=environments,
        generator=generator,
    )


def played(time_limit, steps):
    """Finished episodes with the seeds of their starts."""
    model, play = player(time_limit=time_limit)
    found = []
    for _ in range(steps):
        seeds = play.seeds.copy()
        episodes = play.step(model, 1.0)
        found += zip(seeds[play.lengths == 0], episodes, strict=True)
    return found


@pytest.mark.parametrize("rule", ["puct", "gumbel"])
def test_what_values_bootstrap_from_is_what_is_played_and_for_gumbel_not_the_mean_of_halving(monkeypatch, rule):
    results = []

    def note(*given, **options):
        results.append(search(*given, **options))
        return results[-1]

    monkeypatch.setattr("mzprobe.training.selfplay.search", note)
    model, play = player(time_limit=5, environments=2, rule=rule)
    (first, second) = [one for _ in range(5) for one in play.step(model, 1.0)]
    for e, one in enumerate((first, second)):
        assert one.root_values[:-1].tolist() == [
            float(result.value_target[e]) for result in results[: len(one.actions)]
        ]
    for result in results:
        mean = (result.visit_counts * result.q).sum(axis=1) / result.visit_counts.sum(axis=1)
        expected = (result.target * result.q).sum(axis=1) if rule == "gumbel" else result.root_value
        np.testing.assert_allclose(result.value_target, expected, rtol=1e-12)
        assert rule == "puct" or (np.abs(result.value_target - mean) > 1e-9).all()


@pytest.mark.parametrize(("time_limit", "steps"), [(500, 60), (5, 12)])
def test_recorded_episodes_happen_again_in_the_real_environment(time_limit, steps):
    environment = CartPole(time_limit=time_limit)
    found = played(time_limit, steps)
    assert len(found) >= 4
    for seed, one in found:
        states = environment.reset([seed])
        for t, action in enumerate(one.actions):
            assert one.observations[t].tobytes() == environment.observe(states)[0].tobytes()
            states, outcome = environment.step(states, [action])
            assert one.rewards[t] == outcome.reward[0]
        assert one.observations[-1].tobytes() == environment.observe(states)[0].tobytes()
        assert len(one.observations) == len(one.policies) == len(one.root_values) == len(one.actions) + 1
        assert one.terminated == outcome.terminated[0]
        np.testing.assert_allclose(one.policies[:-1].sum(axis=1), 1, rtol=1e-12)


def test_truncated_episodes_end_with_a_search_to_bootstrap_from():
    episodes = played(5, 12)
    assert episodes
    for _, one in episodes:
        assert len(one.actions) == 5
        assert not one.terminated
        assert one.root_values[-1] != 0
        assert one.policies[-1].sum() == pytest.approx(1)


def test_terminated_episodes_end_with_value_and_policy_zero():
    episodes = played(500, 60)
    assert episodes
    for _, one in episodes:
        assert one.terminated
        assert one.root_values[-1] == 0
        assert (one.policies[-1] == 0).all()


def test_self_play_restored_mid_episode_continues_as_if_nothing_had_happened():
    model, play = player(time_limit=500)
    for _ in range(14):
        play.step(model, 1.0)
    assert len(set(play.lengths.tolist())) > 1
    _, restored = player(time_limit=500, seed=5)
    arrays, generator = copy.deepcopy(play.state())
    restored.restore(arrays, json.loads(json.dumps(generator)))
    finished = 0
    for _ in range(30):
        for mine, other in zip(play.step(model, 1.0), restored.step(model, 1.0), strict=True):
            finished += 1
            assert mine.terminated == other.terminated
            for name in ("observations", "actions", "rewards", "policies", "root_values"):
                assert getattr(mine, name).tobytes() == getattr(other, name).tobytes()
    assert finished >= 4


def test_there_is_room_for_what_was_played_and_not_for_what_the_time_limit_allows():
    model, play = player(time_limit=10**9)  # which no memory holds
    assert play.policies.nbytes == 0
    rooms = set()
    for _ in range(3000):
        play.step(model, 1.0)
        assert [len(seen) for seen in play.seen] == play.lengths.tolist()
        rooms.add(play.policies.shape[1])
        if len(rooms) == 2:
            break
    assert rooms == {64, 128}
    longest = int(play.lengths.argmax())
    assert (play.policies[longest, : play.lengths[longest]].sum(axis=-1) > 0.99).all()


@pytest.mark.parametrize("part", ["observations", "rewards"])
def test_an_episode_with_numbers_that_are_not_finite_is_refused(part):
    replay = Replay(TrainingConfig(), observation_shape=(2,), num_actions=2, gamma=0.9)
    whole = episode([1, 2, 3], [0] * 4, terminated=True)
    spoilt = getattr(whole, part).copy()
    spoilt[1] = np.nan
    with pytest.raises(MzprobeError, match="not finite"):
        replay.add(dataclasses.replace(whole, **{part: spoilt}))


def test_every_step_of_a_ladder_is_the_temperature_of_its_episode():
    model, play = player(time_limit=9, environments=3)
    result = search(model, play.environment.observe(play.states), config=SearchConfig(simulations=9))
    ladder = np.array([1.0, 0.5, 0.1])
    found = result.acting(ladder)
    for row, temperature in enumerate(ladder):
        assert found[row].tolist() == result.acting(float(temperature))[row].tolist()


def test_a_uniform_share_is_of_what_acts_and_not_of_the_target():
    plays = []
    for share in (0.0, 0.5):
        model, play = player(time_limit=500, environments=1000, simulations=5)
        play.step(model, 0.01, uniform_share=share)
        plays.append(play)
    sure, mixed = plays
    assert sure.policies.tobytes() == mixed.policies.tobytes()
    likeliest = sure.policies[:, 0] > 0.5
    clear = likeliest.any(axis=1)  # no tie, so that nothing is left of the others in the hundredth power
    assert clear.sum() > 300
    taken = [likeliest[np.arange(1000), play.actions[:, 0]][clear].mean() for play in plays]
    assert taken == [1, pytest.approx(0.75, abs=0.08)]


def test_self_play_is_told_its_temperatures_and_its_uniform_share(tmp_path, tiny_config, make_trainer):
    told = []

    def step(model, temperature, *, uniform_share):
        told.append((np.asarray(temperature).tolist(), uniform_share))
        return []

    for number, keys in enumerate((["training.temperature_ladder=[1, 0.5]", "training.uniform_share=0.1"], [])):
        trainer = make_trainer(tiny_config(*keys, "training.environments=3"), tmp_path / str(number))
        trainer.experience.play.step = step
        trainer.experience.play_step(0)
    assert told == [([1.0, 0.5, 1.0], 0.1), (1.0, 0.0)]


@pytest.mark.parametrize("temperature", [-1.0, np.array([1.0, -0.5, 1.0])])
def test_a_negative_temperature_is_refused(temperature):
    model, play = player(time_limit=9, environments=3)
    result = search(model, play.environment.observe(play.states), config=SearchConfig(simulations=4))
    with pytest.raises(ValueError, match="temperature must not be negative"):
        result.acting(temperature)
