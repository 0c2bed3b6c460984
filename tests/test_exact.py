"""Exact value equivalence, against recursions and enumerations in plain Python."""

import itertools

import numpy as np
import pytest
import torch
from brute import TabularNetwork, all_paths, case, oracle, random_policy, summary
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import random_network

from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.probes.exact import (
    error_bound,
    greedy_regret,
    order_k_errors,
    order_k_summary,
    proper_errors,
    proper_errors_of_all_policies,
)
from mzprobe.probes.model_tables import ModelTables, along_real_states, tables_of_network, tables_over_states

seeds = st.integers(0, 10**6)


# Models and references


def draw(seed):
    return np.random.default_rng([seed, 3])


def tiny_mdp(seed, *, num_states=4, gamma=0.9):
    return random_mdp(seed, num_states=num_states, num_actions=2, terminal_fraction=0.25, gamma=gamma)


def wrong_tables(seed, *, num_states=4, stochastic=False):
    """Random tables over the states, unlike the truth."""
    generator, shape = draw(seed), (num_states, 2)
    transitions = generator.integers(num_states, size=shape)
    if stochastic:
        transitions = generator.dirichlet(np.full(num_states, 0.5), size=shape)
    return tables_over_states(transitions, generator.standard_normal(shape))


def latent_tables(seed, *, num_states=4, num_nodes=6):
    """Random nodes that stand for no state."""
    generator, shape = draw(seed), (num_nodes, 2)
    return ModelTables(
        start=generator.integers(num_nodes, size=num_states),
        transitions=generator.integers(num_nodes, size=shape),
        rewards=generator.standard_normal(shape),
        value=generator.standard_normal(num_nodes),
        policy=generator.dirichlet(np.ones(2), size=num_nodes),
    )


def any_model(seed, env):
    """One of the three kinds of model whose nodes stand for real states."""
    S = len(env.transitions)
    if seed % 3 == 0:
        return wrong_tables(seed, num_states=S)
    if seed % 3 == 1:
        return wrong_tables(seed, num_states=S, stochastic=True)
    return along_real_states(env, latent_tables(seed, num_states=S))


def policies_of(seed, n, num_states=4):
    return np.stack([random_policy(seed + i, num_states, 2, zeros=i % 2 == 0).probabilities for i in range(n)])


def deterministic(num_states, num_actions):
    """Every policy that picks one action a state."""
    choices = itertools.product(range(num_actions), repeat=num_states)
    return [[[float(a == b) for b in range(num_actions)] for a in choice] for choice in choices]


def following(transitions, node, action):
    """(probability, next node) pairs."""
    entry = transitions[node][action]
    return [(1.0, entry)] if np.ndim(entry) == 0 else [(p, n) for n, p in enumerate(entry)]


def updated(transitions, rewards, policy, v, gamma, node, k):
    """(T^k v)(node) by recursion; the policy and v are lists over nodes."""
    if k == 0:
        return v[node]
    total = 0.0
    for action, weight in enumerate(policy[node]):
        later = sum(
            p * updated(transitions, rewards, policy, v, gamma, n, k - 1)
            for p, n in following(transitions, node, action)
        )
        total += weight * (rewards[node][action] + gamma * later)
    return total


def value_by_iteration(transitions, rewards, policy, gamma):
    """v_pi at every node, by updates until nothing is left of where they began; the policy is over nodes."""
    transitions, rewards, policy = np.array(transitions), np.array(rewards), np.array(policy)
    v = np.zeros(len(rewards))
    while True:
        next_v = v[transitions] if transitions.ndim == 2 else transitions @ v
        new = (policy * (rewards + gamma * next_v)).sum(axis=1)
        if np.abs(new - v).max() < 1e-14:
            return new
        v = new


def proper_by_iteration(env, model, policy):
    gamma = env.spec.gamma
    true = value_by_iteration(env.transitions, env.rewards, policy, gamma)
    modelled = value_by_iteration(model.transitions, model.rewards, np.array(policy)[model.state], gamma)
    return np.abs(true - modelled[model.start])


