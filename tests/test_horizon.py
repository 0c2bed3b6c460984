"""The horizon probe equals plain enumeration, its estimates come to it, and a perfect model scores 0."""

import brute
import numpy as np
import pandas as pd
import pytest
from brute import case, oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.envs.tabular import TabularStates
from mzprobe.errors import UsageError
from mzprobe.probes.horizon import UNITS, mean_magnitude_bias, measure_horizon, sample_size, score_horizon
from mzprobe.probes.prefixes import LARGEST, portions
from mzprobe.probes.sampling import Sample
from mzprobe.settings import HorizonConfig
from mzprobe.sources.own import load_agent

ERRORS = ["error", "sequence_error", "signed_error", "alive_error"]
SMALL = HorizonConfig(states=6, episodes=2, horizon=3)


def generator(seed=0):
    return np.random.default_rng(seed)


def close(expected):
    return pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)


# Against enumeration


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), num_actions=st.integers(1, 3), h=st.integers(1, 4), zeros=st.booleans())
def test_exact_scores_equal_the_enumeration_of_all_sequences(seed, num_actions, h, zeros):
    env, network, policy, sample = case(seed, num_actions=num_actions, zeros=zeros and num_actions > 1)
    rows = score_horizon(env, network, policy, sample, horizon=h, sequences=None, generator=generator())
    assert rows[["state", "h"]].to_numpy().tolist() == [[s, k] for s in range(5) for k in range(1, h + 1)]
    for row in rows.itertuples():
        paths = brute.all_paths(env, network, policy, row.state, row.h)
        for column, expected in brute.summary(paths).items():
            assert getattr(row, column) == close(expected), (column, row.state, row.h)
        assert (row.signed_low, row.signed_high) == (row.signed_error, row.signed_error)
        assert row.sequences == sum(path.probability > 0 for path in paths)
        assert (row.exact, row.standard_error, row.bias) == (True, 0.0, 0.0)
        assert (row.step_standard_error, row.grounded_standard_error) == (0.0, 0.0)
    assert (rows["episode"] == rows["state"] * 2).all()
    assert (rows["time"] == rows["state"] * 3).all()


def test_sampled_scores_equal_the_average_of_the_same_sequences():
    env, network, policy, sample = case(4, num_actions=3)
    m, h = 40, 4
    rows = score_horizon(env, network, policy, sample, horizon=h, sequences=m, generator=generator(9), exact_to=0)
    uniforms = generator(9).random((5, m, h))
    for row in rows.itertuples():
        paths = brute.drawn_paths(env, network, policy, row.state, uniforms[row.state, :, : row.h])
        for column, expected in brute.summary(paths).items():
            assert getattr(row, column) == close(expected), (column, row.state, row.h)
        for column, differences in (
            ("standard_error", [path.value - path.predicted for path in paths]),
            ("step_standard_error", [path.predicted_reward - path.reward for path in paths]),
            ("grounded_standard_error", [path.grounded_reward - path.reward for path in paths]),
        ):
            expected = np.std(differences, ddof=1) / np.sqrt(m)
            assert getattr(row, column) == pytest.approx(expected, abs=1e-7), (column, row.state, row.h)
        reach = t.ppf(0.975, m - 1) * row.standard_error
        assert (row.signed_low, row.signed_high) == (close(row.signed_error - reach), close(row.signed_error + reach))
        assert (row.exact, row.sequences) == (False, m)
    for column in ("standard_error", "step_standard_error", "grounded_standard_error"):
        assert (rows[column] > 0).sum() > len(rows) / 2
    expected = mean_magnitude_bias(-rows["signed_error"].to_numpy(), rows["standard_error"].to_numpy())
    assert np.array_equal(rows["bias"], expected)


def test_sampled_scores_come_to_the_exact_ones():
    env, network, policy, sample = case(5, num_actions=3)
    m, h = 20_000, 4
    exact, sampled = (
        score_horizon(env, network, policy, sample, horizon=h, sequences=n, generator=generator(1), exact_to=0)
        for n in (None, m)
    )
    # The second moment bounds the spread of every column below.
    for column, of in (("signed_error", "difference"), ("sequence_error", "difference"), ("value", "value")):
        bounds = []
        for row in exact.itertuples():
            paths = brute.all_paths(env, network, policy, row.state, row.h)
            numbers = [path.value - (path.predicted if of == "difference" else 0.0) for path in paths]
            second = sum(path.probability * x**2 for path, x in zip(paths, numbers, strict=True))
            bounds.append(5 * np.sqrt(second / m) + 1e-12)
        assert (np.abs(sampled[column] - exact[column]) <= bounds).all(), column
    probability = exact["alive_probability"]
    deviation = np.abs(sampled["alive_probability"] - probability)
    assert (deviation <= 5 * np.sqrt(probability * (1 - probability) / m) + 1e-12).all()


