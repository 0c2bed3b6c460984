"""Targets beyond the support: counted as plain Python counts them, told of once, and never at the cost of a bit."""

import json
import math
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from mzprobe.checkpoints import read_checkpoint, steps_of, unsealed
from mzprobe.config import load_preset
from mzprobe.errors import CheckpointError, Interrupted, MzprobeWarning
from mzprobe.files import sealed
from mzprobe.networks import Support
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import HorizonConfig
from mzprobe.tables import read_table
from mzprobe.toml import shipped
from mzprobe.training.beyond import Beyond, Counts, Reach
from mzprobe.training.targets import Batch

NARROW = "network.support_maximum=1"  # ends at 3 steps of CartPole
HORIZON = HorizonConfig(states=4, episodes=1, horizon=2)


class Pays(gymnasium.Env):
    """A walk that costs 1 a step and pays 100 at its right end, where it begins again."""

    observation_space, action_space = Box(-1, 1, (5,), np.float32), Discrete(2)

    def reset(self, *, seed=None, **_):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(3))
        return self.seen(), {}

    def step(self, action):
        self.at = max(0, self.at - 1) if action == 0 else self.at + 1
        paid = self.at == 5
        self.at = 0 if paid else self.at
        return self.seen(), 100.0 if paid else -1.0, False, False, {}

    def seen(self):
        return np.eye(5, dtype=np.float32)[self.at]


@pytest.fixture
def pays():
    """The id of that environment, registered for one test."""
    gymnasium.register("mzprobe/Pays-v0", Pays, max_episode_steps=50)
    yield "gym:mzprobe/Pays-v0"
    del gymnasium.registry["mzprobe/Pays-v0"]


@pytest.fixture
def warned():
    """The sentences of mzprobe's warnings so far; every other warning is an error, as ever."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", MzprobeWarning)
        yield lambda: [str(warning.message) for warning in caught]


def plainly(x):
    """h(x), in Python's own numbers."""
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + 0.001 * x


def plain_counts(batches, name, support):
    """What the record must say of the batches' targets of a kind, one by one."""
    arrays = [(getattr(batch, f"{name}s"), getattr(batch, f"{name}_weights")) for batch in batches]
    targets = [float(x) for x, weights in arrays for x, weight in zip(x.flat, weights.flat, strict=True) if weight > 0]
    places = [plainly(x * support.reward_scale) for x in targets]
    outside = sum(not support.minimum <= place <= support.maximum for place in places)
    share = outside / len(targets)
    return {"targets": len(targets), "outside": outside, "share": share, "largest": max(targets, key=abs)}


def trained(trainer):
    """Trains to the end; the batches on the way."""
    batches, step = [], trainer.learner.step
    trainer.learner.step = lambda batch, at: batches.append(batch) or step(batch, at)
    trainer.train()
    return batches


def told(support, *, warmup=None, **targets):
    """The sentence on targets, given as lists that all weigh the same, or None where there is nothing to say."""
    beyond = Beyond(support=support)
    for name in ("values", "rewards"):
        x = np.array([targets.get(name, [0.0])], np.float32)
        getattr(beyond, name).add(x, np.ones_like(x), beyond._ends)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        beyond.tell(warmup)
        beyond.tell(warmup)
    assert len(caught) <= 1
    return str(caught[0].message) if caught else None


# Counted


def test_targets_that_weigh_nothing_are_not_counted_and_the_ends_are_inside():
    support = Support(minimum=-1, maximum=2, atoms=4, reward_scale=0.5)
    ends = Beyond(support=support)._ends
    low, high = (float(np.float32(end)) for end in ends)
    targets = np.array([[low - 0.01, low + 1e-4, 0.0], [high - 1e-4, high + 0.01, 1e9]], np.float32)
    counts = Counts()
    counts.add(targets, np.array([[1, 1, 1], [1, 1, 0]], np.float32), ends)
    assert (counts.targets, counts.outside) == (5, 2)
    assert (counts.lowest, counts.highest) == (targets[0, 0], targets[1, 1])


