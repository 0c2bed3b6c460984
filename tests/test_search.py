"""The search follows its rule visit for visit, whichever path runs it and whatever stands beside a row."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TabularModel, assert_same_searches, by_torch, random_network, random_tabular_model
from reference import assert_same_tree, reference_search, tie_key
from regenerate_golden import PATH, model_of, trees

from mzprobe.config import SearchConfig
from mzprobe.envs import random_mdp
from mzprobe.networks import MLPNetwork, Support
from mzprobe.search import LearnedModel, Rollout, SearchResult, actions_from_uniforms, mcts, sample_actions, search
from mzprobe.search.fused import fused_search
from mzprobe.threads import limited_threads


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Bits repeat for an equal number of threads; training uses one."""
    with limited_threads(1):
        yield


def assert_equals_reference(model, roots, config, *, noise_seed=None):
    """Compares every root's tree with the reference, bit for bit."""
    generator = None if noise_seed is None else np.random.default_rng(noise_seed)
    result = search(model, roots, config=config, generator=generator, keep_tree=True, path="general")
    noise = [None] * len(roots)
    if noise_seed is not None:
        alpha = np.full(model.num_actions, config.dirichlet_alpha)
        noise = np.random.default_rng(noise_seed).dirichlet(alpha, size=len(roots))
    for b, root in enumerate(roots):
        start, expand = model.callables(root)
        node, nodes = reference_search(
            start,
            expand,
            simulations=config.simulations,
            gamma=model.gamma,
            c1=config.c1,
            c2=config.c2,
            floor=config.normalisation_floor,
            noise=noise[b],
            fraction=config.dirichlet_fraction,
            key=tie_key([root]) if config.ties == "lot" else None,
            untried=config.untried,
            expansion=int(config.node_visits == "all"),
        )
        assert_same_tree(result, b, node, nodes)


# The rule


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_actions=st.integers(1, 5),
    simulations=st.integers(1, 40),
    gamma=st.floats(0, 1),
    c1=st.floats(0, 10),
    c2=st.floats(0.1, 1e5),
    floor=st.sampled_from([1e-8, 1e-2, 1.0]),
    scale=st.sampled_from([1e-12, 1.0, 1e9]),
    ties=st.booleans(),
    rule=st.sampled_from(["lot", "lowest"]),
    untried=st.sampled_from(["least", "mean"]),
    counted=st.sampled_from(["all", "children"]),
    noise_seed=st.none() | st.integers(0, 1000),
)
def test_the_kernels_equal_the_plain_search_bit_for_bit(
    seed, num_actions, simulations, gamma, c1, c2, floor, scale, ties, rule, untried, counted, noise_seed
):
    model = random_tabular_model(seed, 6, num_actions, gamma=gamma, scale=scale, ties=ties)
    given = {"normalisation_floor": floor, "ties": rule, "untried": untried, "node_visits": counted}
    config = SearchConfig(simulations=simulations, c1=c1, c2=c2, **given)
    assert_equals_reference(model, [0, 5, 2], config, noise_seed=noise_seed)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_root_noise_is_mixed_into_the_root_prior_alone(fraction):
    model = random_tabular_model(4, 6, 3)
    config = SearchConfig(simulations=20, dirichlet_fraction=fraction)
    result = search(model, [1, 2], config=config, generator=np.random.default_rng(9), keep_tree=True)
    noise = np.random.default_rng(9).dirichlet(np.full(3, config.dirichlet_alpha), size=2)
    np.testing.assert_array_equal(result.prior, (1 - fraction) * model.prior[[1, 2]] + fraction * noise)
    plain = {tuple(row) for row in model.prior}
    assert {tuple(row) for row in result.tree.prior[:, 1:].reshape(-1, 3)} <= plain


def test_an_untried_action_is_worth_the_mean_of_those_tried_by_hand():
    """All actions pay 1 here, and there is less further down: those of prior 0.2 are tried soon by the mean of 1."""
    prior = np.array([[0.6, 0.2, 0.2], [1 / 3] * 3])
    rewards = np.array([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]])
    model = TabularModel(np.ones((2, 3), int), rewards, prior, np.zeros(2), gamma=0.5)
    counts = {}
    for untried in ("least", "mean"):
        config = SearchConfig(simulations=6, untried=untried)
        counts[untried] = search(model, [0], config=config).visit_counts[0].tolist()
    assert counts["least"] == [6, 0, 0]
    assert min(counts["mean"]) > 0


def same_everywhere(num_actions, states=1):
    """A model in which nothing tells one action from another."""
    zeros = np.zeros((states, num_actions))
    return TabularModel(zeros, zeros, np.full((states, num_actions), 1 / num_actions), np.zeros(states), gamma=1.0)