def optimum(transitions, rewards, gamma):
    """Q* at every node, by value iteration."""
    q = np.zeros(np.shape(rewards))
    for _ in range(1000):
        v = q.max(axis=1)
        q = rewards + gamma * (v[transitions] if np.ndim(transitions) == 2 else transitions @ v)
    return q


# Models as tables


def test_network_becomes_the_tables_that_it_was_made_of():
    env, network, _, _ = case(3)
    model = tables_of_network(env, network)
    latent = np.argsort(model.start)  # latents of all states are encoded: node -> state
    assert sorted(model.start) == list(range(5))
    np.testing.assert_array_equal(latent[model.transitions], network.transitions.numpy()[latent])
    np.testing.assert_array_equal(model.rewards, network.rewards.numpy()[latent])
    np.testing.assert_array_equal(model.value, network.values.numpy()[latent])
    np.testing.assert_allclose(model.policy, torch.softmax(network.logits, 1).numpy()[latent], rtol=1e-12)
    assert model.state is None


class Counter:
    """Latents count steps modulo a number, from the state's index; float16, two-dimensional."""

    def __init__(self, modulus):
        self.modulus = modulus

    def represent(self, observations):
        return observations.argmax(dim=-1).to(torch.float16)[:, None, None]

    def dynamics(self, latents, actions):
        return (latents + 1 + actions[:, None, None]) % self.modulus, latents[:, 0, 0] + actions

    def predict(self, latents):
        return torch.zeros(len(latents), 2), latents[:, 0, 0]


def test_latents_are_nodes_in_the_order_they_are_found():
    model = tables_of_network(tiny_mdp(0), Counter(7), limit=7)
    assert model.start.tolist() == [0, 1, 2, 3]
    assert model.value.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert model.transitions.tolist() == [[1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 0], [0, 1]]
    assert model.rewards.tolist() == [[x, x + 1] for x in range(7)]
    assert model.policy.tolist() == [[0.5, 0.5]] * 7


def test_equal_latents_of_two_states_are_one_node():
    class Blind(Counter):
        def represent(self, observations):
            return 0 * super().represent(observations)

    assert tables_of_network(tiny_mdp(0), Blind(3)).start.tolist() == [0, 0, 0, 0]


def test_latents_that_do_not_close_are_refused():
    env = tiny_mdp(0)
    with pytest.raises(ValueError, match=r"do not close within 300 nodes.*mzprobe eval-equivalence"):
        tables_of_network(env, random_network(0, observation_size=4), limit=300)
    with pytest.raises(ValueError, match="within 6 nodes"):
        tables_of_network(env, Counter(7), limit=6)


def test_network_whose_rewards_are_not_finite_is_refused():
    env = tiny_mdp(0)
    with pytest.raises(ValueError, match="rewards must be finite"):
        tables_of_network(env, TabularNetwork(env.transitions, np.full((4, 2), np.nan)))


@given(seed=seeds)
def test_pairs_are_those_that_some_sequence_reaches(seed):
    env, model = tiny_mdp(seed), latent_tables(seed)
    product = along_real_states(env, model)
    reached = {}
    for state, actions in itertools.product(range(4), itertools.product(range(2), repeat=6)):
        real, node, pair = state, model.start[state], product.start[state]
        for action in (*actions, 0):
            assert reached.setdefault((real, node), pair) == pair
            assert product.state[pair] == real
            assert (product.rewards[pair] == model.rewards[node]).all()
            assert (product.policy[pair] == model.policy[node]).all()
            assert product.value[pair] == model.value[node]
            real, node = env.transitions[real, action], model.transitions[node, action]
            pair = product.transitions[pair, action]
    assert len(set(reached.values())) == len(reached)


def test_no_pair_is_out_of_reach():
    env = TabularEnvironment([[1], [2], [2]], [[1], [2], [0]], [0, 0, 1], starts=[0], gamma=0.5, time_limit=9, name="c")
    model = ModelTables(start=np.array([0, 0, 0]), transitions=np.array([[1], [1]]), rewards=np.array([[1.0], [2.0]]))
    product = along_real_states(env, model)
    pairs = {(0, 0), (1, 0), (2, 0), (1, 1), (2, 1)}
    assert len(product.rewards) == len(pairs)
    assert product.value is None
    assert product.policy is None