def test_a_target_at_the_end_is_inside_though_it_was_rounded():
    for y in np.linspace(0.5, 30, 60):
        support = Support(minimum=-y, maximum=y, atoms=21, reward_scale=0.37)
        end = support.scalar(_certain(support))
        assert told(support, values=[end, -end]) is None


def _certain(support):
    """Logits that put all on the last atom."""
    import torch

    logits = torch.full((support.atoms,), -1e4, dtype=torch.float64)
    logits[-1] = 1e4
    return logits


@pytest.mark.parametrize("fraction", [0, 0.8])
def test_a_run_counts_what_its_batches_hold(tmp_path, pays, tiny_config, make_trainer, warned, fraction):
    config = tiny_config(f"environment.name={pays}", f"reanalyse.fraction={fraction}", "training.n_step=50")
    trainer = make_trainer(config, tmp_path)
    batches = trained(trainer)
    first, *_, last = (read_checkpoint(folder).metrics["beyond_support"] for folder in steps_of(trainer.folder))
    expected = {f"{name}s": plain_counts(batches, name, trainer.network.support) for name in ("value", "reward")}
    assert last == expected
    assert 0.05 < last["values"]["share"] < 0.95
    assert last["values"]["largest"] > 150
    assert (last["rewards"]["share"], last["rewards"]["largest"]) == (0, 100)
    assert first["values"] == {"targets": 0, "outside": 0, "share": None, "largest": 0}
    (sentence,) = warned()
    for said in (
        "value targets",
        "lie beyond the support",
        "117.43",
        "network.support_maximum",
        "network.reward_scale",
    ):
        assert said in sentence


def test_a_broken_run_counts_on_and_is_told_once(
    tmp_path, pays, tiny_config, make_trainer, train_in_pieces, contents, warned
):
    config = tiny_config(f"environment.name={pays}", "training.n_step=50")
    make_trainer(config, tmp_path / "whole").train()
    assert len(warned()) == 1
    train_in_pieces(config, tmp_path / "broken", turns=(30, 40, 60))
    assert warned() == 2 * warned()[:1]
    whole, broken = (contents(tmp_path / name / "tiny" / "seed-0") for name in ("whole", "broken"))
    assert broken == whole


def test_a_state_of_an_older_mzprobe_which_counted_nothing_is_refused(tmp_path, tiny_config, make_trainer, warned):
    trainer = make_trainer(tiny_config(NARROW), tmp_path)
    with pytest.raises(Interrupted):
        trainer.train(lambda progress: setattr(trainer, "stop", progress.step == 25))
    (path,) = trainer.folder.glob("resume/*/state.json")
    record = unsealed(path.read_bytes(), path)
    del record["beyond_support"]
    path.write_bytes(sealed({name: value for name, value in record.items() if name != "record_sha256"}))
    with pytest.raises(CheckpointError, match="was saved by an older mzprobe"):
        make_trainer(tiny_config(NARROW), tmp_path).train()


SMALLER = {  # a network of pixels takes seconds a step on a CPU
    "breakout": [
        "training.batch_size=4",
        "training.steps=4",
        "reanalyse.fraction=0.5",
        "network.channels=8",
        'environment.options={"size": 48, "time_limit": 25}',
        "training.replay_capacity=500",
        "training.evaluation_episodes=0",
    ],
    "breakout-ram": ['environment.options={"observation": "ram", "time_limit": 60}', "training.evaluation_episodes=0"],
}


