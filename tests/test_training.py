"""Targets, replay, losses, the learner and self-play: every formula against a worked case or a plain loop."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import drawn, episode, random_batch, random_network, replay_of
from reference import n_step_value
from scipy.stats import chisquare

from mzprobe.config import SearchConfig, TrainingConfig
from mzprobe.envs import CartPole
from mzprobe.errors import MzprobeError
from mzprobe.networks import Support
from mzprobe.search import LearnedModel
from mzprobe.search.mcts import search
from mzprobe.threads import limited_threads
from mzprobe.training.learner import Learner
from mzprobe.training.objective import Objective, cross_entropy, muzero_objective, scalar_cross_entropy
from mzprobe.training.optimiser import AdamW
from mzprobe.training.replay import SMALLEST_PRIORITY, Replay
from mzprobe.training.selfplay import SelfPlay
from mzprobe.training.sum_tree import find_slots, set_leaves
from mzprobe.training.targets import n_step_values, step_scales


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Bits repeat for an equal number of threads; training uses one."""
    with limited_threads(1):
        yield


# Targets. Rewards 1, 2, 3 and gamma 1/2, so every number is exact.


@pytest.mark.parametrize(
    ("n", "last", "expected"),
    [
        # Terminated. n = 1: 1 + 20/2, 2 + 30/2, 3 + 0/2, 0.
        (1, 0.0, [11, 17, 3, 0]),
        # Truncated at a state of value 40. n = 1: 1 + 20/2, 2 + 30/2, 3 + 40/2, 40.
        (1, 40.0, [11, 17, 23, 40]),
        # n = 2: 1 + 2/2 + 30/4, 2 + 3/2 + 40/4, then the one reward that is left.
        (2, 40.0, [9.5, 13.5, 23, 40]),
        # Longer than the episode: 1 + 2/2 + 3/4 + 40/8, 2 + 3/2 + 40/4, 3 + 40/2, 40.
        (9, 40.0, [7.75, 13.5, 23, 40]),
        # Longer than the episode, terminated: 1 + 2/2 + 3/4, 2 + 3/2, 3, 0.
        (9, 0.0, [2.75, 3.5, 3, 0]),
    ],
)
def test_n_step_values_equal_those_worked_out_by_hand(n, last, expected):
    z = n_step_values(np.array([1.0, 2, 3]), np.array([10.0, 20, 30, last]), n=n, gamma=0.5)
    assert z.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    rewards=st.lists(st.floats(-100, 100), min_size=1, max_size=12),
    n=st.integers(1, 15),
    gamma=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_n_step_values_equal_the_plain_sum(rewards, n, gamma, seed):
    root_values = np.random.default_rng(seed).normal(scale=50, size=len(rewards) + 1)
    z = n_step_values(np.array(rewards), root_values, n=n, gamma=gamma)
    expected = [n_step_value(rewards, root_values, t, n, gamma) for t in range(len(rewards) + 1)]
    np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("K", [1, 3, 10])
def test_the_unrolled_steps_together_weigh_as_much_as_the_root(K):
    scales = step_scales(K)
    assert scales[0] == 1
    assert (scales[1:] == 1 / K).all()
    assert len(scales) == K + 1


def two_step_batch(*, terminated):
    """Both positions of an episode of two steps, in order, unrolled beyond its end, with n = 1 and gamma = 1/2."""
    last = 0.0 if terminated else 40.0
    replay = replay_of(episode([1, 2], [10, 20, last], terminated=terminated), batch_size=2, unroll_steps=4, n_step=1)
    slots, batch = drawn(replay)
    assert slots.tolist() == [0, 1]
    return batch


def test_past_a_terminal_end_the_state_is_absorbing():
    batch = two_step_batch(terminated=True)
    assert batch.observations.tolist() == [[0, 0], [0, 1]]
    assert batch.actions[:2, 0].tolist() == [0, 1]
    assert batch.actions[0, 1] == 1
    assert batch.rewards.T.tolist() == [[1, 2, 0, 0], [2, 0, 0, 0]]
    # Values: 1 + 20/2, 2 + 0/2, then 0.
    assert batch.values.T.tolist() == [[11, 2, 0, 0, 0], [2, 0, 0, 0, 0]]
    # Weights: scale 1 or 1/K = 1/4, over B = 2.
    assert batch.reward_weights.T.tolist() == [[1 / 8] * 4] * 2
    assert batch.value_weights.T.tolist() == [[1 / 2] + [1 / 8] * 4] * 2
    assert batch.policy_weights.T.tolist() == [[1 / 2, 1 / 8, 0, 0, 0], [1 / 2, 0, 0, 0, 0]]
    assert batch.policies[:2, 0].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert (batch.policies[2:] == 0).all()


