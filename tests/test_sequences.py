"""The sequences probe: every action sequence, its probability along the real states, its error and its rank."""

import itertools
import math

import brute
import numpy as np
import pandas as pd
import pytest
import torch
from agents import made_agent
from brute import TabularNetwork, TabularPolicy, case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from scipy.stats import kendalltau, spearmanr

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.envs.tabular import TabularStates
from mzprobe.errors import UsageError
from mzprobe.probes.sampling import Sample, sample_states
from mzprobe.probes.sequences import UNITS, WAYS, measure_sequences, score_sequences
from mzprobe.seeding import numpy_generator
from mzprobe.settings import SequencesConfig
from mzprobe.sources.own import load_agent
from mzprobe.stats import spearman


def one_state(index=0):
    """A sample of a single state."""
    return Sample(states=TabularStates(np.array([index])), episode=np.array([0]), time=np.array([0]))


def scored(env, network, policy, sample, **options):
    """The probe with a policy, another one at T = 1, and so on: here each with more of the uniform one in it."""
    A = env.spec.num_actions

    def policies(states):
        pi = policy.distribution(states)
        return np.stack([(1 - share) * pi + share / A for share in MIXED])

    return score_sequences(env, network, policies, sample, **options)


MIXED = (0.0, 0.25, 0.5, 1.0)  # the share of the uniform policy, way by way


def levels(numbers, *, scale=None):
    """Whole numbers in the order of the given ones, equal where these are but for rounding, that of sums of a scale."""
    known, level, near = {}, 0, {"rel_tol": 1e-12} if scale is None else {"rel_tol": 0, "abs_tol": 1e-12 * scale}
    for below, number in itertools.pairwise([-np.inf, *sorted(numbers)]):
        level += not math.isclose(below, number, **near)
        known[number] = level
    return [known[number] for number in numbers]


def scale_of(rows):
    """The largest true or predicted value of a state's sequences."""
    return max(rows["value"].abs().max(), rows["predicted_value"].abs().max())


# Against enumeration


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num_actions=st.integers(1, 3), h=st.integers(1, 4), zeros=st.booleans())
def test_every_sequence_has_its_probability_value_and_error(seed, num_actions, h, zeros):
    env, network, policy, sample = case(seed, num_actions=num_actions, zeros=zeros and num_actions > 1)
    rows = scored(env, network, policy, sample, length=h)
    n = num_actions**h
    assert rows[["state", "sequence"]].to_numpy().tolist() == [[s, i] for s in range(5) for i in range(n)]
    for state, own in rows.groupby("state"):
        paths = brute.all_paths(env, network, policy, state, h)
        np.testing.assert_allclose(own["probability"], [path.probability for path in paths], rtol=0, atol=1e-12)
        np.testing.assert_allclose(own["value"], [path.value for path in paths], rtol=0, atol=1e-12)
        np.testing.assert_allclose(own["predicted_value"], [path.predicted for path in paths], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            own["error"], [abs(path.value - path.predicted) for path in paths], rtol=0, atol=1e-12
        )
        for way, share in zip(WAYS, MIXED, strict=True):
            mixed = TabularPolicy((1 - share) * policy.probabilities + share / num_actions)
            expected = [path.probability for path in brute.all_paths(env, network, mixed, state, h)]
            np.testing.assert_allclose(own[f"probability{way}"], expected, rtol=0, atol=1e-12)
        assert own["probability"].sum() == pytest.approx(1, abs=1e-12)
        assert set(own["end_within"]) == {any(not path.alive for path in paths)}
    assert (rows["episode"] == rows["state"] * 2).all()
    assert (rows["time"] == rows["state"] * 3).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num_actions=st.integers(2, 3), h=st.integers(1, 4), zeros=st.booleans())
def test_ranks_go_from_the_least_to_the_most_probable(seed, num_actions, h, zeros):
    env, network, policy, sample = case(seed, num_actions=num_actions, zeros=zeros)
    rows = scored(env, network, policy, sample, length=h)
    for _, own in rows.groupby("state"):
        assert sorted(own["rank"]) == list(range(1, num_actions**h + 1))
        ordered = own.sort_values("rank")["probability"].to_numpy()
        assert (ordered[1:] >= ordered[:-1] * (1 - 1e-12)).all()
        for row in own.itertuples():
            pairs = zip(own["probability"], own["error"], strict=True)
            tied = [error for p, error in pairs if math.isclose(p, row.probability, rel_tol=1e-12)]
            assert row.rank_error == pytest.approx(sum(tied) / len(tied), abs=1e-12)
    if zeros:
        assert (rows["rank_error"] != rows["error"]).any() or h == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), zeros=st.booleans())
