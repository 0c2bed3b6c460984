"""The fused path of the search equals the general one, whatever stands beside a row."""

import numpy as np
import pytest
import torch
from models import TabularModel, assert_same_searches, by_torch, random_network, random_tabular_model

from mzprobe.config import SearchConfig
from mzprobe.errors import UsageError
from mzprobe.networks import MLPNetwork, Support
from mzprobe.search import LearnedModel, Rollout, mcts, search
from mzprobe.search.fused import fused_search

pytestmark = pytest.mark.usefixtures("one_thread")


def bytes_of(result):
    return [x.tobytes() for x in (result.visit_counts, result.root_value, result.q, result.prior)]


def observations_of(seed, batch):
    return np.random.default_rng(seed).standard_normal((batch, 4)).astype(np.float32)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("prior", ["policy", "uniform"])
@pytest.mark.parametrize("simulations", [1, 2, 25, 50])
@pytest.mark.parametrize("batch", [1, 3, 4, 16, 17, 40])
def test_the_fused_path_equals_the_general_path(batch, simulations, prior, noise):
    num_actions = 2 + batch % 3
    network = random_network(batch, num_actions=num_actions, reward_input=["next", "transition"][simulations % 2])
    fused, general, by_its_own = (
        search(
            LearnedModel(network, num_actions=num_actions, gamma=0.97, prior=prior),
            observations_of(batch, batch),
            config=SearchConfig(simulations=simulations),
            generator=np.random.default_rng(5) if noise else None,
            path=path,
        )
        for network, path in ((network, "fused"), (by_torch(network), "general"), (network, "general"))
    )
    assert bytes_of(fused) == bytes_of(by_its_own)
    assert_same_searches(fused, general)