def test_ties_go_to_the_lowest_action_where_that_is_asked_for():
    for simulations, counts in ((1, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (5, [2, 1, 1, 1]), (8, [2, 2, 2, 2])):
        config = SearchConfig(simulations=simulations, ties="lowest")
        assert search(same_everywhere(4), [0], config=config).visit_counts[0].tolist() == counts


def test_ties_are_drawn_by_lot_so_that_every_action_is_first_at_some_root():
    roots = list(range(400))
    result = search(same_everywhere(4, states=400), roots, config=SearchConfig(simulations=2))
    assert (result.visit_counts.max(axis=1) == 1).all()
    tried = result.visit_counts.sum(axis=0)  # 200 each are expected, with a standard deviation of 10
    assert (abs(tried - 200) < 50).all()
    even = search(same_everywhere(4, states=400), roots, config=SearchConfig(simulations=8)).visit_counts
    assert (even == 2).all()


def test_what_differs_by_the_rounding_of_a_sum_is_a_tie():
    rewards = np.array([[0.1 + 0.2, 0.3]])
    assert rewards[0, 0] != rewards[0, 1]
    model = TabularModel(np.zeros((1, 2)), rewards, np.full((1, 2), 0.5), np.zeros(1), gamma=0.0)
    config = SearchConfig(simulations=2)
    result = search(model, [0], config=config)
    assert result.visit_counts[0].tolist() == [1, 1]
    assert result.acting(0).tolist() == [[0.5, 0.5]]


def test_of_the_most_visited_actions_the_one_of_the_largest_value_is_played():
    model = TabularModel(np.zeros((1, 3)), [[0.0, 2.0, 1.0]], np.full((1, 3), 1 / 3), np.zeros(1), gamma=0.0)
    result = search(model, [0], config=SearchConfig(simulations=3, c1=100.0))
    assert result.visit_counts[0].tolist() == [1, 1, 1]
    assert result.acting(0).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("best", range(4))
def test_the_first_simulation_follows_the_prior(best):
    prior = np.full((1, 4), 0.2)
    prior[0, best] = 0.4
    model = TabularModel(np.zeros((1, 4)), np.ones((1, 4)), prior, np.ones(1), gamma=0.9)
    result = search(model, [0], config=SearchConfig(simulations=1))
    assert result.visit_counts[0].argmax() == best


def test_a_single_action_is_tried_every_time():
    model = random_tabular_model(0, 3, 1)
    assert search(model, [0], config=SearchConfig(simulations=9)).visit_counts.tolist() == [[9]]


def test_two_simulations_back_up_the_numbers_worked_out_by_hand():
    # A chain 0 -> 1 -> 2, one action, rewards 1 and 2, values 10, 20, 30, gamma 1/2.
    # First: G = 1 + 20/2 = 11. Second: G = 1 + (2 + 30/2)/2 = 9.5. V(1) = (20 + 17) / 2 = 18.5.
    model = TabularModel([[1], [2], [2]], [[1], [2], [0]], np.ones((3, 1)), [10, 20, 30], gamma=0.5)
    result = search(model, [0], config=SearchConfig(simulations=2))
    assert result.root_value[0] == (10 + 11 + 9.5) / 3
    assert result.q[0, 0] == 1 + 18.5 / 2


GAMMA, MARGIN = 0.6, 0.1


@pytest.mark.parametrize("num_actions", [2, 3])
def test_with_many_simulations_the_most_visited_action_is_optimal_where_the_gap_is_wide(num_actions):
    tested = 0
    for seed in range(15):
        environment = random_mdp(seed, num_states=6, num_actions=num_actions, gamma=GAMMA)
        optimal = environment.optimal_values()
        q = environment.rewards + GAMMA * optimal[environment.transitions]
        ordered = np.sort(q, axis=1)
        roots = np.flatnonzero(ordered[:, -1] - ordered[:, -2] > MARGIN)
        result = search(TabularModel.of_environment(environment), roots, config=SearchConfig(simulations=2000))
        np.testing.assert_array_equal(result.visit_counts.argmax(axis=1), q[roots].argmax(axis=1))
        tested += len(roots)
    assert tested > 40


def test_trees_equal_the_golden_ones():
    golden = json.loads(PATH.read_text("utf-8"))
    made = trees(model_of(golden["tables"]), golden["roots"], SearchConfig(**golden["config"]))
    assert {name: made[name] for name in golden["tree"]} == golden["tree"]


# The fused path


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


# What a search gives


def test_visit_counts_sum_to_the_number_of_simulations():
    model = random_tabular_model(1, 8, 4)
    for simulations in (1, 7, 33):
        result = search(model, np.arange(8), config=SearchConfig(simulations=simulations))
        assert result.visit_counts.sum(axis=1).tolist() == [simulations] * 8


def test_a_tree_is_consistent_and_only_kept_where_asked_for():
    model = random_tabular_model(2, 8, 3)
    assert search(model, [0], config=SearchConfig(simulations=5)).tree is None
    tree = search(model, np.arange(8), config=SearchConfig(simulations=30), keep_tree=True).tree
    np.testing.assert_array_equal(tree.visits, 1 + tree.edge_visits.sum(axis=2))
    assert (tree.parent[:, 0] == -1).all()
    for b in range(8):
        for slot in range(1, 31):
            parent, action = tree.parent[b, slot], tree.parent_action[b, slot]
            assert parent < slot
            assert tree.child[b, parent, action] == slot
            assert tree.edge_visits[b, parent, action] == tree.visits[b, slot]
            mean = tree.value_sum[b, slot] / tree.visits[b, slot]
            assert tree.q[b, parent, action] == tree.reward[b, parent, action] + model.gamma * mean
    np.testing.assert_array_equal(tree.child >= 0, tree.edge_visits > 0)
    tried = np.where(tree.edge_visits > 0, tree.q, np.nan)
    assert (np.nanmin(tried, axis=(1, 2)) >= tree.bounds[:, 0]).all()
    assert (np.nanmax(tried, axis=(1, 2)) <= tree.bounds[:, 1]).all()


def test_a_result_is_frozen():
    result = search(random_tabular_model(0, 3, 2), [0], config=SearchConfig(simulations=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.root_value = np.zeros(1)


def test_no_roots_are_refused():
    with pytest.raises(ValueError, match="at least one root"):
        search(random_tabular_model(0, 3, 2), [], config=SearchConfig())


def counted(*rows):
    """A result with these visit counts."""
    visits = np.array(rows, np.int32)
    return SearchResult(visit_counts=visits, root_value=np.zeros(len(rows)), q=visits * 0.0, prior=visits, tree=None)


def test_the_policy_is_the_counts_to_the_power_of_one_over_the_temperature():
    result = counted([3, 1, 0], [0, 20, 30])
    np.testing.assert_allclose(result.acting(1.0), [[3 / 4, 1 / 4, 0], [0, 2 / 5, 3 / 5]], rtol=1e-15)
    np.testing.assert_allclose(result.acting(0.5), [[9 / 10, 1 / 10, 0], [0, 4 / 13, 9 / 13]], rtol=1e-15)


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any),
    temperature=st.floats(1e-300, 100),
)
def test_a_policy_sums_to_one_at_every_temperature(counts, temperature):
    probabilities = counted(counts).acting(temperature)[0]
    assert abs(probabilities.sum() - 1) < 1e-12
    assert (probabilities[np.array(counts) == 0] == 0).all()


def test_a_small_temperature_is_greedy_and_shares_between_equals():
    np.testing.assert_array_equal(counted([5, 4, 0], [4, 1, 4]).acting(1e-6), [[1, 0, 0], [0.5, 0, 0.5]])


def test_the_policy_at_temperature_zero_is_shared_by_the_most_visited_actions_alone():
    result = counted([5, 4, 0], [4, 1, 4], [2, 2, 2], [0, 0, 9])
    third = 1 / 3
    expected = [[1, 0, 0], [0.5, 0, 0.5], [third, third, third], [0, 0, 1]]
    assert result.acting(0).tolist() == result.acting(0.0).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any))