def test_where_all_sequences_are_no_more_than_would_be_sampled_all_are_taken():
    env, network, policy, sample = case(4, num_actions=3)
    options = {"horizon": 5, "generator": generator(9)}
    rows = score_horizon(env, network, policy, sample, sequences=40, **options)
    assert rows.groupby("h")["exact"].agg(set).to_dict() == {1: {True}, 2: {True}, 3: {True}, 4: {False}, 5: {False}}
    whole = score_horizon(env, network, policy, sample, sequences=None, **options)
    exact = rows["exact"]
    pd.testing.assert_frame_equal(rows[exact], whole[exact], check_exact=True)
    options["generator"] = generator(9)
    drawn = score_horizon(env, network, policy, sample, sequences=40, exact_to=0, **options)
    pd.testing.assert_frame_equal(rows[~exact], drawn[~exact], check_exact=True)


def test_sequences_that_are_all_taken_by_request_count_against_the_limit(monkeypatch):
    monkeypatch.setattr("mzprobe.probes.prefixes.LARGEST", 100)
    env, network, policy, sample = case(4, num_actions=3)
    options = {"sequences": 2, "exact_to": 5, "generator": generator()}
    with pytest.raises(UsageError, match=r"^243 action sequences a state are too many to hold"):
        score_horizon(env, network, policy, sample, horizon=6, **options)
    rows = score_horizon(env, network, policy, sample, horizon=3, **options)
    assert rows["exact"].all()
    assert rows["h"].max() == 3


def test_samples_that_all_have_the_same_error_have_no_standard_error():
    # Every step is wrong by 0.1, whatever is done: a difference of squares would leave a rounding error.
    env = random_mdp(3, num_states=6, num_actions=4, terminal_fraction=0, gamma=0.97)
    network = brute.TabularNetwork(env.transitions, env.rewards + 0.1)
    everywhere = TabularStates(np.arange(6))
    sample = Sample(states=everywhere, episode=np.arange(6), time=np.arange(6))
    policy = brute.random_policy(3, 6, 4)
    rows = score_horizon(env, network, policy, sample, horizon=6, sequences=50, generator=generator(), exact_to=0)
    wrong = 0.1 * (1 - 0.97 ** rows["h"]) / (1 - 0.97)
    np.testing.assert_allclose(rows["signed_error"], wrong, rtol=1e-12)
    np.testing.assert_allclose(rows["step_signed_error"], 0.1, rtol=1e-12)
    np.testing.assert_allclose(rows["grounded_signed_error"], 0.1, rtol=1e-12)
    of_steps = ["step_standard_error", "grounded_standard_error"]
    assert (rows[["standard_error", *of_steps]] < 1e-15).all(axis=None)
    certain = brute.TabularPolicy(np.eye(4)[np.zeros(6, int)])
    rows = score_horizon(env, network, certain, sample, horizon=6, sequences=50, generator=generator(), exact_to=0)
    assert (rows[["standard_error", *of_steps]] == 0).all(axis=None)