def test_past_a_truncated_end_nothing_is_compared():
    batch = two_step_batch(terminated=False)
    assert batch.rewards.T.tolist() == [[1, 2, 0, 0], [2, 0, 0, 0]]
    # Values: 1 + 20/2, 2 + 40/2, 40 where the episode was left, then nothing.
    assert batch.values.T.tolist() == [[11, 22, 40, 0, 0], [22, 40, 0, 0, 0]]
    assert batch.reward_weights.T.tolist() == [[1 / 8, 1 / 8, 0, 0], [1 / 8, 0, 0, 0]]
    assert batch.value_weights.T.tolist() == [[1 / 2, 1 / 8, 1 / 8, 0, 0], [1 / 2, 1 / 8, 0, 0, 0]]
    assert batch.policy_weights.T.tolist() == [[1 / 2, 1 / 8, 1 / 8, 0, 0], [1 / 2, 1 / 8, 0, 0, 0]]
    assert batch.policies[2, 0].tolist() == [0.75, 0.25]


# Replay


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 19), min_size=1, max_size=25), capacity=st.integers(20, 45))
def test_after_many_episodes_all_counts_equal_a_recount(lengths, capacity):
    replay = replay_of(replay_capacity=capacity, priority_alpha=0.5)
    for number, T in enumerate(lengths):
        replay.add(episode(np.ones(T), np.arange(T + 1.0), terminated=False, marker=number))
        kept = replay.episodes
        # The newest episodes, oldest first, each whole, none over another.
        markers = [int(replay.observations[first, 0]) for first, *_ in kept]
        assert markers == list(range(number + 1 - len(kept), number + 1))
        assert [slots - 1 for _, slots, *_ in kept] == lengths[number + 1 - len(kept) : number + 1]
        owned = np.concatenate([np.arange(first, first + slots) for first, slots, *_ in kept])
        assert len(set(owned.tolist())) == len(owned)
        assert max(owned) < capacity
        can_be_sampled = np.zeros(replay.leaves, bool)
        for marker, (first, slots, *_) in zip(markers, kept, strict=True):
            steps = np.arange(slots)
            rows = replay.observations[first : first + slots]
            assert rows.tolist() == [[marker, t] for t in steps]
            assert replay.left[first : first + slots].tolist() == steps[::-1].tolist()
            can_be_sampled[first : first + slots - 1] = True
        leaves = replay.sums[replay.leaves :]
        np.testing.assert_array_equal(leaves > 0, can_be_sampled)
        assert replay.positions == can_be_sampled.sum()
        inner = np.arange(1, replay.leaves)
        np.testing.assert_array_equal(replay.sums[inner], replay.sums[2 * inner] + replay.sums[2 * inner + 1])


def test_an_episode_that_just_fits_is_kept_and_one_step_more_is_refused():
    replay = replay_of(replay_capacity=5)
    replay.add(episode(np.ones(4), np.ones(5), terminated=True))
    assert replay.positions == 4
    with pytest.raises(ValueError, match=r"5 steps does not fit training\.replay_capacity=5"):
        replay.add(episode(np.ones(5), np.ones(6), terminated=True))
    assert replay.positions == 4


@settings(max_examples=100, deadline=None)
@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any),
    share=st.floats(0, 1, exclude_max=True),
)
def test_the_sum_tree_finds_the_slot_where_the_running_sum_passes(weights, share):
    leaves = 64
    sums = np.zeros(2 * leaves)
    set_leaves(sums, np.arange(len(weights)), np.array(weights, np.float64))
    masses = np.append(np.arange(sum(weights)), share * sum(weights))
    expected = np.searchsorted(np.cumsum(weights), masses, side="right")
    np.testing.assert_array_equal(find_slots(sums, masses), expected)


def test_a_mass_that_rounding_moved_to_the_total_still_finds_a_slot_with_priority():
    sums = np.zeros(16)
    set_leaves(sums, np.array([1, 4]), np.array([0.1, 0.2]))
    assert find_slots(sums, sums[1:2]).tolist() == [4]