GOOD = {
    "start": np.array([0, 1]),
    "transitions": np.array([[0], [1], [1]]),
    "rewards": np.zeros((3, 1)),
    "state": np.array([0, 1, 1]),
    "value": np.zeros(3),
    "policy": np.ones((3, 1)),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rewards": np.zeros(3)}, r"rewards must be \[M, A\], not \(3,\)"),
        ({"rewards": np.zeros((3, 0))}, r"rewards must be \[M, A\], not \(3, 0\)"),
        ({"rewards": np.full((3, 1), np.inf)}, "rewards must be finite"),
        ({"transitions": np.zeros((3, 2), int)}, r"transitions must be integers \[M, A\] = \(3, 1\) or probabilities"),
        ({"transitions": np.zeros((3, 1))}, r"\[M, A, M\] = \(3, 1, 3\), not float64 \(3, 1\)"),
        ({"transitions": np.array([[0], [1], [3]])}, r"transitions must lie in 0\.\.2"),
        ({"transitions": np.array([[0], [1], [-1]])}, r"transitions must lie in 0\.\.2"),
        ({"transitions": np.full((3, 1, 3), 0.5)}, "transitions must hold probabilities whose last axis sums to 1"),
        ({"transitions": np.tile([2.0, -1.0, 0.0], (3, 1, 1))}, "transitions must hold probabilities"),
        ({"transitions": np.full((3, 1, 3), np.nan)}, "transitions must hold probabilities"),
        ({"start": np.array([], int)}, "start must name a node for at least one state"),
        ({"start": np.array([0.5, 1])}, "start must be integers"),
        ({"start": np.array([0, 3])}, r"start must lie in 0\.\.2"),
        ({"state": np.array([0, 1])}, r"state must be of shape \(3,\), not \(2,\)"),
        ({"state": np.array([0, 1, 2])}, r"state must lie in 0\.\.1"),
        ({"state": np.array([0.0, 1.0, 1.0])}, "state must be integers"),
        ({"value": np.zeros((3, 1))}, r"value must be of shape \(3,\), not \(3, 1\)"),
        ({"policy": np.ones((3, 2))}, r"policy must be of shape \(3, 1\), not \(3, 2\)"),
    ],
)
def test_bad_tables_are_refused(changed, message):
    ModelTables(**GOOD)
    with pytest.raises(ValueError, match=message):
        ModelTables(**(GOOD | changed))


def test_bad_tables_over_states_are_refused():
    with pytest.raises(ValueError, match=r"transitions must be integers \[M, A\]"):
        tables_over_states([[0.0, 1.0]], [[0.0, 1.0]])
    with pytest.raises(ValueError, match=r"rewards must be \[M, A\]"):
        tables_over_states(0, 0)