def test_the_fused_path_undoes_the_reward_scale():
    network = random_network(1, num_actions=3, reward_scale=0.05)
    rows, config = observations_of(1, 20), SearchConfig(simulations=25)
    for leaf in ("value", Rollout(horizon=6)):
        fused, general = (
            search(LearnedModel(n, num_actions=3, gamma=0.97, leaf=leaf), rows, config=config, path=path)
            for n, path in ((network, "fused"), (by_torch(network), "general"))
        )
        np.testing.assert_array_equal(fused.visit_counts, general.visit_counts)
        np.testing.assert_allclose(fused.root_value, general.root_value, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(fused.q, general.q, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("leaf", ["value", Rollout(horizon=8, seed=3)])
@pytest.mark.parametrize("dtype", ["uint8", "bool"])
def test_bytes_give_both_paths_the_same_ties_and_rollouts(dtype, leaf):
    rows = np.random.default_rng(2).integers(256, size=(64, 4)).astype(dtype)
    model = LearnedModel(random_network(2, num_actions=3), num_actions=3, gamma=0.97, leaf=leaf, prior="uniform")
    fused, general = (
        search(model, rows, config=SearchConfig(simulations=25), path=path) for path in ("fused", "general")
    )
    assert bytes_of(fused) == bytes_of(general)


@pytest.mark.parametrize(("latent", "hidden"), [(8, 16), (32, 64), (128, 512)])
def test_the_fused_answer_for_a_row_does_not_depend_on_its_batch(latent, hidden):
    network = random_network(3, num_actions=3, latent=latent, hidden=hidden)
    model = LearnedModel(network, num_actions=3, gamma=0.97)
    rows = observations_of(3, 33)
    config = SearchConfig(simulations=25)

    def bits(observations):
        result = search(model, observations, config=config, path="fused")
        return [
            (visits.tobytes(), value.tobytes(), q.tobytes())
            for visits, value, q in zip(result.visit_counts, result.root_value, result.q, strict=True)
        ]

    together = bits(rows)
    assert len(set(together)) == 33
    assert [bits(rows[i : i + 1])[0] for i in range(33)] == together
    for size in (3, 16):
        for first in range(0, 33, size):
            assert bits(rows[first : first + size]) == together[first : first + size]
    order = np.random.default_rng(0).permutation(33)
    assert bits(rows[order]) == [together[i] for i in order]


@pytest.mark.parametrize("num_actions", [2, 3, 4, 18])
@pytest.mark.parametrize("reward_scale", [1.0, 0.3333])
def test_an_untrained_network_spreads_its_visits_evenly_on_both_paths(num_actions, reward_scale):
    network = MLPNetwork(
        observation_size=4,
        num_actions=num_actions,
        support=Support(minimum=-15, maximum=15, atoms=31, reward_scale=reward_scale),
        generator=torch.Generator().manual_seed(3),
    )
    rows, config = observations_of(2, 9), SearchConfig(simulations=6 * num_actions)
    for leaf in ("value", Rollout(horizon=7)):
        fused, general = (
            search(LearnedModel(n, num_actions=num_actions, gamma=0.99, leaf=leaf), rows, config=config, path=path)
            for n, path in ((network, "fused"), (by_torch(network), "general"))
        )
        assert (fused.q == 0).all()
        assert (fused.visit_counts == 6).all()
        np.testing.assert_array_equal(general.visit_counts, fused.visit_counts)


def test_noise_below_the_floor_is_not_stretched_to_the_full_scale():
    rewards = 1e-6 * np.array([[1.0, 0.0]])
    model = TabularModel(np.zeros((1, 2)), rewards, np.full((1, 2), 0.5), np.zeros(1), gamma=0.0)
    assert search(model, [0], config=SearchConfig(simulations=50)).visit_counts[0].tolist() == [25, 25]
    old = SearchConfig(simulations=50, normalisation_floor=1e-8)
    assert search(model, [0], config=old).visit_counts[0].max() > 40


@pytest.mark.parametrize("unit", [0.25, 1024.0])
def test_the_floor_has_no_unit_of_its_own(unit):
    rewards = np.array([[1.0, 1.001, 1.002]])  # a range under the floor

    def visits(rewards, reward_unit):
        model = TabularModel(np.zeros((1, 3)), rewards, np.full((1, 3), 1 / 3), np.zeros(1), gamma=0.0)
        model.reward_unit = reward_unit
        return search(model, [0], config=SearchConfig(simulations=60)).visit_counts[0].tolist()

    assert visits(unit * rewards, unit) == visits(rewards, 1.0)
    networks = [random_network(1, reward_scale=scale) for scale in (1.0, 1 / unit)]
    learned = [LearnedModel(network, num_actions=2, gamma=0.9) for network in networks]
    assert [model.reward_unit for model in learned] == [1.0, unit]
    found = [search(model, observations_of(1, 6), config=SearchConfig(simulations=40)) for model in learned]
    np.testing.assert_array_equal(found[0].visit_counts, found[1].visit_counts)
    np.testing.assert_allclose(unit * found[0].q, found[1].q, rtol=1e-12)


def test_auto_takes_the_fused_path_of_an_mlp(monkeypatch):
    model = LearnedModel(random_network(0), num_actions=2, gamma=0.97)
    asked = []
    monkeypatch.setattr(mcts, "fused_search", lambda *arguments: asked.append(fused_search(*arguments)))
    for path, times in (("auto", 1), ("fused", 2), ("general", 2)):
        search(model, observations_of(0, 5), config=SearchConfig(simulations=10), path=path)
        assert len(asked) == times


def test_the_fused_path_follows_training_in_place():
    network = random_network(0)
    model = LearnedModel(network, num_actions=2, gamma=0.97)
    config = SearchConfig(simulations=5)
    before = search(model, observations_of(0, 2), config=config, path="fused")
    with torch.no_grad():
        network.value_head.b2[-1] += 5
    after = search(model, observations_of(0, 2), config=config, path="fused")
    torch_model = LearnedModel(by_torch(network), num_actions=2, gamma=0.97)
    general = search(torch_model, observations_of(0, 2), config=config, path="general")
    assert (after.root_value > before.root_value + 0.1).all()
    np.testing.assert_allclose(after.root_value, general.root_value, atol=1e-4, rtol=0)


def test_the_fused_path_is_refused_where_there_is_none():
    model = LearnedModel(by_torch(random_network(0)), num_actions=2, gamma=0.97)
    with pytest.raises(ValueError, match="fused path needs"):
        search(model, observations_of(0, 2), config=SearchConfig(), path="fused")
    with pytest.raises(ValueError, match="fused path needs"):
        search(random_tabular_model(0, 3, 2), [0], config=SearchConfig(), path="fused")


def test_a_misspelt_path_is_refused():
    model = LearnedModel(random_network(0), num_actions=2, gamma=0.9)
    with pytest.raises(UsageError, match="path is 'auto' or 'fused' or 'general', not 'genral'"):
        search(model, np.zeros((2, 4), np.float32), config=SearchConfig(simulations=3), path="genral")
