"""The targets probe: positions that a checkpoint has kept, their stored targets, and what they are worth in truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agents import forged, made_agent
from brute import TabularNetwork
from models import episode, replay_of
from torch.testing import assert_close

from mzprobe.behaviour import discounted_returns
from mzprobe.checkpoints import TARGETS as FILE
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.compute import Compute
from mzprobe.envs import CartPole, TabularEnvironment
from mzprobe.errors import CheckpointError, UsageError
from mzprobe.networks.engine import TorchEngine, engine_for
from mzprobe.networks.support import Support
from mzprobe.probes.cost import Cost
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.probes.targets import UNITS, measure_targets
from mzprobe.records.stored import StoredTargets
from mzprobe.settings import TargetsConfig
from mzprobe.sources.own import load_agent
from mzprobe.tables import read_table
from mzprobe.training.frames import PlainObservations


def played(rewards, *, seed, marker=0.0):
    """An episode that was played here."""
    values = np.arange(len(rewards) + 1.0)
    whole = episode(rewards, values, terminated=True, marker=marker)
    return type(whole)(**{**vars(whole), "seed": seed})


# What a checkpoint keeps


def test_positions_lead_back_to_the_observations_that_were_stored():
    env = CartPole()
    rng = np.random.default_rng(0)
    replay = replay_of(replay_capacity=512)
    replay.observations = PlainObservations(512, (4,), "float32")
    for seed in range(9):
        states, seen, actions = env.reset([seed]), [], []
        while True:
            seen.append(env.observe(states)[0])
            actions.append(int(rng.integers(2)))
            states, outcome = env.step(states, np.array(actions[-1:]))
            if outcome.terminated[0]:
                break
        one = played(np.ones(len(actions)), seed=seed)
        changed = {"observations": np.array([*seen, env.observe(states)[0]]), "actions": np.array(actions)}
        replay.add(type(one)(**{**vars(one), **changed}), step=10 * seed)
    stored = replay.stored_targets(40, np.random.default_rng(1))
    stored = StoredTargets.of_arrays(stored.arrays())  # through a file and back
    found = env.observe(stored.states(env))
    firsts = {10 * seed: kept.first for seed, kept in enumerate(replay.episodes)}
    slots = [firsts[step] + time for step, time in zip(stored.stored_steps, stored.times, strict=True)]
    np.testing.assert_array_equal(found, replay.observations[slots])
    np.testing.assert_array_equal(stored.targets, replay.values[slots])
    assert len(set(slots)) == 40
    assert stored.seeds.tolist() == [step // 10 for step in stored.stored_steps]


def test_every_position_is_kept_where_there_are_few_and_its_priority_is_its_chance():
    replay = replay_of(played([1.0, 0.0], seed=3), played([2.0], seed=4), priority_alpha=1.0)
    stored = replay.stored_targets(99, np.random.default_rng(0))
    assert stored.times.tolist() == [0, 1, 0]
    assert stored.seeds.tolist() == [3, 3, 4]
    assert stored.actions.tolist() == [0]  # that leads to the second position; the others are starts
    leaves = replay.sums[replay.leaves :]
    chances = np.array([leaves[0], leaves[1], leaves[3]]) / replay.sums[1]
    np.testing.assert_allclose(stored.priorities, 3 * chances)
    assert stored.priorities.mean() == pytest.approx(1)


def test_episodes_that_were_not_played_here_are_not_kept():
    recorded = episode([1.0], np.zeros(2), terminated=True)
    assert replay_of(recorded).stored_targets(5, np.random.default_rng(0)) is None
    both = replay_of(recorded, played([1.0, 1.0], seed=7)).stored_targets(5, np.random.default_rng(0))
    assert both.seeds.tolist() == [7, 7]


def test_a_trained_agent_has_kept_positions_at_every_step_but_0(agent):
    kept = [read_checkpoint(folder).targets for folder in steps_of(agent)]
    assert kept[0] is None
    assert all(0 < len(targets) <= 128 for targets in kept[1:])
    newest = max(read_checkpoint(steps_of(agent)[-1]).targets.stored_steps)
    assert 0 <= newest <= 40


def test_a_damaged_file_of_positions_is_refused(agent, tmp_path):
    source = read_checkpoint(steps_of(agent)[1])
    folder = forged(tmp_path, source, targets=source.targets)
    data = bytearray((folder / FILE).read_bytes())
    data[-1] ^= 1
    (folder / FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match="truncated or edited"):
        read_checkpoint(folder)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(folder)


# The probe


def test_targets_are_compared_with_what_the_policy_returns_from_there():
    # Two states in turn, of which the second pays 1: the only action leads to the other one.
    env = TabularEnvironment(
        np.array([[1], [0]]), [[0.0], [1.0]], [False] * 2, starts=[0, 1], gamma=0.5, time_limit=6, name="turns"
    )
    agent = made_agent(env, TabularNetwork(env.transitions, env.rewards, values=[7.0, 9.0]), step=30)
    starts = env.reset([0, 1, 2]).index.tolist()
    stored = StoredTargets(
        seeds=np.arange(3),
        times=np.array([0, 1, 2]),
        actions=np.zeros(3, np.int64),
        stored_steps=np.array([4, 10, 30]),
        targets=np.array([5.0, 6.0, 7.0]),
        priorities=np.ones(3),
    )
    rows = measure_targets(replace(agent, targets=stored), TargetsConfig(rollouts=3))
    assert list(rows.columns) == list(UNITS)
    states = [start ^ time & 1 for start, time in zip(starts, (0, 1, 2), strict=True)]
    worth = [sum(0.5**t * (state ^ t & 1) for t in range(6)) for state in states]
    assert rows["value"].tolist() == worth
    assert rows["predicted_value"].tolist() == [[7.0, 9.0][state] for state in states]
    assert rows["target"].tolist() == [5.0, 6.0, 7.0]
    assert rows["age"].tolist() == [26, 20, 0]
    assert rows["decode_bias"].isna().all()  # the network has no distribution


def test_values_are_means_over_rollouts_of_the_behaviour_policy(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    rows = measure_targets(loaded, TargetsConfig(rollouts=2, steps=9, seed=3))
    stored = loaded.targets
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0, spawn_key=(4, 3))))
    env, states = loaded.environment, stored.states(loaded.environment)
    returns = [
        discounted_returns(env, loaded.policy, states, uniforms=generator.random((len(stored), 9))) for _ in range(2)
    ]
    assert rows["value"].tolist() == np.mean(returns, axis=0).tolist()
    assert np.isfinite(rows["decode_bias"]).all()


def run(agent, out, **options):
    return ProbeRun(
        probe=PROBES["targets"],
        agent=agent,
        config=TargetsConfig(steps=7),
        analyses=out,
        **options,
    )


def test_a_table_is_the_same_bytes_in_whatever_portions_and_leaves_step_0_out(agent, tmp_path):
    whole = run_probe(run(agent, tmp_path / "whole")).read_bytes()
    portions = run_probe(run(agent, tmp_path / "portions", compute=Compute(memory=50_000))).read_bytes()
    run_probe(run(agent, tmp_path / "turns", steps=(40,)))
    assert run_probe(run(agent, tmp_path / "turns")).read_bytes() == whole == portions
    with pytest.raises(UsageError, match="step 0 of seed 0 has kept no positions"):
        run_probe(run(agent, tmp_path / "none", steps=(0,)))


def test_the_command_asks_every_checkpoint_that_has_kept_positions(agent, tmp_path, run_cli):
    code, _, said = run_cli("eval-targets", agent, "--out", tmp_path, "--rollouts", 2, "--steps", 3)
    assert code == 0, said
    frame = read_table(tmp_path / "tiny" / "targets" / "seed-0.parquet").frame
    assert set(frame["training_step"]) == {20, 40}


def test_an_agent_that_has_kept_nothing_is_refused_in_one_sentence(agent, tmp_path):
    forged(tmp_path / "tiny" / "seed-0", read_checkpoint(steps_of(agent)[1]))
    with pytest.raises(UsageError, match="seed-0 has kept no positions of its replay buffer"):
        run_probe(run(tmp_path / "tiny" / "seed-0", tmp_path / "out"))


def test_its_cost_is_the_one_worked_by_hand(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[1]))
    limit = loaded.environment.spec.time_limit
    searched = {("learned", 0): 2 * 128 * 7 * loaded.policy.config.simulations}
    expected = Cost(
        searches=2 * 128 * 7,
        simulations=searched,
        environment_steps=2 * 128 * 7 + 128 * limit,
        model_steps=2 * 128,
    )
    assert PROBES["targets"].cost(loaded, TargetsConfig(rollouts=2, steps=7), 1) == expected


# What decoding adds


def test_decoding_adds_nothing_to_a_sure_head_and_pulls_an_unsure_one_towards_0():
    support = Support(minimum=-3, maximum=3, atoms=7, reward_scale=0.5)
    sure = torch.eye(7)
    assert (support.decode_bias(sure) == 0).all()
    even = torch.full((1, 7), 1 / 7)
    assert_close(support.decode_bias(even), torch.zeros(1, dtype=torch.float64), rtol=0, atol=1e-12)
    wide = torch.tensor([[0, 0, 0, 0.5, 0, 0, 0.5], [0.5, 0, 0, 0.5, 0, 0, 0]])
    ends = support.scalar(torch.log(torch.tensor([[1.0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1.0]]).double()))
    middle = support.scalar(torch.log(wide.double()))
    expected = middle - torch.flip(ends, (0,)) / 2
    assert_close(support.decode_bias(wide), expected, rtol=0, atol=1e-9)
    assert expected[0] < 0 < expected[1]


def test_both_engines_read_the_same_distribution(agent):
    loaded = load_agent(read_checkpoint(steps_of(agent)[2]))
    observations = loaded.environment.observe(loaded.environment.reset(np.arange(70)))
    engines = engine_for(loaded.network), TorchEngine(loaded.network)
    found = [engine.value_distribution(engine.represent(observations)) for engine in engines]
    assert_close(found[0], found[1], rtol=0, atol=1e-5)
    assert_close(found[0].sum(dim=1), torch.ones(70), rtol=0, atol=1e-5)
    values = [engine.predict(engine.represent(observations))[1] for engine in engines]
    assert_close(loaded.network.support.scalar(torch.log(found[0])).double(), values[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("asked", "kept"), [(5, 5), (0, None)])
def test_a_checkpoint_keeps_as_many_positions_as_the_settings_say(tmp_path, tiny_config, make_trainer, asked, kept):
    trainer = make_trainer(tiny_config("training.steps=20", f"training.audited_positions={asked}"), tmp_path)
    trainer.train()
    targets = read_checkpoint(tmp_path / "tiny" / "seed-0" / "step-0000020").targets
    assert (None if targets is None else len(targets.times)) == kept
