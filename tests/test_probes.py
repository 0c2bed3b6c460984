"""The horizon probe equals plain enumeration, a perfect model scores 0, and tables go on where they stopped."""

import dataclasses
import json
import re
import shutil

import brute
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mzprobe
from mzprobe.behaviour import draw_episode_numbers
from mzprobe.checkpoints import read_checkpoint, steps_of, write_checkpoint
from mzprobe.config import HorizonConfig
from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.envs.tabular import TabularStates
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.probes import horizon as horizon_module
from mzprobe.probes.horizon import UNITS, is_exact, mean_magnitude_bias, measure_horizon, score_horizon
from mzprobe.probes.runner import HORIZON, run_probe
from mzprobe.probes.sampling import Sample, load_agent, sample_states
from mzprobe.probes.tables import Table, read_run, read_table, write_table

ERRORS = ["error", "sequence_error", "signed_error", "alive_error"]
SMALL = HorizonConfig(states=6, episodes=2, horizon=3)


def generator(seed=0):
    return np.random.default_rng(seed)


def case(seed, *, num_states=5, num_actions=2, zeros=False):
    """A random MDP, a random wrong model of it, a random policy, and all its states to start from."""
    draw = generator(seed)
    env = random_mdp(seed, num_states=num_states, num_actions=num_actions, terminal_fraction=0.4, gamma=0.9)
    network = brute.TabularNetwork(
        draw.integers(num_states, size=(num_states, num_actions)), draw.standard_normal((num_states, num_actions))
    )
    weights = draw.random((num_states, num_actions)) + 0.1
    if zeros:
        weights[np.arange(num_states), draw.integers(num_actions, size=num_states)] = 0.0
    policy = brute.TabularPolicy(weights / weights.sum(axis=1, keepdims=True))
    everywhere = np.arange(num_states)
    sample = Sample(states=TabularStates(everywhere), episode=everywhere * 2, time=everywhere * 3)
    return env, network, policy, sample


def oracle(env):
    return brute.TabularNetwork(env.transitions, env.rewards)


# Against enumeration


@pytest.mark.parametrize(
    ("seed", "num_actions", "h", "zeros"), [(0, 2, 5, False), (1, 3, 4, False), (2, 3, 4, True), (3, 1, 3, False)]
)
def test_exact_scores_equal_the_enumeration_of_all_sequences(seed, num_actions, h, zeros):
    env, network, policy, sample = case(seed, num_actions=num_actions, zeros=zeros)
    rows = score_horizon(env, network, policy, sample, horizon=h, sequences=None, generator=generator())
    assert rows[["state", "h"]].to_numpy().tolist() == [[s, k] for s in range(5) for k in range(1, h + 1)]
    for row in rows.itertuples():
        paths = brute.all_paths(env, network, policy, row.state, row.h)
        for column, expected in brute.summary(paths).items():
            assert abs(getattr(row, column) - expected) <= 1e-12, (column, row.state, row.h)
        assert row.sequences == sum(path.probability > 0 for path in paths)
        assert (row.exact, row.standard_error, row.bias) == (True, 0.0, 0.0)
    assert (rows["episode"] == rows["state"] * 2).all()
    assert (rows["time"] == rows["state"] * 3).all()


def test_sampled_scores_equal_the_average_of_the_same_sequences():
    env, network, policy, sample = case(4, num_actions=3)
    m, h = 40, 4
    rows = score_horizon(env, network, policy, sample, horizon=h, sequences=m, generator=generator(9))
    uniforms = generator(9).random((5, m, h))
    for row in rows.itertuples():
        paths = brute.drawn_paths(env, network, policy, row.state, uniforms[row.state, :, : row.h])
        for column, expected in brute.summary(paths).items():
            assert abs(getattr(row, column) - expected) <= 1e-12, (column, row.state, row.h)
        difference = [path.value - path.predicted for path in paths]
        assert row.standard_error == pytest.approx(np.std(difference, ddof=1) / np.sqrt(m), abs=1e-7)
        assert (row.exact, row.sequences) == (False, m)
    assert (rows["standard_error"] > 0).sum() > len(rows) / 2
    expected = mean_magnitude_bias(-rows["signed_error"].to_numpy(), rows["standard_error"].to_numpy())
    assert np.array_equal(rows["bias"], expected)