ERRORS = np.array([0.5, 4.0, 1.0, 0.0, 9.0, 2.0])


def prioritised(**settings):
    """Six positions whose priorities are `ERRORS`, the fourth at the smallest there is."""
    replay = replay_of(episode(np.ones(6), np.ones(7), terminated=True), **settings)
    replay.prioritise(np.arange(6), ERRORS)
    return replay


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_positions_are_drawn_in_proportion_to_their_priority(alpha):
    replay = prioritised(priority_alpha=alpha, batch_size=8)
    generator = np.random.default_rng(3)
    slots = np.concatenate([replay.draw(generator, 8) for _ in range(2500)])
    chances = np.maximum(ERRORS, SMALLEST_PRIORITY) ** alpha
    seen = np.bincount(slots, minlength=6)
    assert seen.sum() == 20_000
    assert chisquare(seen, 20_000 * chances / chances.sum()).pvalue > 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_importance_weights_are_the_formula(beta):
    replay = prioritised(priority_alpha=1.0, priority_beta=beta, batch_size=16)
    slots, batch = drawn(replay)
    priorities = np.maximum(ERRORS, SMALLEST_PRIORITY)
    weights = (6 * priorities[slots] / priorities.sum()) ** -beta
    np.testing.assert_allclose(16 * batch.policy_weights[0], weights / weights.max(), rtol=1e-6)
    assert len(set(slots.tolist())) > 3


def test_new_episodes_have_the_error_of_their_root_value_as_priority():
    # n = 1, gamma = 1/2: targets 11 and 2 against root values 10 and 20.
    replay = replay_of(episode([1, 2], [10, 20, 0], terminated=True), n_step=1, priority_alpha=1.0)
    assert replay.sums[replay.leaves :][:3].tolist() == [1, 18, 0]


def test_a_restored_replay_gives_the_same_samples_and_takes_the_same_episodes():
    settings = {"replay_capacity": 25, "priority_alpha": 0.5, "batch_size": 8, "unroll_steps": 3}
    longer = [episode(np.ones(T), np.arange(T + 1.0), terminated=T % 2 == 0, marker=T) for T in (5, 9, 7, 6, 4)]
    replay = replay_of(*longer[:4], **settings)
    arrays, counts = replay.state()
    restored = replay_of(**settings)
    restored.restore({name: x.copy() for name, x in arrays.items()}, json.loads(json.dumps(counts)))
    for _ in range(2):
        (slots, batch), (same_slots, same_batch) = (drawn(x, 8, seed=1) for x in (replay, restored))
        assert slots.tolist() == same_slots.tolist()
        for mine, other in zip(batch, same_batch, strict=True):
            assert mine.tobytes() == other.tobytes()
        for x in (replay, restored):
            x.add(longer[4])
    assert replay.episodes == restored.episodes


# Loss, gradient, learner


@pytest.mark.parametrize("atoms", [2, 21])
def test_the_scalar_loss_is_the_cross_entropy_to_the_two_hot_target(atoms):
    support = Support(minimum=-4, maximum=4, atoms=atoms)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, atoms, generator=generator)
    scalars = 10 * torch.randn(50, generator=generator)
    expected = torch.nn.functional.cross_entropy(logits, support.two_hot(scalars), reduction="none")
    torch.testing.assert_close(scalar_cross_entropy(logits, scalars, support), expected)
    policy = torch.softmax(logits, dim=1)
    torch.testing.assert_close(
        cross_entropy(logits, policy), torch.nn.functional.cross_entropy(logits, policy, reduction="none")
    )


SHAPES = [(2, 21, 3, 8), (1, 2, 1, 1), (4, 11, 5, 7), (3, 51, 10, 16)]