def test_rho_is_the_mean_over_states_of_spearmans(seed, zeros):
    env, network, policy, sample = case(seed, num_actions=3, zeros=zeros)
    rows = scored(env, network, policy, sample, length=3)
    expected = []
    for _, own in rows.groupby("state"):
        errors = levels(own["error"], scale=scale_of(own))
        expected.append(spearmanr(levels(own["probability"]), errors).statistic)
        assert own["state_rho"].to_numpy() == pytest.approx([expected[-1]] * 27, abs=1e-9)
    assert rows["rho"].to_numpy() == pytest.approx([np.mean(expected)] * len(rows), abs=1e-9)
    for way in WAYS[1:3]:
        own = [
            spearmanr(levels(one[f"probability{way}"]), levels(one["error"], scale=scale_of(one))).statistic
            for _, one in rows.groupby("state")
        ]
        assert rows[f"rho{way}"].to_numpy() == pytest.approx([np.mean(own)] * len(rows), abs=1e-9)
    assert rows["rho_prior"].isna().all()  # of the uniform policy, which has no order


# By hand


def test_a_constant_policy_gives_equal_probabilities_to_the_orders_of_its_actions():
    # Every sequence of two actions, in a world whose only state pays 1 for action 1; the model predicts 0, 5 and so on.
    env = TabularEnvironment([[0, 0]], [[0.0, 1.0]], [False], starts=[0], gamma=0.5, time_limit=9, name="one")
    network = TabularNetwork([[0, 0]], [[0.25, 3.0]])
    rows = scored(env, network, TabularPolicy(np.array([[0.75, 0.25]])), one_state(), length=2)
    assert rows["sequence"].tolist() == [0, 1, 2, 3]
    assert rows["probability"].tolist() == [0.5625, 0.1875, 0.1875, 0.0625]
    assert rows["value"].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert rows["predicted_value"].tolist() == [0.375, 1.75, 3.125, 4.5]
    assert rows["error"].tolist() == [0.375, 1.25, 2.125, 3.0]
    assert rows["rank"].tolist() == [4, 2, 3, 1]
    assert rows["rank_error"].tolist() == [0.375, 1.6875, 1.6875, 3.0]
    # Ranks of probability 4, 2.5, 2.5, 1 and of error 1, 2, 3, 4: -4.5 over the square root of 4.5 times 5.
    assert rows["state_rho"].tolist() == pytest.approx([-4.5 / np.sqrt(22.5)] * 4)


def test_the_probability_follows_the_real_states_and_not_the_models():
    # In truth action 1 leads to state 1, where only action 0 is taken; the model believes to stay in state 0.
    env = TabularEnvironment(
        [[0, 1], [1, 1]], np.zeros((2, 2)), [False] * 2, starts=[0], gamma=0.5, time_limit=9, name="two"
    )
    policy = TabularPolicy(np.array([[0.5, 0.5], [1.0, 0.0]]))
    rows = scored(env, TabularNetwork([[0, 0], [0, 0]], np.zeros((2, 2))), policy, one_state(), length=2)
    assert rows["probability"].tolist() == [0.25, 0.25, 0.5, 0.0]


def test_a_state_that_has_ended_keeps_its_policy():
    env = TabularEnvironment(
        [[1, 0], [1, 1]], [[1.0, 0.0], [0.0, 0.0]], [False, True], starts=[0], gamma=0.5, time_limit=9, name="end"
    )
    policy = TabularPolicy(np.array([[1.0, 0.0], [0.25, 0.75]]))
    network = TabularNetwork([[1, 0], [1, 1]], [[1.0, 0.0], [8.0, 8.0]])
    rows = scored(env, network, policy, one_state(), length=3)
    assert rows["probability"].tolist()[:4] == [0.0625, 0.1875, 0.1875, 0.5625]
    assert rows["value"].tolist()[:4] == [1.0] * 4
    assert rows["predicted_value"].tolist()[:4] == [7.0] * 4


@pytest.mark.parametrize("h", [2, 3, 5])
def test_orders_of_the_same_actions_are_tied_whatever_the_rounding_of_their_products(h):
    # Under a policy that is the same everywhere, all orders of the same actions are equally probable.
    env = random_mdp(1, num_states=6, num_actions=2, terminal_fraction=0)
    policy = TabularPolicy(np.tile([0.7, 0.3], (6, 1)))
    rows = scored(env, brute.wrong_network(1, 6, 2), policy, one_state(), length=h)
    ones = [sum(actions) for actions in itertools.product(range(2), repeat=h)]
    for _, own in rows.groupby(ones):
        assert own["rank_error"].to_numpy() == pytest.approx([own["error"].mean()] * len(own), abs=1e-12)
    by_ones = [h - k for k in ones]
    assert rows["state_rho"].iloc[0] == pytest.approx(spearmanr(by_ones, rows["error"]).statistic, abs=1e-12)