def test_temperature_zero_is_the_limit_of_small_temperatures(counts):
    # Counts below 10^4 differ by more than 1 in 10^4, and (1 - 10^-4)^(10^9) is 0.
    np.testing.assert_array_equal(counted(counts).acting(0), counted(counts).acting(1e-9))


@pytest.mark.parametrize("temperature", [-1e-300, -1.0, float("-inf"), float("nan")])
def test_a_negative_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="must not be negative"):
        counted([1, 2]).acting(temperature)


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 3.0]) | st.floats(0, 1), min_size=1, max_size=6).filter(
        lambda row: sum(row) > 1e-12
    ),
    uniform=st.floats(0, 1, exclude_max=True) | st.just(np.nextafter(1, 0)),
)
def test_an_action_is_the_first_whose_running_sum_passes_the_number(weights, uniform):
    total = 0.0
    sums = [total := total + weight for weight in weights]
    expected = next(a for a, passed in enumerate(sums) if passed > uniform * total)
    chosen = actions_from_uniforms(np.array([weights]), np.array([uniform]))[0]
    assert chosen == expected
    assert weights[chosen] > 0


def test_sampled_actions_have_the_frequencies_of_their_probabilities():
    probabilities = np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    draws = 40_000
    actions = sample_actions(np.tile(probabilities, (draws, 1)), np.random.default_rng(1))
    shares = np.bincount(actions, minlength=6) / draws
    assert (shares[probabilities == 0] == 0).all()
    # Four standard errors.
    assert (np.abs(shares - probabilities) <= 4 * np.sqrt(probabilities * (1 - probabilities) / draws)).all()