def test_tables_are_copied_and_read_only():
    transitions, rewards = np.array([[0]]), np.array([[1.0]])
    model = tables_over_states(transitions, rewards)
    rewards[0] = 2.0
    assert model.rewards[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        model.rewards[0] = 2.0


def test_stochastic_model_cannot_be_moved_along_real_states():
    with pytest.raises(ValueError, match="a stochastic model cannot be moved along real states"):
        along_real_states(tiny_mdp(0), wrong_tables(0, stochastic=True))


# Order k


@settings(max_examples=40)
@given(seed=seeds)
def test_order_k_equals_a_recursion(seed):
    env = tiny_mdp(seed)
    model = any_model(seed, env)
    generator, policies, M = draw(seed), policies_of(seed, 2), len(model.rewards)
    plain, real, nodes = generator.standard_normal(4), generator.standard_normal(4), generator.standard_normal(M)
    errors = order_k_errors(env, model, policies, [plain, (real, nodes)], [3, 1, 4])
    assert errors.shape == (2, 2, 3, 4)
    functions = [(plain, plain[model.state]), (real, nodes)]
    every = itertools.product(enumerate(policies), enumerate(functions), enumerate([3, 1, 4]), range(4))
    for (i, policy), (j, (at_states, at_nodes)), (o, k), s in every:
        if k == 4 and seed % 3 == 1 and s:
            continue  # the recursion through all of [M, A, M] is slow
        true = updated(env.transitions, env.rewards, policy, at_states, 0.9, s, k)
        start, at_model = model.start[s], policy[model.state]
        modelled = updated(model.transitions, model.rewards, at_model, at_nodes, 0.9, start, k)
        assert errors[i, j, o, s] == pytest.approx(abs(true - modelled), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_along_real_states_order_k_is_the_error_of_definition_2(seed):
    """Function and policy are then the same in truth and model, so that the rewards alone differ."""
    env, network, policy, _ = case(seed)
    model = along_real_states(env, tables_of_network(env, network))
    function = draw(seed).standard_normal(5)
    errors = order_k_errors(env, model, policy.probabilities[None], [function], [1, 2, 3])[0, 0]
    for k, s in itertools.product((1, 2, 3), range(5)):
        expected = summary(all_paths(env, network, policy, s, k))["error"]
        assert errors[k - 1, s] == pytest.approx(expected, abs=1e-9)


def test_order_k_by_hand():
    """0 -> 1 for a reward of 1, 1 stays for 2; the model says 3 at 1, and is thought to be worth nothing at first."""
    env = TabularEnvironment([[1], [1]], [[1], [2]], [0, 0], starts=[0], gamma=0.5, time_limit=9, name="two")
    model = tables_over_states([[1], [1]], [[1], [3]])
    errors = order_k_errors(env, model, np.ones((1, 2, 1)), [[7.0, 8.0]], [1, 2, 3])
    assert errors.tolist() == [[[[0, 1], [0.5, 1.5], [0.75, 1.75]]]]
    assert proper_errors(env, model, np.ones((1, 2, 1))).tolist() == [[1, 2]]
    assert proper_errors_of_all_policies(env, model).tolist() == [1, 2]
    assert error_bound(env, model, np.ones((2, 1))) == (1, 2)
    assert greedy_regret(env, model).tolist() == [0, 0]


def test_terminal_states_are_absorbing_in_the_truth_and_what_they_choose_to_be_in_the_model():
    """0 ends in 1; the model is right until there, and then goes on earning 1 a step."""
    env = TabularEnvironment([[1], [0]], [[5], [9]], [0, 1], starts=[0], gamma=0.5, time_limit=9, name="ends")
    model = tables_over_states([[1], [1]], [[5], [1]])
    policy = np.ones((1, 2, 1))
    errors = order_k_errors(env, model, policy, [[0.0, 0.0], [0.0, 4.0]], [1, 2, 3])
    assert errors.tolist() == [[[[0, 1], [0.5, 1.5], [0.75, 1.75]]] * 2]
    assert proper_errors(env, model, policy).tolist() == [[1, 2]]
    assert proper_errors(env, along_real_states(env, model), policy).tolist() == [[1, 2]]


def test_own_value_that_is_consistent_scores_as_it_should():
    """A network that is the truth scores 0.0 with its own value too; one whose value is off by 1 says so nowhere."""
    env, _, policy, _ = case(1)
    network = TabularNetwork(env.transitions, env.rewards, values=np.arange(5.0))
    model = along_real_states(env, tables_of_network(env, network))
    own = model.value[model.start], model.value
    assert (order_k_errors(env, model, policy.probabilities[None], [own], [1, 2, 5]) == 0.0).all()
    shifted = own[0] + 1, own[1]
    errors = order_k_errors(env, model, policy.probabilities[None], [shifted], [1, 2])
    np.testing.assert_allclose(errors[0, 0, 1], 0.81, atol=1e-12)


def test_summary_is_over_states():
    env, model = tiny_mdp(0), wrong_tables(0)
    policies, functions = policies_of(0, 2), list(draw(0).standard_normal((3, 4)))
    rows = order_k_summary(env, model, policies, functions, [2, 5])
    errors = order_k_errors(env, model, policies, functions, [2, 5])
    assert list(rows.columns) == ["policy", "function", "k", "max", "mean"]
    assert len(rows) == 12
    for row in rows.itertuples():
        over_states = errors[row.policy, row.function, [2, 5].index(row.k)]
        assert row.max == over_states.max()
        assert row.mean == over_states.mean()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": latent_tables(0)}, r"stand for no real states: take along_real_states\(environment, model\)"),
        (
            {"model": wrong_tables(0, num_states=3)},
            r"the model has \(3, 2\) states and actions, the environment \(4, 2\)",
        ),
        ({"policies": np.full((4, 2), 0.5)}, r"policies must be \[n, S, A\] = \(n, 4, 2\), not \(4, 2\)"),
        ({"policies": np.full((1, 4, 2), 0.6)}, "policies must hold probabilities whose last axis sums to 1"),
        ({"functions": []}, "functions must hold at least one"),
        ({"functions": [np.zeros(3)]}, r"a function must be \[S\] = \(4,\), or a tuple whose first is, not of \(3,\)"),
        ({"functions": [(np.zeros(4), np.zeros(5))]}, r"the second of a tuple must be \[M\] = \(4,\), not \(5,\)"),
        ({"functions": [np.full(4, np.nan)]}, "functions must be finite"),
        (
            {"functions": [(0.0, 0.0, 0.0)]},
            r"a function must be \[S\] = \(4,\), or a tuple whose first is, not of \(3,\)",
        ),
        ({"orders": [0, 1]}, "orders must hold at least one number, each at least 1"),
        ({"orders": []}, "orders must hold at least one number"),
        ({"orders": [1.5]}, "orders must be integers"),
    ],
)
def test_bad_arguments_of_order_k_are_refused(changed, message):
    good = {"model": wrong_tables(0), "policies": policies_of(0, 1), "functions": [np.zeros(4)], "orders": [1]}
    order_k_errors(tiny_mdp(0), **good)
    with pytest.raises(ValueError, match=message):
        order_k_errors(tiny_mdp(0), **(good | changed))


