"""Reanalyse: exact accounting, the same targets as acting would make, and nothing changed where it is off."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import episode, replay_of

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.config import load_preset
from mzprobe.errors import UsageError
from mzprobe.search import search
from mzprobe.training.experience import some_of
from mzprobe.training.reanalyse import TargetCounts

FRACTIONS = [0.5, 0.8, 0.95]


@given(fraction=st.floats(0, 0.99), fresh=st.lists(st.integers(0, 50), max_size=30))
def test_the_share_is_the_asked_one_to_a_target(fraction, fresh):
    counts = TargetCounts()
    for made in fresh:
        counts.fresh += made
        due = counts.due(fraction)
        assert due >= 0
        counts.reanalysed += due
        exact = fraction / (1 - fraction) * counts.fresh
        assert exact - 1 - 1e-9 * exact <= counts.reanalysed <= exact
    assert (counts.fraction is None) == (counts.fresh + counts.reanalysed == 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fraction", "others"),
    [
        *((fraction, []) for fraction in FRACTIONS),
        (0.5, ["training.training_ratio=1", "reanalyse.batch_size=512"]),  # of some 2,000 targets
        (0.5, ["reanalyse.positions=drawn", "training.batch_size=32"]),
    ],
)
def test_over_any_1000_training_steps_the_fraction_is_within_one_percent(
    tmp_path, tiny_config, make_trainer, fraction, others
):
    config = tiny_config(
        f"reanalyse.fraction={fraction}",
        *others,
        "search.simulations=2",
        "training.steps=2500",
        "training.checkpoint_interval=2500",
        "training.evaluation_episodes=0",
        "training.resume_interval=2500",
    )
    trainer = make_trainer(config, tmp_path)
    made = {}

    def note(progress):
        counts = trainer.experience.counts
        made[progress.step] = (counts.fresh, counts.reanalysed)

    trainer.train(note)
    made = np.array([made[step] for step in sorted(made)])
    windows = made[1000:] - made[:-1000]
    shares = windows[:, 1] / windows.sum(axis=1)
    assert len(windows) > 1400
    assert abs(shares - fraction).max() < 0.01
    # And it is logged: in progress, in the checkpoint, in the file of times.
    assert trainer.progress().reanalysed == pytest.approx(fraction, abs=0.01)
    last = read_checkpoint(steps_of(trainer.folder)[-1])
    assert last.metrics["targets"] == {"fresh": made[-1, 0], "reanalysed": made[-1, 1]}
    row = json.loads((trainer.folder / "timing.json").read_bytes())["rows"][-1]
    assert (row["training_step"], row["fresh"], row["reanalysed"]) == (2500, made[-1, 0], made[-1, 1])
    assert row["core_seconds"]["reanalyse"] > 0


def played(make_trainer, config, folder, play_steps):
    """A trainer that has played, but never trained."""
    trainer = make_trainer(config, folder)
    for _ in range(play_steps):
        trainer.experience.play_step(0)
    return trainer


def test_a_reanalysed_target_is_what_the_search_of_acting_finds_there(tmp_path, tiny_config, make_trainer):
    config = tiny_config("reanalyse.fraction=0", "reanalyse.root_noise=false", "reanalyse.batch_size=3")
    trainer = played(make_trainer, config, tmp_path, 40)
    replay = trainer.experience.replay
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    positions = replay.stale(7)
    replay.cursor = 0
    assert trainer.reanalyser.renew_next(replay, 7) == 7
    found = search(trainer.experience.model, replay.observations[positions], config=config.search, path="general")
    np.testing.assert_allclose(replay.policies[positions], found.target, rtol=1e-6)
    ends = [p for p in positions if p + 5 in positions and replay.left[p] >= 5]
    assert ends
    root_values = dict(zip(positions.tolist(), found.root_value, strict=True))
    for p in ends:
        expected = sum(0.99**k for k in range(5)) + 0.99**5 * root_values[p + 5]
        assert replay.values[p] == pytest.approx(expected, rel=1e-4)


def test_drawn_positions_are_searched_before_they_are_learned_from(tmp_path, tiny_config, make_trainer):
    config = tiny_config("reanalyse.fraction=0.5", "reanalyse.positions=drawn", "reanalyse.root_noise=false")
    trainer = played(make_trainer, config, tmp_path, 40)
    replay = trainer.experience.replay
    searched = []
    renew = trainer.reanalyser.renew
    trainer.reanalyser.renew = lambda replay, slots: searched.append(slots) or renew(replay, slots)
    replay.policies[:] = 0
    due = trainer.experience.counts.due(0.5)
    [(_, slots)], batch = trainer.experience.sample(0)
    (found,) = searched
    B = len(slots)
    assert due > B
    assert found.tolist() == sorted(set(slots.tolist()))  # more are due than there are
    assert (batch.policies[0].sum(axis=1) == 1).all()
    trainer.experience.counts.reanalysed += trainer.experience.counts.due(0.5) - 4
    [(_, slots)], _ = trainer.experience.sample(1)
    assert len(searched[1]) <= 4
    assert set(searched[1]) <= set(slots.tolist())


def test_no_stratum_of_a_draw_is_left_out_when_some_of_it_is_searched_anew():
    """A batch is drawn stratum by stratum: what is chosen by its place in it would always be of the same ones."""
    slots, generator, seen = np.arange(100, 228), np.random.default_rng(0), set()
    for _ in range(40):
        some = some_of(slots, 64, generator)
        assert len(some) == len(set(some.tolist())) == 64
        seen |= set(some.tolist())
    assert seen == set(slots.tolist())
    assert some_of(slots, 500, generator).tolist() == slots.tolist()


def test_the_truncated_end_that_a_drawn_position_reaches_is_searched_with_it():
    replay = replay_of(n_step=2, unroll_steps=1)
    for marker, (T, terminated) in enumerate([(6, False), (6, True)]):  # slots 0..6 and 7..13
        values = np.ones(T + 1)
        values[-1] *= not terminated
        replay.add(episode(np.ones(T), values, terminated=terminated, marker=marker))
    assert replay.with_ends(np.array([0, 3])).tolist() == [0, 3]
    assert replay.with_ends(np.array([4, 5, 12])).tolist() == [4, 5, 6, 12]


def test_more_drawn_positions_than_a_batch_has_are_refused():
    with pytest.raises(UsageError, match="calls for 152 targets a training step, and of drawn positions there are 128"):
        load_preset("cartpole", ["reanalyse.fraction=0.95", "reanalyse.positions=drawn"])


def test_root_noise_is_on_as_in_self_play_unless_switched_off(tmp_path, tiny_config, make_trainer):
    for noise, differ in ((True, True), (False, False)):
        config = tiny_config(f"reanalyse.root_noise={str(noise).lower()}")
        trainer = played(make_trainer, config, tmp_path, 30)
        observations = np.repeat(trainer.experience.replay.observations[:1], 20, axis=0)
        policies, _ = trainer.reanalyser.search_targets(observations)
        assert (len({policy.tobytes() for policy in policies}) > 1) == differ


def test_the_target_network_bootstraps_and_is_copied_when_it_is_time(tmp_path, tiny_config, make_trainer):
    config = tiny_config("reanalyse.fraction=0.5", "reanalyse.target_interval=15", "training.checkpoint_interval=40")
    trainer = make_trainer(config, tmp_path)
    seen = {}

    def note(progress):
        target = trainer.reanalyser.target
        same = all((a == b).all() for a, b in zip(target.parameters(), trainer.network.parameters(), strict=True))
        seen.setdefault(progress.step, same)

    trainer.train(note)
    assert [step for step in sorted(seen) if seen[step]] == [0, 15, 30]
    observations = trainer.experience.replay.observations[:9]
    _, values = trainer.reanalyser.search_targets(observations)
    assert values.tobytes() == trainer.reanalyser.evaluate_targets(observations).tobytes()
    latest = search(trainer.experience.model, observations, config=config.search).root_value
    assert not np.allclose(values, latest)


@pytest.mark.parametrize("rule", ["puct", "gumbel"])
def test_reanalysed_values_are_the_searchs_own_targets(tmp_path, tiny_config, make_trainer, rule):
    config = tiny_config("reanalyse.fraction=0.5", "reanalyse.root_noise=false", f"search.rule={rule}")
    trainer = make_trainer(config, tmp_path)
    trainer.train()
    observations = trainer.experience.replay.observations[:9]
    _, values = trainer.reanalyser.search_targets(observations)
    found = search(trainer.experience.model, observations, config=config.search)
    np.testing.assert_allclose(values, found.value_target, rtol=1e-6)
    assert (rule == "puct") == np.array_equal(found.value_target, found.root_value)


def test_fraction_0_searches_nowhere_but_in_acting_and_no_other_key_matters(
    tmp_path, tiny_config, make_trainer, contents, monkeypatch
):
    monkeypatch.setattr("mzprobe.training.reanalyse.search", lambda *_, **__: pytest.fail("searched"))
    weights = []
    for keys in ([], ["reanalyse.batch_size=7", "reanalyse.root_noise=false", "reanalyse.target_interval=3"]):
        trainer = make_trainer(tiny_config("reanalyse.fraction=0", *keys), tmp_path / str(len(weights)))
        trainer.train()
        assert trainer.experience.counts.reanalysed == 0
        found = contents(trainer.folder)
        weights.append({name: data for name, data in found.items() if name.endswith("safetensors")})
    assert weights[0] == weights[1]


OPTIONS = {
    "reanalyse": ["reanalyse.fraction=0.8"],
    "without noise": ["reanalyse.fraction=0.5", "reanalyse.root_noise=false", "reanalyse.batch_size=5"],
    "target network": ["reanalyse.fraction=0.5", "reanalyse.target_interval=7"],
    "best": ["training.keep_best=5"],
    "best, reanalysed": ["training.keep_best=5", "reanalyse.fraction=0.5"],
    "no unroll": ["training.unroll_steps=0", "training.plan_in=true"],
    "by age": ["training.n_step_by_age=[[10, 2], [30, 1]]", "reanalyse.fraction=0.5"],
    "averaged": ["training.average_decay=0.9", "reanalyse.fraction=0.5"],
    "averaged to be looked at": ["training.average_decay=0.9", 'training.averaged=["checkpoints"]'],
    "constant": ["training.learning_rate_schedule=constant"],
    "cosine": ["training.learning_rate_schedule=cosine", "training.learning_rate_steps=40"],
    "ladder": ["training.temperature_ladder=[1, 0.5, 0.1]", "training.uniform_share=0.1"],
    "transition": ["network.reward_input=transition"],
    "averaged, with a target network": [
        "training.average_decay=0.9",
        "reanalyse.fraction=0.5",
        "reanalyse.target_interval=7",
    ],
    "best, reanalysed, by age": ["training.keep_best=5", "reanalyse.fraction=0.5", "training.n_step_by_age=[[9, 1]]"],
    "drawn": ["reanalyse.positions=drawn", "reanalyse.fraction=0.5"],
    "in the truth": ["training.plan_in=true", "reanalyse.fraction=0.5"],
    "by Gumbel's rule": ["search.rule=gumbel", "reanalyse.fraction=0.5"],
    "regularised": ["search.rule=regularised", "reanalyse.fraction=0.5"],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_resume_is_bit_exact_with_every_option(tmp_path, tiny_config, make_trainer, train_in_pieces, contents, name):
    config = tiny_config(*OPTIONS[name])
    whole = make_trainer(config, tmp_path / "whole")
    whole.train()
    broken = train_in_pieces(config, tmp_path / "broken", turns=(7, 45, 60))
    assert contents(broken.folder, states=True) == contents(whole.folder, states=True)
    assert broken.experience.counts == whole.experience.counts


def test_a_fraction_of_1_online_is_refused(tiny_config):
    with pytest.raises(UsageError, match=r"reanalyse.fraction must be below 1 online"):
        tiny_config("reanalyse.fraction=1")


def test_with_no_unroll_the_dynamics_are_not_learned(tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(
        tiny_config("training.unroll_steps=0", "training.plan_in=true", "training.weight_decay=0"), tmp_path
    )
    trainer.train()
    first, last = (read_checkpoint(steps_of(trainer.folder)[i]).weights for i in (0, -1))
    still = {name.split(".")[0] for name in first if (first[name] == last[name]).all()}
    assert still == {"dynamics_function", "reward_head"}


@pytest.mark.parametrize("command", ["eval-horizon", "cross-matrix", "eval-equivalence"])
def test_a_model_that_was_never_unrolled_has_no_horizon_of_its_own(
    tmp_path, tiny_config, make_trainer, run_cli, command
):
    trainer = make_trainer(
        tiny_config("training.unroll_steps=0", "training.plan_in=true", "training.steps=0"), tmp_path
    )
    trainer.train()
    given = [trainer.folder, "--out", tmp_path / "analyses", "--states", 3]
    code, _, said = run_cli(command, *given)
    assert code == 2
    assert said.count("\n") == 1
    assert "choose a --horizon" in said
    assert run_cli(command, *given, "--horizon", 2)[0] == 0


def test_times_go_on_after_a_break_and_are_dropped_where_they_were_lost(tmp_path, tiny_config, make_trainer):
    first = make_trainer(tiny_config(), tmp_path)
    first.train()
    path = first.folder / "timing.json"
    before = json.loads(path.read_bytes())
    assert [row["training_step"] for row in before["rows"]] == [0, 20, 40]
    make_trainer(tiny_config("training.steps=60"), tmp_path).train()
    after = json.loads(path.read_bytes())
    assert after["rows"][:3] == before["rows"]
    assert after["rows"][3]["seconds"]["learn"] > before["now"]["seconds"]["learn"]
    path.write_text("{")
    make_trainer(tiny_config("training.steps=80"), tmp_path).train()
    assert not path.exists()
