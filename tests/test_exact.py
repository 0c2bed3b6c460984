"""Exact value equivalence, against recursions and enumerations in plain Python."""

import itertools

import numpy as np
import pytest
from brute import TabularNetwork, all_paths, case, oracle, summary
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tabular_models import (
    any_model,
    deterministic,
    draw,
    latent_tables,
    optimum,
    policies_of,
    proper_by_iteration,
    seeds,
    tiny_mdp,
    updated,
    value_by_iteration,
    wrong_tables,
)

from mzprobe.envs import TabularEnvironment
from mzprobe.probes.exact import (
    error_bound,
    greedy_regret,
    order_k_errors,
    order_k_summary,
    proper_errors,
    proper_errors_of_all_policies,
)
from mzprobe.probes.model_tables import ModelTables, along_real_states, tables_of_network, tables_over_states

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