@pytest.mark.parametrize("preset", shipped("presets"))
def test_the_shipped_presets_have_nothing_to_tell(tmp_path, preset, make_trainer, tiny_keys):
    for name, package in (("lunarlander", "Box2D"), ("breakout", "ale_py")):
        if preset.startswith(name):
            pytest.importorskip(package)
    small = ("environments", "warmup_environment_steps", "evaluation_episodes", "checkpoint_interval", "steps")
    overrides = [f"training.{key}={tiny_keys[f'training.{key}']}" for key in small]
    config = load_preset(preset, [*overrides, "search.simulations=4", *SMALLER.get(preset, [])])
    trainer = make_trainer(config, tmp_path)
    trainer.train()  # a warning would be an error
    counts = trainer.beyond.values
    assert counts.targets > config.training.steps * config.training.batch_size * config.training.unroll_steps
    assert counts.outside == 0


# Told


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            {"values": [200.0, 1, 2, 3]},
            "25 % of the value targets so far lie beyond the support, the largest 200: it ends at -117.43 and 117.43 "
            "(environment units) and what lies outside is learned as its end; set network.support_maximum to 14 or "
            "more (with more network.atoms), or network.reward_scale to 0.58 or less",
        ),
        (
            {"rewards": [-300.0, 0.0], "values": [118.0]},
            "100 % of the value targets and 50 % of the reward targets so far lie beyond the support, the largest -300:"
            " it ends at -117.43 and 117.43 (environment units) and what lies outside is learned as its end; set "
            "network.support_minimum to -17 or less and network.support_maximum to 11 or more (with more "
            "network.atoms), or network.reward_scale to 0.39 or less",
        ),
    ],
)
def test_the_sentence_names_share_largest_end_and_keys(targets, said):
    assert told(Support(minimum=-10, maximum=10, atoms=21), **targets) == said


def test_the_largest_that_is_told_of_is_one_that_lies_outside():
    said = told(Support(minimum=-10, maximum=1, atoms=12), values=[-73.0, 5.0, 3.5])
    assert said.startswith("67 % of the value targets so far lie beyond the support, the largest 5: ")
    assert "support_minimum" not in said


@pytest.mark.parametrize(("ends", "side"), [((1, 4), "minimum to 0 or less"), ((-4, -1), "maximum to 0 or more")])
def test_a_support_without_0_is_told_of_and_no_scale_helps(ends, side):
    said = told(Support(minimum=ends[0], maximum=ends[1], atoms=21), values=[0.0])
    assert said.endswith(f"set network.support_{side} (with more network.atoms)")


@pytest.mark.parametrize("scale", [1, 0.05, 20])
@pytest.mark.parametrize("ends", [(-10, 10), (-0.5, 3), (0, 4), (-3, 0)])
@pytest.mark.parametrize("target", [-1e6, -5.3, 5.3, 1e6])
def test_what_the_sentence_asks_for_holds_the_target(scale, ends, target):
    support = Support(minimum=ends[0], maximum=ends[1], atoms=21, reward_scale=scale)
    said = told(support, values=[target])
    if ends[0] <= plainly(scale * target) <= ends[1]:
        assert said is None
        return
    end = "maximum" if target > 0 else "minimum"
    _, _, asked = said.partition(f"network.support_{end} to ")
    wider = {"minimum": ends[0], "maximum": ends[1], end: float(asked.split()[0])}
    assert told(Support(**wider, atoms=21, reward_scale=scale), values=[target]) is None
    _, _, asked = said.partition("network.reward_scale to ")
    assert bool(asked) == (wider[end] != 0 and {"minimum": ends[0], "maximum": ends[1]}[end] != 0)
    if asked:
        smaller = Support(minimum=ends[0], maximum=ends[1], atoms=21, reward_scale=float(asked.split()[0]))
        assert told(smaller, values=[target]) is None