# Proper


@settings(max_examples=40)
@given(seed=seeds)
def test_proper_errors_equal_those_of_many_updates(seed):
    env = tiny_mdp(seed)
    model, policies = any_model(seed, env), policies_of(seed, 3)
    errors = proper_errors(env, model, policies)
    for i, policy in enumerate(policies):
        np.testing.assert_allclose(errors[i], proper_by_iteration(env, model, policy), atol=1e-9)


@settings(max_examples=40)
@given(seed=seeds)
def test_state_from_which_no_error_is_met_scores_exactly_nothing(seed):
    """One reward is wrong: the states from which the policy does not come to it score 0.0, all others do not."""
    env, policy = tiny_mdp(seed, num_states=8), np.eye(2)[draw(seed).integers(2, size=8)]
    rewards = env.rewards.copy()
    wrong = int(env.starts[0])
    rewards[wrong] += 1
    met = []
    for state in range(8):
        walk = [state]
        for _ in range(8):
            walk.append(env.transitions[walk[-1], policy[walk[-1]].argmax()])
        met.append(wrong in walk)
    errors = proper_errors(env, tables_over_states(env.transitions, rewards), policy[None])[0]
    assert (errors > 0).tolist() == met


def test_rounding_reaches_no_state_that_is_left_alone_by_errors():
    """State 2 stays where it is, and there alone rewards are right: it scores 0.0 whatever else is solved with it."""
    chain = [[1, 2], [1, 1], [2, 2], [0, 1]]
    env = TabularEnvironment(chain, np.zeros((4, 2)), np.zeros(4), starts=[0], gamma=0.95, time_limit=9, name="chain")
    rewards = np.array([[0.1, 0.7], [0.6, 0.6], [0.0, 0.0], [0.3, 0.9]])
    policies = draw(0).dirichlet([1.0, 1.0], size=(50, 4))
    errors = proper_errors(env, tables_over_states(chain, rewards), policies)
    assert (errors[:, 2] == 0.0).all()
    assert (errors[:, [0, 1, 3]] > 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_proper_errors_are_the_limit_of_order_k(seed):
    env = tiny_mdp(seed, gamma=0.5)
    model, policies = any_model(seed, env), policies_of(seed, 2)
    far = order_k_errors(env, model, policies, [np.arange(4.0)], [60])[:, 0, 0]
    np.testing.assert_allclose(proper_errors(env, model, policies), far, atol=1e-12)


@pytest.mark.parametrize("seed", range(9))
def test_largest_error_is_over_all_deterministic_policies(seed):
    env = tiny_mdp(seed)
    model = any_model(seed, env)
    expected = np.max([proper_by_iteration(env, model, policy) for policy in deterministic(4, 2)], axis=0)
    np.testing.assert_allclose(proper_errors_of_all_policies(env, model, limit=16), expected, atol=1e-9)


@pytest.mark.parametrize("wrong", [0, 1])
def test_all_policies_are_looked_at_in_batches(wrong):
    """13 states: two batches; only the policy that is last in one of them has an error at the first state."""
    S = 13
    chain = [[s, min(s + 1, S - 1)] for s in range(S)]
    env = TabularEnvironment(chain, np.zeros((S, 2)), np.zeros(S), starts=[0], gamma=0.5, time_limit=9, name="chain")
    rewards = np.zeros((S, 2))
    rewards[S - 1, wrong] = 1.0
    largest = proper_errors_of_all_policies(env, tables_over_states(chain, rewards))
    np.testing.assert_allclose(largest, [2 * 0.5 ** (S - 1 - s) for s in range(S)], rtol=1e-12)


def test_too_many_policies_and_too_many_nodes_are_refused(monkeypatch):
    env, model = tiny_mdp(0), wrong_tables(0)
    with pytest.raises(ValueError, match=r"there are 2\^4 deterministic policies, more than 15 \(limit\)"):
        proper_errors_of_all_policies(env, model, limit=15)
    monkeypatch.setattr("mzprobe.probes.exact._LARGEST", 3)
    with pytest.raises(ValueError, match=r"linear equations of 4 nodes are too many to solve \(at most 3\)"):
        proper_errors(env, model, policies_of(0, 1))


def test_without_a_discount_only_order_k_is_there():
    env, model = tiny_mdp(0, gamma=1.0), wrong_tables(0)
    assert order_k_errors(env, model, policies_of(0, 1), [np.zeros(4)], [3]).shape == (1, 1, 1, 4)
    for measure in (
        lambda: proper_errors(env, model, policies_of(0, 1)),
        lambda: proper_errors_of_all_policies(env, model),
        lambda: error_bound(env, model, policies_of(0, 1)[0]),
        lambda: greedy_regret(env, model),
    ):
        with pytest.raises(ValueError, match="exact values need gamma < 1"):
            measure()


# The bound


def test_bound_holds():
    for seed in range(300):
        env = tiny_mdp(seed)
        model, policy = any_model(seed, env), policies_of(seed, 2)[seed % 2]
        epsilon, bound = error_bound(env, model, policy)
        largest = proper_errors(env, model, policy[None]).max()
        assert bound == epsilon / (1 - 0.9)
        assert largest <= bound * (1 + 1e-9)
        assert (largest == 0.0) == (epsilon == 0.0)


def test_bound_is_tight_where_every_reward_is_off_by_as_much():
    env = tiny_mdp(5)
    model = tables_over_states(env.transitions, env.rewards + 0.25)
    policy = policies_of(5, 1)
    epsilon, bound = error_bound(env, model, policy[0])
    assert epsilon == pytest.approx(0.25, abs=1e-12)
    np.testing.assert_allclose(proper_errors(env, model, policy), bound, rtol=1e-12)


def test_epsilon_is_over_nodes_that_the_policy_reaches_not_encodings_alone():
    """Encodings of both states are right; a third node, which stands for state 1 too and follows state 0, is not."""
    env = TabularEnvironment([[1, 0]] * 2, np.zeros((2, 2)), [0, 0], starts=[0], gamma=0.5, time_limit=9, name="two")
    model = ModelTables(
        start=np.array([0, 1]),
        transitions=np.array([[2, 0], [1, 0], [2, 2]]),
        rewards=np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]),
        state=np.array([0, 1, 1]),
    )
    always, never = np.array([[1.0, 0.0]] * 2), np.array([[0.0, 1.0]] * 2)
    assert error_bound(env, model, always) == (1, 2)
    assert proper_errors(env, model, np.stack([always, never])).tolist() == [[1, 0], [0, 0]]
    assert error_bound(env, model, never) == (0, 0)


