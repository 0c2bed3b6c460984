"""Where an environment says which actions are legal, no other is tried, played, stored or learned."""

from pathlib import Path

import numpy as np
import pytest
from agents import made_agent
from masked import MaskedEnvironment
from models import random_network

import mzprobe
from mzprobe.behaviour import LookaheadPolicy, PriorPolicy, RandomPolicy, draw_episode_numbers, play_episodes
from mzprobe.config import SearchConfig
from mzprobe.envs import check_env
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.networks.evaluate import Evaluator
from mzprobe.probes.registry import PROBES
from mzprobe.search import LearnedModel, Rollout, TrueModel, search

OWN = ("environment.name=masked:make_env", "environment.options={}")


def everywhere(env):
    """All states but ends, with their masks."""
    states = env.reset(np.arange(200))
    for _ in range(3):
        legal = env.legal(states)
        following, _ = env.step(states, np.where(legal.any(axis=1), legal.argmax(axis=1), 0))
        states = type(states).concatenate([states, following])
    states = states.take(np.unique(states.index, return_index=True)[1])
    return states.take(np.flatnonzero(~env.terminal(states)))


def test_the_environment_keeps_the_protocol():
    check_env(MaskedEnvironment(), processes=False)


@pytest.mark.parametrize(
    ("legal", "said"),
    [
        (lambda _, states: np.zeros((len(states), 4), np.bool_), "no action is legal in a state that is not terminal"),
        (lambda _, states: np.ones((len(states), 3), np.bool_), r"legal after 0 steps is bool \[5, 3\], not bool"),
        (lambda _, states: np.ones((len(states), 4)), "legal after 0 steps is float64"),
    ],
)
def test_a_wrong_mask_is_found(legal, said):
    env = type("Wrong", (MaskedEnvironment,), {"legal": legal})()
    with pytest.raises(CheckFailed, match=said):
        check_env(env, processes=False)


@pytest.mark.parametrize("rule", ["puct", "gumbel", "regularised"])
@pytest.mark.parametrize("leaf", ["value", Rollout(horizon=6), Rollout(horizon=5, counted_from="leaf")])
def test_planning_in_the_truth_takes_legal_actions_alone(rule, leaf):
    env = MaskedEnvironment(3)
    states = everywhere(env)
    env.taken = 0
    network = random_network(1, observation_size=12, num_actions=4, spread=0.5)
    found = search(TrueModel(env, network, leaf=leaf), states, config=SearchConfig(simulations=40, rule=rule))
    assert env.taken == 0
    assert (found.visit_counts[~env.legal(states)] == 0).all()
    np.testing.assert_allclose(found.target.sum(axis=1), 1)
    assert np.nanmax(found.q) < 1000