@pytest.mark.parametrize(("gamma", "value"), [(0.9, sum(0.9**t for t in range(30))), (1.0, 30.0)])
def test_the_warm_up_lets_expect_the_sum_of_discounted_rewards(gamma, value):
    warmup = Reach(reward=2.0, gamma=gamma, time_limit=30)
    assert warmup.value == pytest.approx(2 * value, rel=1e-12)
    said = told(Support(minimum=-3, maximum=3, atoms=7), warmup=warmup)
    assert said.startswith(f"{warmup} is worth {2 * value:.6g}, beyond the support: it ends at ")
    assert told(Support(minimum=-9, maximum=9, atoms=7), warmup=warmup) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("environment.name=gym:CartPole-v1",),
            "of 500 steps at the mean reward of the warm-up, 1, and gamma 0.997 is worth 259",
        ),
        (("environment.name=gym:CartPole-v1", "environment.options.gamma=0.99"), None),
        (("environment.name=gym:CartPole-v1", "network.support_maximum=16"), None),
        (("environment.name=gym:MountainCar-v0",), "of 200 steps at the mean reward of the warm-up, -1,"),
        (("environment.name=gym:FrozenLake-v1", "environment.options.is_slippery=false"), None),
    ],
)
def test_a_gymnasium_run_is_told_at_its_start_where_the_support_does_not_fit(
    tmp_path, tiny_config, make_trainer, warned, options, said
):
    config = tiny_config(
        *options, "training.steps=1", "training.warmup_environment_steps=900", "training.evaluation_episodes=0"
    )
    make_trainer(config, tmp_path).train()
    sentences = warned()
    assert len(sentences) == (said is not None)
    assert said is None or said in sentences[0]


def test_nothing_is_counted_that_is_not_in_the_loss(tmp_path, tiny_config, make_trainer):
    trainer = make_trainer(tiny_config(NARROW, "training.value_loss_weight=0"), tmp_path)
    trainer.train()  # a warning would be an error
    assert trainer.beyond.values.targets == 0


# Shown and recorded


def test_the_command_line_says_it_in_one_line(tmp_path, monkeypatch, tiny_arguments, run_cli):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, said = run_cli("train", "cartpole", *tiny_arguments(), "--set", NARROW)
    lines = [line for line in said.splitlines() if "support" in line]
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")
    assert ".py" not in said


def test_a_table_records_it_of_every_checkpoint_that_has_it(tmp_path, tiny_config, make_trainer, warned):
    trainer = make_trainer(tiny_config(NARROW), tmp_path / "checkpoints")
    trainer.train()
    folders = steps_of(trainer.folder)
    (path,) = folders[1].glob("checkpoint.json")
    record = json.loads(path.read_bytes())
    del record["metrics"]["beyond_support"], record["record_sha256"]
    path.write_bytes(sealed(record))  # as an older mzprobe wrote it

    def measured(*steps):
        run = ProbeRun(
            probe=PROBES["horizon"],
            agent=trainer.folder,
            config=HORIZON,
            analyses=tmp_path / "analyses",
            steps=steps,
        )
        return read_table(run_probe(run)).record["beyond_support"]

    counts = {str(at): read_checkpoint(folders[i]).metrics["beyond_support"] for i, at in ((0, 0), (2, 40))}
    assert counts["40"]["values"]["share"] > 0.01
    assert measured(0) == {"0": counts["0"]}
    assert measured(0, 20, 40) == counts


def test_the_training_batch_is_only_looked_at():
    B, K, A = 3, 2, 2
    rng = np.random.default_rng(0)
    batch = Batch(
        observations=rng.normal(size=(B, 4)).astype(np.float32),
        actions=rng.integers(A, size=(K, B)),
        rewards=(50 * rng.normal(size=(K, B))).astype(np.float32),
        values=(500 * rng.normal(size=(K + 1, B))).astype(np.float32),
        policies=rng.random((K + 1, B, A)).astype(np.float32),
        reward_weights=rng.random((K, B)).astype(np.float32),
        value_weights=rng.random((K + 1, B)).astype(np.float32),
        policy_weights=rng.random((K + 1, B)).astype(np.float32),
    )
    before = [array.tobytes() for array in batch]
    support = Support(minimum=-4, maximum=4, atoms=9)
    beyond = Beyond(support=support)
    beyond.add(batch)
    assert [array.tobytes() for array in batch] == before
    assert beyond.record() == {f"{name}s": plain_counts([batch], name, support) for name in ("value", "reward")}