# Regret


@settings(max_examples=40)
@given(seed=seeds, stochastic=st.booleans(), latent=st.booleans())
@example(seed=92, stochastic=False, latent=False)  # elimination alone leaves -5e-16
def test_regret_equals_that_of_value_iteration(seed, stochastic, latent):
    env = tiny_mdp(seed)
    model = latent_tables(seed) if latent else wrong_tables(seed, stochastic=stochastic)
    greedy = optimum(model.transitions, model.rewards, 0.9)[model.start].argmax(axis=1)
    values = [value_by_iteration(env.transitions, env.rewards, policy, 0.9) for policy in deterministic(4, 2)]
    acting = value_by_iteration(env.transitions, env.rewards, np.eye(2)[greedy], 0.9)
    regret = greedy_regret(env, model)
    np.testing.assert_allclose(regret, np.max(values, axis=0) - acting, atol=1e-9)
    assert (regret >= 0).all()


def test_equally_good_actions_go_to_the_lowest():
    """Both models cannot tell two actions apart, to rounding; the lowest earns 1 a step less than the other."""
    env = TabularEnvironment([[0, 0]], [[0, 1]], [0], starts=[0], gamma=0.5, time_limit=9, name="one")
    assert greedy_regret(env, tables_over_states([[0, 0]], [[1, 1 + 1e-15]])).tolist() == [2]
    assert greedy_regret(env, tables_over_states([[0, 0]], [[1, 1 + 1e-9]])).tolist() == [0]
    nearly = TabularEnvironment([[0, 0]], [[1, 1 + 1e-15]], [0], starts=[0], gamma=0.5, time_limit=9, name="nearly")
    assert greedy_regret(nearly, tables_over_states([[0, 0]], [[1, 1 + 1e-15]])).tolist() == [0]