@pytest.mark.parametrize("sequences", [None, 2, 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_perfect_model_scores_exactly_0(seed, sequences):
    env, _, policy, sample = case(seed, num_actions=3)
    rows = score_horizon(env, oracle(env), policy, sample, horizon=5, sequences=sequences, generator=generator())
    assert (rows[[*ERRORS, "standard_error", "bias"]] == 0.0).all(axis=None)
    assert rows["cancellation"].isna().all()  # no share of nothing
    assert (rows["value"] != 0).any()
    assert (rows["value"] == rows["predicted_value"]).all()


def test_only_what_a_model_predicts_after_the_end_separates_alive_error_from_error():
    env = TabularEnvironment([[1], [1]], [[1.0], [0.0]], [False, True], starts=[0], gamma=0.5, time_limit=9, name="end")
    network = brute.TabularNetwork([[1], [1]], [[1.0], [8.0]])
    policy = brute.TabularPolicy(np.ones((2, 1)))
    sample = Sample(states=TabularStates(np.array([0])), episode=np.array([0]), time=np.array([0]))
    rows = score_horizon(env, network, policy, sample, horizon=3, sequences=None, generator=generator())
    assert rows["value"].tolist() == [1.0, 1.0, 1.0]
    assert rows["error"].tolist() == [0.0, 4.0, 6.0]
    assert rows["signed_error"].tolist() == [0.0, 4.0, 6.0]
    assert rows["alive_error"].tolist() == [0.0, 0.0, 0.0]
    assert rows["alive_probability"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("sequences", [None, 20])
def test_portions_of_states_change_no_byte(sequences):
    env, network, policy, sample = case(6, num_actions=3)
    arguments = {"horizon": 3, "sequences": sequences}
    whole = score_horizon(env, network, policy, sample, **arguments, generator=generator())
    for held in (1, 60):
        parts = score_horizon(env, network, policy, sample, **arguments, generator=generator(), batch_size=held)
        pd.testing.assert_frame_equal(parts, whole, check_exact=True)


@given(S=st.integers(1, 40), widest=st.integers(1, 300), batch_size=st.integers(1, 500))
def test_portions_hold_every_state_once_and_no_more_sequences_than_asked(S, widest, batch_size):
    parts = portions(S, widest, batch_size)
    assert np.concatenate(parts).tolist() == list(range(S))
    assert all(len(part) == 1 or len(part) * widest <= batch_size for part in parts)
    assert all((len(part) + 1) * widest > batch_size for part in parts[:-1])


def test_more_sequences_than_fit_are_a_usage_error():
    env, network, policy, sample = case(0)
    with pytest.raises(UsageError, match="1,073,741,824 action sequences a state are too many to hold") as reason:
        score_horizon(env, network, policy, sample, horizon=30, sequences=None, generator=generator())
    assert f"{LARGEST:,}" in str(reason.value)


def test_sequences_are_enumerated_while_there_are_no_more_than_asked():
    config = HorizonConfig(enumerate_up_to=8, sequences=5)
    assert [sample_size(config, 2, h) for h in (1, 3, 4)] == [None, None, 5]


@pytest.mark.parametrize(("mean", "error"), [(0.0, 1.0), (0.5, 1.0), (-2.0, 0.7), (3.0, 0.1), (1.0, 0.0)])
def test_the_bias_of_a_mean_magnitude_equals_its_simulation(mean, error):
    draws = np.abs(mean + error * generator(3).standard_normal(1_000_000))
    tolerance = 5 * draws.std() / 1000 + 1e-12
    assert mean_magnitude_bias(np.array([mean]), np.array([error]))[0] == pytest.approx(
        draws.mean() - abs(mean), abs=tolerance
    )


# Checkpoints


def test_a_measured_checkpoint_has_every_state_and_horizon_under_its_own_name(agent):
    checkpoint = read_checkpoint(steps_of(agent)[1])
    rows = measure_horizon(load_agent(checkpoint), SMALL)
    assert list(rows.columns) == list(UNITS)
    assert rows[["state", "h"]].to_numpy().tolist() == [[s, h] for s in range(6) for h in range(1, 4)]
    assert set(rows["training_step"]) == {20}
    assert set(rows["seed"]) == {0}
    assert set(rows["temperature"]) == {1.0}
    assert rows["exact"].all()
    assert rows.notna().all(axis=None)
    assert rows["alive_probability"].between(0, 1 + 1e-12).all()


def test_without_a_horizon_the_unroll_length_of_training_is_the_largest(agent):
    rows = measure_horizon(load_agent(read_checkpoint(steps_of(agent)[0])), HorizonConfig(states=2, episodes=1))
    assert rows["h"].max() == 3


def test_true_values_of_cartpole_count_the_steps_it_stays_up(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[0]))
    rows = measure_horizon(loaded, SMALL)
    gamma = loaded.environment.spec.gamma
    assert rows.loc[rows["h"] == 1, "value"].tolist() == pytest.approx([1.0] * 6)
    assert (rows["value"] <= (1 - gamma ** rows["h"]) / (1 - gamma) + 1e-12).all()