def test_sums_of_the_same_rewards_in_another_order_have_no_order():
    # Rewards of 0.1, 0.2 and 0.3 in a world with no discount; the model is wrong by the same 0.1 every time, or right.
    pays = [[0.1, 0.2, 0.3]]
    env = TabularEnvironment([[0, 0, 0]], pays, [False], starts=[0], gamma=1.0, time_limit=9, name="one")
    policy = TabularPolicy(np.array([[0.5, 0.3, 0.2]]))
    wrong = scored(env, TabularNetwork([[0, 0, 0]], [[0.2, 0.3, 0.4]]), policy, one_state(), length=4)
    assert len(set(wrong["error"])) > 1  # by rounding
    for way in WAYS:
        assert wrong[f"state_rho{way}"].isna().all()
        assert wrong[f"rho{way}"].isna().all()
    assert wrong["state_tau"].to_numpy() == pytest.approx([1.0] * 81, abs=1e-12)
    best = wrong["value"].max()
    assert wrong["regret"].to_numpy() == pytest.approx([best - wrong["value"].iloc[-1]] * 81, abs=1e-12)


# Decisions


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num_actions=st.integers(2, 3), h=st.integers(1, 3))
def test_decision_measures_equal_their_definitions(seed, num_actions, h):
    env, network, policy, sample = case(seed, num_actions=num_actions)
    rows = scored(env, network, policy, sample, length=h)
    for state, own in rows.groupby("state"):
        paths = brute.all_paths(env, network, policy, state, h)
        value, predicted = [path.value for path in paths], [path.predicted for path in paths]
        orders = [levels(one, scale=scale_of(own)) for one in (value, predicted)]
        tau = kendalltau(*orders).statistic if len(set(orders[0])) > 1 else math.nan
        best = [i for i, x in enumerate(orders[1]) if x == max(orders[1])]
        regret = max(value) - sum(value[i] for i in best) / len(best)
        assert own["state_tau"].tolist() == [pytest.approx(tau, abs=1e-9, nan_ok=True)] * len(own)
        assert own["regret"].tolist() == [pytest.approx(regret, abs=1e-9)] * len(own)
        # The affine fit by a solver of its own: least squares with a slope that may not fall below 0.
        fit = lsq_linear(
            np.column_stack([np.ones(len(value)), predicted]), value, bounds=([-np.inf, 0], np.inf), tol=1e-14
        )
        residual = math.sqrt(2 * fit.cost / len(value))
        assert own["affine_residual"].tolist() == [pytest.approx(residual, abs=1e-6)] * len(own)


def test_a_model_right_up_to_scale_and_offset_decides_like_the_truth():
    # Both actions pay, the second one more; the model triples rewards and adds 1 to each.
    env = TabularEnvironment([[0, 0]], [[1.0, 2.0]], [False], starts=[0], gamma=0.5, time_limit=9, name="one")
    policy = TabularPolicy(np.array([[0.5, 0.5]]))
    scaled = scored(env, TabularNetwork([[0, 0]], [[4.0, 7.0]]), policy, one_state(), length=3)
    assert scaled["error"].min() > 0
    assert scaled["state_tau"].tolist() == pytest.approx([1.0] * 8)
    assert scaled["regret"].tolist() == [0.0] * 8
    assert scaled["affine_residual"].to_numpy() == pytest.approx([0.0] * 8, abs=1e-12)
    # One that has them the wrong way round: the best decision costs all there is, 1.75, and no slope >= 0 helps.
    reversed_ = scored(env, TabularNetwork([[0, 0]], [[2.0, 1.0]]), policy, one_state(), length=3)
    assert reversed_["state_tau"].tolist() == pytest.approx([-1.0] * 8)
    assert reversed_["regret"].tolist() == [1.75] * 8
    assert reversed_["affine_residual"].to_numpy() == pytest.approx([reversed_["value"].std(ddof=0)] * 8)
    # One that sees no difference: no tau, and the regret of a choice by lot.
    blind = scored(env, TabularNetwork([[0, 0]], [[1.0, 1.0]]), policy, one_state(), length=3)
    assert blind["state_tau"].isna().all()
    assert blind["regret"].tolist() == [0.875] * 8