def test_regret_refuses_a_model_of_another_environment():
    with pytest.raises(ValueError, match=r"the model has \(3, 2\) states and actions"):
        greedy_regret(tiny_mdp(0), wrong_tables(0, num_states=3))


# A perfect model


def perfect_models(env, seed):
    """The truth as tables, with certainty as probabilities, as a network, along real states, and in other nodes."""
    S, A = env.transitions.shape
    tables = tables_over_states(env.transitions, env.rewards)
    network = tables_of_network(env, oracle(env))
    order = draw(seed).permutation(S)  # node -> state, and each state twice
    twice = np.concatenate([order, order])
    copy = draw(seed).integers(2, size=(2 * S, A))
    place = np.argsort(order)
    doubled = ModelTables(
        start=place + S * draw(seed).integers(2, size=S),
        transitions=place[env.transitions[twice]] + S * copy,
        rewards=env.rewards[twice],
        state=twice,
    )
    certain = tables_over_states(np.eye(S)[env.transitions], env.rewards)
    return [tables, certain, along_real_states(env, tables), along_real_states(env, network), doubled]


@settings(max_examples=40)
@given(seed=seeds, gamma=st.sampled_from([0.3, 0.9, 0.997]))
def test_perfect_model_scores_exactly_nothing(seed, gamma):
    env = tiny_mdp(seed, num_states=6, gamma=gamma)
    policies, functions = policies_of(seed, 2, 6), draw(seed).standard_normal((2, 6))
    for model in perfect_models(env, seed):
        assert (order_k_errors(env, model, policies, functions, [1, 2, 7]) == 0.0).all()
        assert (proper_errors(env, model, policies) == 0.0).all()
        assert (proper_errors_of_all_policies(env, model) == 0.0).all()
        assert error_bound(env, model, policies[0]) == (0.0, 0.0)
        assert (greedy_regret(env, model) == 0.0).all()
    assert (greedy_regret(env, tables_of_network(env, oracle(env))) == 0.0).all()