def test_rollouts_are_uniform_over_what_is_legal():
    env = MaskedEnvironment(3)
    states = env.reset(np.arange(1))
    drawn = np.concatenate(
        [
            TrueModel(env, prior="uniform", leaf=Rollout(horizon=1, seed=seed)).start(states, 1)[1].value
            for seed in range(1500)
        ]
    )
    rewards = env.rewards[states.index[0], env.legal(states)[0]]
    counts = np.array([np.isclose(drawn, reward).sum() for reward in rewards])
    assert len(rewards) > 1
    assert counts.sum() == 1500
    assert (np.abs(counts - 1500 / len(rewards)) < 4 * np.sqrt(1500 / len(rewards))).all()


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_policies_give_nothing_to_illegal_actions(temperature):
    env = MaskedEnvironment(2)
    network = random_network(1, observation_size=12, num_actions=4, spread=0.5)
    evaluate = Evaluator(network, num_actions=4)
    model = TrueModel(env, network)
    states = everywhere(env)
    legal = env.legal(states)
    for policy in (
        PriorPolicy(environment=env, evaluate=evaluate, temperature=temperature),
        RandomPolicy(environment=env),
        LookaheadPolicy(environment=env, model=model),
    ):
        probabilities = policy.distribution(states)
        assert (probabilities[~legal] == 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    even = RandomPolicy(environment=env).distribution(states)
    np.testing.assert_allclose(even, legal / legal.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("rule", ["puct", "regularised"])
def test_noise_that_fell_on_illegal_actions_alone_goes_to_a_legal_one(rule):
    env = MaskedEnvironment(5, num_actions=8)
    legal, B = np.zeros((4096, 8), np.bool_), 4096
    legal[:, [2, 6]] = True
    config = SearchConfig(simulations=4, rule=rule, dirichlet_alpha=0.01)
    model = LearnedModel(random_network(1, observation_size=12, num_actions=8), num_actions=8, gamma=env.spec.gamma)
    roots = np.random.default_rng(0).random((B, 12), np.float32)
    for path in ("fused", "general"):
        found = search(model, roots, config=config, generator=np.random.default_rng(1), legal=legal, path=path)
        assert (found.visit_counts[~legal] == 0).all()
        assert (found.prior[~legal] == 0).all()
        np.testing.assert_allclose(found.prior.sum(axis=1), 1)
        assert (found.prior[legal] >= 0).all()


def test_a_mask_of_other_roots_is_refused():
    model = LearnedModel(random_network(1, observation_size=12, num_actions=4), num_actions=4, gamma=0.9)
    with pytest.raises(ValueError, match=r"legal has shape \(1, 4\) for 3 roots with 4 actions"):
        search(
            model, np.zeros((3, 12), np.float32), config=SearchConfig(simulations=2), legal=np.ones((1, 4), np.bool_)
        )


def test_recorded_episodes_are_refused_where_not_every_action_is_legal(tmp_path, tiny_config, make_trainer):
    config = tiny_config(*OWN, "dataset.path=recorded", "reanalyse.fraction=1")
    with pytest.raises(UsageError, match="recorded episodes do not say what was legal"):
        make_trainer(config, tmp_path)


@pytest.mark.parametrize("rule", ["puct", "gumbel", "regularised"])
@pytest.mark.parametrize("plan_in", ["learned", "true"])
def test_an_agent_plays_stores_and_learns_legal_actions_alone(tmp_path, tiny_config, make_trainer, rule, plan_in):
    config = tiny_config(
        *OWN,
        f"search.rule={rule}",
        f"training.plan_in={plan_in}",
        "training.uniform_share=0.3",
        "reanalyse.fraction=0.5",
    )
    trainer = make_trainer(config, tmp_path)
    trainer.train()
    env, replay = trainer.environment, trainer.experience.replay
    assert env.taken == 0
    stored = np.flatnonzero(replay.left[: replay.used] > 0)
    assert len(stored) > 100
    states = replay.observations[stored].argmax(axis=1)
    np.testing.assert_array_equal(replay.legal[stored], env.allowed[states])
    assert env.allowed[states, replay.actions[stored]].all()
    assert (replay.policies[stored][~env.allowed[states]] == 0).all()
    assert trainer.experience.counts.reanalysed > 100


def test_resume_is_bit_exact_with_masks(tmp_path, tiny_config, make_trainer, train_in_pieces, contents):
    config = tiny_config(*OWN, "reanalyse.fraction=0.5")
    whole = make_trainer(config, tmp_path / "whole")
    whole.train()
    broken = train_in_pieces(config, tmp_path / "broken", turns=(7, 45, 60))
    assert contents(broken.folder, states=True) == contents(whole.folder, states=True)


def test_probes_play_by_the_rules_or_refuse_in_one_sentence(tmp_path, tiny_config, make_trainer, monkeypatch, run_cli):
    monkeypatch.chdir(tmp_path)
    make_trainer(tiny_config(*OWN), tmp_path / "checkpoints").train()
    options = ["--allow", "masked", "--step", 40]
    assert run_cli("eval-online", "checkpoints/tiny", "--episodes", 3, *options)[0] == 0
    code, out, said = run_cli("eval-horizon", "checkpoints/tiny", "--states", 4, *options)
    assert (code, out) == (2, "")
    assert "masked says which actions are legal, and eval-horizon tries all" in " ".join(said.split())


def test_a_study_is_refused_before_it_trains(tmp_path, monkeypatch, run_cli):
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(
        'preset = "small"\nseeds = [0]\n[overrides]\nenvironment = {name = "masked:make_env"}\n'
        "[online]\nepisodes = 3\n[horizon]\nstates = 4\n"
    )
    code, out, said = run_cli("study", "own.toml", "--allow", "masked")
    assert (code, out) == (2, "")
    assert "masked says which actions are legal, and eval-horizon tries all" in " ".join(said.split())
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("name", [name for name, question in PROBES.items() if not question.masks])
def test_from_python_too_a_question_that_tries_all_actions_is_refused(name):
    env = MaskedEnvironment(3)
    agent = made_agent(env, random_network(1, observation_size=12, num_actions=4))
    env.taken = 0
    with pytest.raises(UsageError, match=r"masked says which actions are legal, and .* tries all"):
        mzprobe.measure(agent, name)
    assert env.taken == 0


def test_episodes_are_played_by_legal_actions_alone():
    env = MaskedEnvironment(5)
    seeds, uniforms = draw_episode_numbers(np.random.default_rng(0), 40, 30)
    played = play_episodes(env, RandomPolicy(environment=env), seeds=seeds, uniforms=uniforms)
    assert env.taken == 0
    assert played.returns.max() < 1000