@pytest.mark.parametrize(("reward_scale", "reward_input"), [(1.0, "next"), (0.2, "next"), (1.0, "transition")])
@pytest.mark.parametrize(("A", "atoms", "K", "B"), SHAPES)
def test_the_fused_gradient_equals_autograd(A, atoms, K, B, reward_scale, reward_input):
    network = random_network(A, num_actions=A, atoms=atoms, reward_scale=reward_scale, reward_input=reward_input)
    batch = random_batch(A, B=B, K=K, A=A)
    weights = {"reward_loss_weight": 0.7, "value_loss_weight": 0.25, "policy_loss_weight": 1.3}
    config = TrainingConfig(batch_size=B, unroll_steps=K, **weights)
    losses, expected_values = muzero_objective(config).losses(network, batch, torch.device("cpu"))
    expected = torch.autograd.grad(sum(losses), list(network.parameters()))
    learner = Learner(network, config)
    numbers, root_values = learner._fused.gradient(batch)
    found = [array for layers in learner._fused.gradients for array in layers]
    assert list(numbers) == ["reward_loss", "value_loss", "policy_loss"]
    assert list(numbers.values()) == pytest.approx([loss.item() for loss in losses], rel=1e-5)
    np.testing.assert_allclose(root_values, expected_values, rtol=1e-4, atol=1e-4 / reward_scale)
    for (name, _), mine, gradient in zip(network.named_parameters(), found, expected, strict=True):
        largest = float(gradient.abs().max())
        assert largest > 0 or A == 1, name
        torch.testing.assert_close(torch.from_numpy(mine), gradient, rtol=0, atol=1e-4 * largest + 1e-9, msg=name)


def test_an_objective_of_other_terms_is_learned_by_autograd_alone():
    config = TrainingConfig(batch_size=8, unroll_steps=3)
    muzero = muzero_objective(config)
    value = [term for term in muzero.terms if term.name == "value"]
    learner = Learner(random_network(0), config, objective=Objective(terms=tuple(value)))
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    losses, _ = learner.step(random_batch(0, B=8, K=3, A=2), 0)
    assert list(losses) == ["value_loss", "gradient_norm"]
    after = learner.network.state_dict()
    moved = {name.partition(".")[0] for name in before if (before[name] - after[name]).abs().max() > 1e-4}
    assert moved == {"representation", "dynamics_function", "value_head"}


def small_learner(seed=0, *, fused=True, **settings):
    config = TrainingConfig(**{"batch_size": 8, "unroll_steps": 3, **settings})
    return Learner(random_network(seed), config, fused=fused)


def weights_of(learner):
    return torch.nn.utils.parameters_to_vector(learner.network.parameters()).detach().clone()


def test_three_fused_steps_end_at_the_weights_of_three_steps_of_autograd():
    fused, plain = small_learner(), small_learner(fused=False)
    start = weights_of(fused)
    for step in range(3):
        batch = random_batch(step, B=8, K=3, A=2)
        (mine, values), (other, same_values) = fused.step(batch, step), plain.step(batch, step)
        assert mine == pytest.approx(other, rel=1e-4)
        np.testing.assert_allclose(values, same_values, atol=1e-4)
    moved = (weights_of(plain) - start).abs().max()
    assert moved > 5e-3
    # AdamW turns any gradient into a step of about one learning rate, so a rounding error may be amplified.
    torch.testing.assert_close(weights_of(fused), weights_of(plain), rtol=0, atol=1e-2 * float(moved))


@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_learner_takes_the_same_step_bit_for_bit(fused):
    learner = small_learner(fused=fused)
    for step in range(2):
        learner.step(random_batch(step, B=8, K=3, A=2), step)
    restored = small_learner(seed=9, fused=fused)
    restored.restore({name: x.copy() for name, x in learner.state().items()})
    results = [x.step(random_batch(2, B=8, K=3, A=2), 2) for x in (learner, restored)]
    assert results[0][0] == results[1][0]
    assert weights_of(learner).numpy().tobytes() == weights_of(restored).numpy().tobytes()


def test_the_learning_rate_decays_smoothly_by_its_factor_every_thousand_steps():
    learner = small_learner(learning_rate=0.01, learning_rate_decay=0.81)
    for step, expected in ((0, 0.01), (500, 0.009), (1000, 0.0081), (2000, 0.006561)):
        assert learner.learning_rate(step) == pytest.approx(expected, rel=1e-12)


def test_an_exponential_step_size_stops_at_its_floor():
    learner = small_learner(learning_rate=0.01, learning_rate_decay=0.1, learning_rate_floor=2e-4)
    found = [learner.learning_rate(step) for step in (0, 1000, 2000, 50_000)]
    assert found == pytest.approx([0.01, 1e-3, 2e-4, 2e-4])


def test_a_constant_step_size_stays():
    learner = small_learner(learning_rate=0.01, learning_rate_schedule="constant", learning_rate_decay=0.1)
    assert [learner.learning_rate(step) for step in (0, 999, 10**6)] == [0.01] * 3