def test_sampled_scores_come_to_the_exact_ones():
    env, network, policy, sample = case(5, num_actions=3)
    m, h = 20_000, 4
    exact, sampled = (
        score_horizon(env, network, policy, sample, horizon=h, sequences=n, generator=generator(1)) for n in (None, m)
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


@pytest.mark.parametrize("sequences", [None, 1, 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_perfect_model_scores_exactly_0(seed, sequences):
    env, _, policy, sample = case(seed, num_actions=3)
    rows = score_horizon(env, oracle(env), policy, sample, horizon=5, sequences=sequences, generator=generator())
    assert (rows[[*ERRORS, "standard_error", "bias"]] == 0.0).all(axis=None)
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
def test_portions_of_states_change_no_byte(monkeypatch, sequences):
    env, network, policy, sample = case(6, num_actions=3)
    whole = score_horizon(env, network, policy, sample, horizon=3, sequences=sequences, generator=generator())
    for largest in (1, 60):
        monkeypatch.setattr(horizon_module, "LARGEST_LEVEL", largest)
        parts = score_horizon(env, network, policy, sample, horizon=3, sequences=sequences, generator=generator())
        pd.testing.assert_frame_equal(parts, whole, check_exact=True)


def test_more_sequences_than_fit_are_a_usage_error():
    env, network, policy, sample = case(0)
    with pytest.raises(UsageError, match="horizon 30 has 1073741824 sequences a state, too many to hold: lower"):
        score_horizon(env, network, policy, sample, horizon=30, sequences=None, generator=generator())


def test_sequences_are_enumerated_while_there_are_no_more_than_asked():
    config = HorizonConfig(enumerate_up_to=8)
    assert [is_exact(config, 2, h) for h in (1, 3, 4)] == [True, True, False]


@pytest.mark.parametrize(("mean", "error"), [(0.0, 1.0), (0.5, 1.0), (-2.0, 0.7), (3.0, 0.1), (1.0, 0.0)])
def test_the_bias_of_a_mean_magnitude_equals_its_simulation(mean, error):
    draws = np.abs(mean + error * generator(3).standard_normal(1_000_000))
    tolerance = 5 * draws.std() / 1000 + 1e-12
    assert mean_magnitude_bias(np.array([mean]), np.array([error]))[0] == pytest.approx(
        draws.mean() - abs(mean), abs=tolerance
    )


# States


def test_sampled_states_are_states_of_episodes_of_the_policy():
    env, _, policy, _ = case(7)
    sample = sample_states(env, policy, states=12, episodes=20, generator=generator(2))
    seeds, uniforms = draw_episode_numbers(generator(2), 20, env.spec.time_limit)
    starts = env.reset(seeds).index
    assert len(sample.states) == 12
    for index, episode, time in zip(sample.states.index, sample.episode, sample.time, strict=True):
        real = starts[episode]
        for t in range(time):
            assert not env.terminal_states[real]
            action = int(np.flatnonzero(uniforms[episode, t] < np.cumsum(policy.probabilities[real]))[0])
            real = env.transitions[real, action]
        assert real == index


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


# Tables


@pytest.fixture
def probe_calls():
    """The horizon probe, and the training steps that it has measured."""
    calls = []

    def measure(agent, config):
        calls.append(agent.checkpoint.training_step)
        return measure_horizon(agent, config)

    return dataclasses.replace(HORIZON, measure=measure), calls


def probed(agent, out, probe=HORIZON, config=SMALL, **options):
    return run_probe(probe, agent, config, analyses=out, command="mzprobe eval-horizon here", **options)


def test_a_probe_measures_every_checkpoint_once(agent, tmp_path, probe_calls):
    probe, calls = probe_calls
    told = []
    path = probed(agent, tmp_path, probe, on_checkpoint=lambda done, total: told.append((done, total)))
    assert path == tmp_path / "tiny" / "horizon" / "seed-0.parquet"
    assert calls == [0, 20, 40]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    before = path.stat().st_mtime_ns
    probed(agent, tmp_path, probe)
    assert calls == [0, 20, 40]
    assert path.stat().st_mtime_ns == before


def test_an_interrupted_probe_goes_on_to_the_bytes_of_an_unbroken_one(agent, tmp_path, probe_calls):
    probe, calls = probe_calls
    whole = probed(agent, tmp_path / "whole").read_bytes()

    def interrupt(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probed(agent, tmp_path / "broken", probe, on_checkpoint=interrupt)
    assert calls == [0, 20]
    path = probed(agent, tmp_path / "broken", probe)
    assert calls == [0, 20, 40]
    assert path.read_bytes() == whole


def test_steps_measured_out_of_order_give_the_same_bytes(agent, tmp_path):
    probed(agent, tmp_path / "some", steps=[40])
    some = probed(agent, tmp_path / "some")
    assert some.read_bytes() == probed(agent, tmp_path / "all").read_bytes()


def test_a_table_says_what_made_it(agent, tmp_path):
    table = read_table(probed(agent, tmp_path))
    record = table.record
    assert table.units == UNITS
    assert set(table.frame.columns) == set(UNITS)
    assert record["commands"] == dict.fromkeys(("0", "20", "40"), "mzprobe eval-horizon here")
    assert record["settings"] == SMALL.model_dump(mode="json")
    assert record["versions"]["mzprobe"] == mzprobe.__version__
    assert record["environment"]["name"] == "cartpole"
    assert record["config"] == read_checkpoint(steps_of(agent)[0]).config.model_dump(mode="json")
    assert record["checkpoints"] == {
        str(read_checkpoint(path).training_step): read_checkpoint(path).weights_sha256 for path in steps_of(agent)
    }


def test_a_table_of_other_settings_is_replaced_only_on_request(agent, tmp_path):
    path = probed(agent, tmp_path, steps=[0])
    before = path.read_bytes()
    other = SMALL.model_copy(update={"states": 4, "seed": 1})
    with pytest.raises(UsageError, match=re.escape("other settings (seed, states): choose another --out")):
        probed(agent, tmp_path, config=other, steps=[0])
    assert path.read_bytes() == before
    probed(agent, tmp_path, config=other, steps=[0], overwrite=True)
    assert read_table(path).frame["state"].nunique() == 4


def test_a_table_of_other_weights_is_refused(agent, tmp_path):
    path = probed(agent, tmp_path / "tables", steps=[0])
    folder = tmp_path / "other" / "tiny" / "seed-0"
    first = read_checkpoint(steps_of(agent)[0])
    write_checkpoint(
        folder,
        run=first.run,
        seed=first.seed,
        training_step=0,
        environment_steps=0,
        config=first.config,
        environment=first.make_environment(),
        metrics={},
        command=first.command,
        weights={name: array + 1 for name, array in first.weights.items()},
    )
    with pytest.raises(UsageError, match="holds step 0 of other weights") as reason:
        probed(folder, tmp_path / "tables")
    assert str(path) in str(reason.value)


def test_a_table_is_named_by_the_recorded_seed_whatever_the_folder_is_called(agent, tmp_path):
    renamed = shutil.copytree(agent, tmp_path / "tiny" / "seed-7")
    assert probed(renamed, tmp_path / "tables", steps=[0]).name == "seed-0.parquet"


def test_a_step_without_a_checkpoint_lists_those_there_are(agent, tmp_path):
    with pytest.raises(UsageError, match="has no checkpoint at step 21: there are 0, 20, 40"):
        probed(agent, tmp_path, steps=[20, 21])
    with pytest.raises(UsageError, match="holds no checkpoints: train the agent"):
        probed(tmp_path, tmp_path)


@pytest.fixture
def table():
    frame = pd.DataFrame({"h": [1, 2], "error": [0.5, 0.25]})
    return Table(frame=frame, units={"h": "environment steps", "error": "1"}, record={"seed": 0})


def test_a_table_comes_back_as_it_was_written(tmp_path, table):
    write_table(tmp_path / "a.parquet", table)
    back = read_table(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(back.frame, table.frame, check_exact=True)
    assert (back.units, back.record) == (table.units, table.record)


def test_a_column_without_a_unit_is_not_written(tmp_path, table):
    with pytest.raises(ValueError, match="columns without a unit: error"):
        write_table(tmp_path / "a.parquet", dataclasses.replace(table, units={"h": "environment steps"}))
    assert list(tmp_path.iterdir()) == []


def test_truncated_and_foreign_tables_are_refused_by_name(tmp_path, table):
    path = tmp_path / "a.parquet"
    write_table(path, table)
    whole = path.read_bytes()
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"h": [1]}), buffer)
    for data in (whole[:-1], whole[: len(whole) // 2], b"", b"text", json.dumps({}).encode(), buffer.getvalue()):
        path.write_bytes(data)
        with pytest.raises(MzprobeError, match="truncated or not a table of mzprobe: remove it") as reason:
            read_table(path)
        assert str(path) in str(reason.value)
    path.unlink()
    with pytest.raises(UsageError, match="does not exist: make it with the probe's command"):
        read_table(path)


def test_tables_of_a_run_are_joined_in_order_of_seed(tmp_path, table):
    for seed in (10, 2):
        frame = table.frame.assign(seed=seed)
        write_table(
            tmp_path / "run" / "horizon" / f"seed-{seed}.parquet",
            Table(frame=frame, units={**table.units, "seed": "agent"}, record={"seed": seed}),
        )
    joined = read_run(tmp_path, "run", "horizon")
    assert joined.frame["seed"].tolist() == [2, 2, 10, 10]
    assert [record["seed"] for record in joined.record["agents"]] == [2, 10]
    assert read_run(tmp_path, "other", "horizon") is None