# Spearman

NUMBERS = st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]) | st.floats(-1e3, 1e3), min_size=2, max_size=30)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_spearman_equals_scipys_and_is_nan_where_one_is_constant(data):
    x = np.array(data.draw(NUMBERS))
    y = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=len(x), max_size=len(x))))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_a_state_without_a_rho_is_left_out_of_the_mean():
    # State 0 pays nothing and the model knows it; the other state's model is wrong about action 1 alone.
    env = TabularEnvironment(
        [[0, 0], [1, 1]], np.zeros((2, 2)), [False] * 2, starts=[0], gamma=0.5, time_limit=9, name="two"
    )
    network = TabularNetwork([[0, 0], [1, 1]], [[0.0, 0.0], [0.0, 1.0]])
    policy = TabularPolicy(np.array([[0.75, 0.25]] * 2))
    sample = Sample(states=TabularStates(np.array([0, 1])), episode=np.zeros(2, int), time=np.zeros(2, int))
    rows = scored(env, network, policy, sample, length=1)
    assert rows["state_rho"].isna().tolist() == [True, True, False, False]
    assert rows["state_rho"].tolist()[2:] == pytest.approx([-1, -1])
    assert rows["rho"].tolist() == pytest.approx([-1] * 4)
    alone = scored(env, network, policy, sample.take(np.array([0])), length=1)
    assert alone["rho"].isna().all()


# Portions, checkpoints


def test_portions_of_states_change_no_byte():
    env, network, policy, sample = case(6, num_actions=3)
    whole = scored(env, network, policy, sample, length=3)
    for held in (1, 60):
        parts = scored(env, network, policy, sample, length=3, batch_size=held)
        pd.testing.assert_frame_equal(parts, whole, check_exact=True)


def test_more_sequences_than_fit_are_a_usage_error():
    env, network, policy, sample = case(0)
    with pytest.raises(UsageError, match="too many to hold"):
        scored(env, network, policy, sample, length=40)


def test_an_agent_is_scored_at_states_of_its_own_search_policy():
    env = random_mdp(3, num_states=6, num_actions=2, time_limit=8)
    agent = made_agent(env, brute.wrong_network(3, 6, 2), simulations=5, temperature=0.5)
    config = SequencesConfig(states=7, episodes=4, length=3, seed=2)
    rows = measure_sequences(agent, config)
    assert list(rows.columns) == list(UNITS)
    sample = sample_states(env, agent.policy, states=7, episodes=4, generator=numpy_generator(0, "probe", 2))
    policy = TabularPolicy(agent.policy.distribution(TabularStates(np.arange(6))))
    for state, own in rows.groupby("state"):
        paths = brute.all_paths(env, agent.network, policy, int(sample.states.index[state]), 3)
        np.testing.assert_allclose(own["probability"], [path.probability for path in paths], rtol=0, atol=1e-12)
        np.testing.assert_allclose(own["error"], [abs(p.value - p.predicted) for p in paths], rtol=0, atol=1e-12)
        searched = {
            state: brute.planned(
                env, agent.network, state, model="learned", prior="policy", config=agent.policy.config
            )[0]
            for state in range(6)
        }
        visits = np.array([searched[state].edge_visits for state in range(6)])
        smoothed = (1 + visits) / (2 + visits.sum(axis=1, keepdims=True))
        others = (visits / 5, smoothed, torch.softmax(agent.network.logits, dim=1).double().numpy())
        for way, table in zip(WAYS[1:], others, strict=True):
            paths = brute.all_paths(env, agent.network, TabularPolicy(table), int(sample.states.index[state]), 3)
            expected = [path.probability for path in paths]
            np.testing.assert_allclose(own[f"probability{way}"], expected, rtol=0, atol=1e-7)
    assert rows.drop_duplicates("state")["time"].tolist() == sample.time.tolist()
    assert set(rows["temperature"]) == {0.5}


def test_a_measured_checkpoint_has_all_sequences_of_every_state(agent):
    rows = measure_sequences(
        load_agent(read_checkpoint(steps_of(agent)[1])), SequencesConfig(states=4, episodes=1, length=5)
    )
    assert list(rows.columns) == list(UNITS)
    assert rows.groupby("state").size().tolist() == [32] * 4
    assert rows.groupby("state")["probability"].sum().to_numpy() == pytest.approx([1] * 4)
    assert (set(rows["training_step"]), set(rows["seed"]), set(rows["temperature"])) == ({20}, {0}, {1.0})