def test_a_cosine_falls_to_its_floor_by_half_a_period():
    learner = small_learner(
        learning_rate=0.01, learning_rate_schedule="cosine", learning_rate_floor=0.002, learning_rate_steps=100
    )
    found = [learner.learning_rate(step) for step in (0, 25, 50, 75, 100, 1000)]
    fall = 0.008 * (1 - np.cos(np.pi * np.array([0, 0.25, 0.5, 0.75, 1, 1]))) / 2
    assert found == pytest.approx(0.01 - fall)


@pytest.mark.parametrize("fused", [True, False])
def test_a_first_step_moves_weights_by_the_learning_rate_of_its_training_step(fused):
    for step, expected in ((0, 0.01), (1000, 0.0081)):
        learner = small_learner(fused=fused, learning_rate=0.01, learning_rate_decay=0.81, weight_decay=0.0)
        before = weights_of(learner)
        learner.step(random_batch(0, B=8, K=3, A=2), step)
        assert float((weights_of(learner) - before).abs().max()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("clip", [0.5, 1e9])
def test_the_compiled_optimiser_equals_torch_but_for_rounding(clip):
    generator = np.random.default_rng(0)
    shapes = [(7, 3), (1,), (40,)]
    arrays = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    gradients = [np.zeros(shape, np.float32) for shape in shapes]
    parameters = [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in arrays]
    mine = AdamW(arrays, gradients, weight_decay=0.1, clip=clip)
    peer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=0.1)
    for step in range(20):
        for gradient, parameter in zip(gradients, parameters, strict=True):
            gradient[:] = generator.normal(size=gradient.shape)
            parameter.grad = torch.from_numpy(gradient.copy())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
        peer.param_groups[0]["lr"] = 0.01 * 0.9**step
        peer.step()
        assert mine.step(0.01 * 0.9**step) == pytest.approx(norm, rel=1e-6)
        for array, parameter in zip(arrays, parameters, strict=True):
            np.testing.assert_allclose(array, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_is_not_finite_changes_nothing(fused):
    learner, batch = small_learner(fused=fused), random_batch(0, B=8, K=3, A=2)
    learner.step(batch, 0)
    before = {name: x.tobytes() for name, x in learner.state().items()}
    batch.observations[3, 1] = math.nan
    losses, _ = learner.step(batch, 1)
    assert math.isnan(losses["gradient_norm"])
    assert {name: x.tobytes() for name, x in learner.state().items()} == before


# Self-play


def player(*, time_limit, environments=4, simulations=4, seed=0):
    environment = CartPole(time_limit=time_limit)
    model = LearnedModel(random_network(1), num_actions=2, gamma=0.99)
    generator = np.random.default_rng(seed)
    return model, SelfPlay(
        environment, search=SearchConfig(simulations=simulations), environments=environments, generator=generator
    )


def played(time_limit, steps):
    """Finished episodes with the seeds of their starts."""
    model, play = player(time_limit=time_limit)
    found = []
    for _ in range(steps):
        seeds = play.seeds.copy()
        episodes = play.step(model, 1.0)
        found += zip(seeds[play.lengths == 0], episodes, strict=True)
    return found


@pytest.mark.parametrize(("time_limit", "steps"), [(500, 60), (5, 12)])
def test_recorded_episodes_happen_again_in_the_real_environment(time_limit, steps):
    environment = CartPole(time_limit=time_limit)
    found = played(time_limit, steps)
    assert len(found) >= 4
    for seed, one in found:
        states = environment.reset([seed])
        for t, action in enumerate(one.actions):
            assert one.observations[t].tobytes() == environment.observe(states)[0].tobytes()
            states, outcome = environment.step(states, [action])
            assert one.rewards[t] == outcome.reward[0]
        assert one.observations[-1].tobytes() == environment.observe(states)[0].tobytes()
        assert len(one.observations) == len(one.policies) == len(one.root_values) == len(one.actions) + 1
        assert one.terminated == outcome.terminated[0]
        np.testing.assert_allclose(one.policies[:-1].sum(axis=1), 1, rtol=1e-12)


def test_truncated_episodes_end_with_a_search_to_bootstrap_from():
    for _, one in played(5, 12):
        assert len(one.actions) == 5
        assert not one.terminated
        assert one.root_values[-1] != 0
        assert one.policies[-1].sum() == pytest.approx(1)


def test_terminated_episodes_end_with_value_and_policy_zero():
    for _, one in played(500, 60):
        assert one.terminated
        assert one.root_values[-1] == 0
        assert (one.policies[-1] == 0).all()


def test_self_play_restored_mid_episode_continues_as_if_nothing_had_happened():
    model, play = player(time_limit=500)
    for _ in range(14):
        play.step(model, 1.0)
    assert len(set(play.lengths.tolist())) > 1
    _, restored = player(time_limit=500, seed=5)
    arrays, generator = copy.deepcopy(play.state())
    restored.restore(arrays, json.loads(json.dumps(generator)))
    finished = 0
    for _ in range(30):
        for mine, other in zip(play.step(model, 1.0), restored.step(model, 1.0), strict=True):
            finished += 1
            assert mine.terminated == other.terminated
            for name in ("observations", "actions", "rewards", "policies", "root_values"):
                assert getattr(mine, name).tobytes() == getattr(other, name).tobytes()
    assert finished >= 4


@pytest.mark.parametrize("part", ["observations", "rewards"])
def test_an_episode_with_numbers_that_are_not_finite_is_refused(part):
    replay = Replay(TrainingConfig(), observation_shape=(2,), num_actions=2, gamma=0.9)
    whole = episode([1, 2, 3], [0] * 4, terminated=True)
    spoilt = getattr(whole, part).copy()
    spoilt[1] = np.nan
    with pytest.raises(MzprobeError, match="not finite"):
        replay.add(dataclasses.replace(whole, **{part: spoilt}))


def test_every_step_of_a_ladder_is_the_temperature_of_its_episode():
    model, play = player(time_limit=9, environments=3)
    result = search(model, play.environment.observe(play.states), config=SearchConfig(simulations=9))
    ladder = np.array([1.0, 0.5, 0.1])
    found = result.policy(ladder)
    for row, temperature in enumerate(ladder):
        assert found[row].tolist() == result.policy(float(temperature))[row].tolist()


def test_a_uniform_share_is_of_what_acts_and_not_of_the_target():
    plays = []
    for share in (0.0, 0.5):
        model, play = player(time_limit=500, environments=1000, simulations=5)
        play.step(model, 0.01, uniform_share=share)
        plays.append(play)
    sure, mixed = plays
    assert sure.policies.tobytes() == mixed.policies.tobytes()
    likeliest = sure.policies[:, 0] > 0.5
    clear = likeliest.any(axis=1)  # no tie, so that nothing is left of the others in the hundredth power
    assert clear.sum() > 300
    taken = [likeliest[np.arange(1000), play.actions[:, 0]][clear].mean() for play in plays]
    assert taken == [1, pytest.approx(0.75, abs=0.08)]


def test_self_play_is_told_its_temperatures_and_its_uniform_share(tmp_path, tiny_config, make_trainer):
    told = []

    def step(model, temperature, *, uniform_share):
        told.append((np.asarray(temperature).tolist(), uniform_share))
        return []

    for number, keys in enumerate((["training.temperature_ladder=[1, 0.5]", "training.uniform_share=0.1"], [])):
        trainer = make_trainer(tiny_config(*keys, "training.environments=3"), tmp_path / str(number))
        trainer.experience.play.step = step
        trainer.experience.play_step(0)
    assert told == [([1.0, 0.5, 1.0], 0.1), (1.0, 0.0)]


def test_the_networks_reward_head_reads_what_the_configuration_says(tmp_path, tiny_config, make_trainer):
    inputs = []
    for read in ("next", "transition"):
        network = make_trainer(tiny_config(f"network.reward_input={read}"), tmp_path / read).network
        inputs.append(network.reward_head.w1.shape[0] - network.latent)
    assert inputs == [0, 2 + network.latent]


def test_a_model_that_is_not_unrolled_is_learned_by_autograd_as_by_the_fused_gradient():
    fused, plain = (small_learner(fused=one, unroll_steps=0) for one in (True, False))
    batch = random_batch(0, B=8, K=0, A=2)
    (mine, _), (other, _) = fused.step(batch, 0), plain.step(batch, 0)
    assert mine == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("temperature", [-1.0, np.array([1.0, -0.5, 1.0])])
def test_a_negative_temperature_is_refused(temperature):
    model, play = player(time_limit=9, environments=3)
    result = search(model, play.environment.observe(play.states), config=SearchConfig(simulations=4))
    with pytest.raises(ValueError, match="temperature must not be negative"):
        result.policy(temperature)
