"""An environment or a network of a user's own that is wrong is refused before anything is trained or measured."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import own_problems
import pytest
import torch
from agents import made_agent
from models import random_network
from mutations import ROOT

import mzprobe
from mzprobe import envs
from mzprobe.agents import Agent
from mzprobe.behaviour import RandomPolicy, play_episodes
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.config import FactoryConfig
from mzprobe.envs import check, check_env
from mzprobe.envs.core import rewards_along
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.making import network_of
from mzprobe.sources.own import load_agent

GRID = ("environment.name=own_problems:Grid", "environment.options={}")


def test_the_grid_keeps_the_protocol():
    check_env(own_problems.Grid(), processes=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Slips", "replay to the same bits': it is not deterministic: at step"),
        ("SlipsByItsOwn", "replay to the same bits': it is not deterministic: at step"),
        ("Narrow", r"types and shapes': observation after 0 steps is float32 \[5, 24\], not float32 \[5, 25\]"),
        ("PaysNaN", "types and shapes': reward of step 1 holds a number that is not finite"),
        (
            "KeepsArrays",
            "types and shapes': its states are ndarray, .*: keep the arrays in a subclass",
        ),
        ("Raises", "types and shapes': it raised KeyError: 'of its own, for 5'"),
    ],
)
def test_a_wrong_environment_is_refused_where_it_is_made(name, said):
    with pytest.raises(UsageError, match=said) as reason:
        envs.make(f"own_problems:{name}")
    assert str(reason.value).startswith(f"environment 'own_problems:{name}' cannot be used: {name} breaks the rule '")
    assert str(reason.value).endswith("; mend it until mzprobe.check_env(env) is silent")


@pytest.mark.parametrize(
    ("name", "said"),
    [("Slips", "replay to the same bits': it is not deterministic"), ("PaysNaN", "a number that is not finite")],
)
def test_a_wrong_environment_is_refused_where_it_is_given_to_an_agent(name, said):
    with pytest.raises(UsageError, match=said) as reason:
        made_agent(getattr(own_problems, name)(), None)
    assert str(reason.value).startswith(f"environment 'grid' cannot be used: {name} breaks the rule '")


def test_a_limit_that_is_a_number_of_numpy_is_walked_as_far(monkeypatch):
    walked, tried = [], check._try
    monkeypatch.setattr(check, "_try", lambda case, rules: (walked.append(case.steps), tried(case, rules)))
    for limit in (30, np.int64(30)):
        given = own_problems.Grid()
        given.spec = replace(given.spec, time_limit=limit)
        check.refuse_broken(given, name="grid")
    assert walked[0] == walked[1] > 1


def test_what_is_no_environment_is_refused_where_it_is_given_to_an_agent():
    with pytest.raises(UsageError, match=r"'object' gave object, which does not keep the protocol mzprobe\.Env"):
        Agent(environment=object(), network=None)


@pytest.mark.parametrize("error", [TypeError, KeyError])
def test_a_factory_that_fails_at_its_second_call_is_not_called_again(monkeypatch, error):
    calls = []

    def once(**options):
        calls.append(options)
        if len(calls) == 2:
            raise error("one is enough")
        return own_problems.Grid()

    monkeypatch.setattr(own_problems, "once", once, raising=False)
    with pytest.raises(UsageError, match=r"'own_problems:once' cannot be made with its defaults: .*one is enough"):
        envs.make("own_problems:once")
    assert len(calls) == 2


def test_the_environment_that_is_tested_has_the_options_that_were_given(monkeypatch):
    calls = []

    class Sized:
        __hash__ = None

        def __call__(self, **options):
            calls.append(options)
            return own_problems.Grid()

    monkeypatch.setattr(own_problems, "sized", Sized(), raising=False)
    monkeypatch.setattr(own_problems, "plain", lambda **options: Sized()(**options), raising=False)
    for options in ({"size": (3, 4)}, {"size": {3, 4}}):
        for name in ("sized", "plain"):
            calls.clear()
            envs.make(f"own_problems:{name}", **options)
            assert calls == [options, options]
    envs.make("own_problems:plain", size=(3, 4))
    envs.make("own_problems:plain", size=(3, 4))
    assert len(calls) == 4  # a test of what has passed is not repeated


def test_an_environment_is_looked_at_once(monkeypatch):
    class Counts(own_problems.Grid):
        resets = 0

        def reset(self, seeds):
            self.resets += 1
            return super().reset(seeds)

    network = random_network(0, observation_size=25, num_actions=4)
    given = Counts()
    made_agent(given, network)
    looks = given.resets
    made_agent(given, network)
    assert looks == given.resets > 0
    made = envs.make("own_problems:Grid")
    monkeypatch.setattr(type(made), "reset", lambda *_: pytest.fail("what make has looked at is looked at again"))
    made_agent(made, network)


def test_a_stochastic_environment_is_neither_trained_in_nor_asked_about(
    run_cli, tiny_arguments, make_trainer, tiny_config, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    slips = ["--set", "environment.name=own_problems:Slips", "--set", "environment.options={}"]
    code, out, said = run_cli("train", "cartpole", *tiny_arguments(), *slips)
    assert (code, out) == (2, "")
    assert said.startswith("error: environment 'own_problems:Slips' cannot be used")
    assert [*tmp_path.iterdir()] == []
    trainer = make_trainer(tiny_config(*GRID, "training.steps=1"), tmp_path)
    trainer.train()
    monkeypatch.setattr(own_problems, "Grid", own_problems.Slips)  # it has become so since
    code, out, said = run_cli("eval-online", trainer.folder, "--episodes", 2, "--allow", "own_problems")
    assert (code, out) == (2, "")
    assert "it is not deterministic" in said


def test_a_reward_that_is_not_finite_stops_the_training_that_meets_it(tiny_config, make_trainer, tmp_path):
    config = tiny_config("environment.name=own_problems:PaysNaNLate", "environment.options={}")
    with pytest.raises(UsageError, match=r"environment grid gave a reward that is not finite \(nan\): mend it,"):
        make_trainer(config, tmp_path).train()


def test_a_reward_that_is_not_finite_stops_a_probe_too():
    """Means over episodes would leave such an episode out."""
    env, numbers = own_problems.PaysNaNLate(), np.random.default_rng(0).random((4, 30))
    for ask in (
        lambda: play_episodes(env, RandomPolicy(environment=env), seeds=np.arange(4), uniforms=numbers),
        lambda: rewards_along(env, env.reset(np.arange(4)), (4 * numbers).astype(np.int64)),
    ):
        with pytest.raises(UsageError, match=r"environment grid gave a reward that is not finite \(nan\)"):
            ask()


def test_a_network_that_reads_indices_is_built():
    config = FactoryConfig(kind="own_problems:reads_indices")
    assert network_of(config, own_problems.Indexed(), torch.Generator().manual_seed(0)).num_actions == 4


def test_a_start_that_is_an_end_is_refused():
    with pytest.raises(CheckFailed, match="with seed 2 an episode begins in a terminal state"):
        check_env(own_problems.BeginsAtAnEnd(), processes=False)


def test_numbers_of_numpy_in_a_specification_can_be_written():
    spec = mzprobe.EnvironmentSpec(
        name="n",
        observation_shape=(np.int64(3),),
        num_actions=np.int64(2),
        gamma=np.float32(0.5),
        time_limit=np.int32(9),
    )
    written = json.loads(json.dumps(asdict(spec)))
    assert (written["observation_shape"], written["num_actions"]) == ([3], 2)
    assert (written["gamma"], written["time_limit"], written["action_meanings"]) == (0.5, 9, ["0", "1"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("makes_short_latents", "represent must give 6 latents for 6 observations, not 1"),
        ("guesses", "the same input must give the same output"),
        ("gives_no_tensor", "it raised AttributeError: 'list' object has no attribute 'clone'"),
    ],
)
def test_a_wrong_network_is_refused_where_it_is_built(tiny_config, name, said):
    config = tiny_config(f"network.kind=own_problems:{name}").network
    with pytest.raises(UsageError, match=said) as reason:
        network_of(config, own_problems.Grid(), torch.Generator())
    assert str(reason.value).endswith("; mend it until mzprobe.check_network(network, env.spec) is silent")


def test_looking_at_a_network_changes_no_weight_and_no_mode(tiny_config, make_trainer, tmp_path):
    config = tiny_config(*GRID, "network.kind=own_problems:is_right", "training.steps=1")
    generators = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    network = network_of(config.network, own_problems.Grid(), generators[0])
    alone = own_problems.is_right(config.network, own_problems.Grid.spec, generators[1])
    assert not network.training
    assert all(map(torch.equal, network.state_dict().values(), alone.state_dict().values()))
    trainer = make_trainer(config, tmp_path)
    trainer.train()
    read = read_checkpoint(steps_of(trainer.folder)[-1], allow=["own_problems"])
    assert not load_agent(read).network.training


def test_states_of_arrays_are_taken_and_joined_by_rows():
    states = own_problems.Cells(np.array([3, 4, 5]), np.array([False, True, False]))
    taken = states.take([2, 0, 0])
    joined = type(states).concatenate([taken, states])
    assert (len(states), len(taken), len(joined)) == (3, 3, 6)
    assert joined.at.tolist() == [5, 3, 3, 3, 4, 5]
    assert joined.done.tolist() == [False, False, False, False, True, False]
    with pytest.raises(ValueError, match="read-only"):
        joined.at[0] = 7
    with pytest.raises(ValueError, match="indices must be integers"):
        states.take([True, False, True])


@pytest.mark.slow
def test_a_script_without_a_guard_ends_in_one_sentence(tmp_path):
    (tmp_path / "plain.py").write_text("import own_problems\nimport mzprobe\nmzprobe.check_env(own_problems.Grid())\n")
    done = subprocess.run(
        [sys.executable, "plain.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'helpers'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "the fresh process died before it could answer; call check_env below `if __name__ ==" in lines[-1]
    assert len([line for line in lines if line.startswith("Traceback")]) == 1
