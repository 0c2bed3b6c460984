"""Losses, gradients and the optimiser: every formula against a worked case, torch, or autograd."""

import math

import numpy as np
import pytest
import torch
from models import random_batch, random_network

from mzprobe.compute import Compute
from mzprobe.config import TrainingConfig
from mzprobe.networks import MLPNetwork, Support
from mzprobe.networks.engine import engine_for
from mzprobe.training.learner import Learner
from mzprobe.training.objective import Objective, cross_entropy, muzero_objective, scalar_cross_entropy
from mzprobe.training.optimiser import AdamW

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_frozen_weights_stay_as_they_are():
    network = random_network(0)
    network.representation.requires_grad_(False)
    learner = Learner(network, TrainingConfig(batch_size=8, unroll_steps=3))
    before = {name: x.clone() for name, x in network.state_dict().items()}
    for step in range(2):
        learner.step(random_batch(step, B=8, K=3, A=2), step)
    moved = {name.partition(".")[0] for name, x in network.state_dict().items() if not torch.equal(x, before[name])}
    assert moved == {"dynamics_function", "reward_head", "policy_head", "value_head"}


def test_weights_that_are_computed_from_others_are_trained_through_them():
    network = random_network(0)
    torch.nn.utils.parametrizations.weight_norm(network.value_head, "w1")
    learner = Learner(network, TrainingConfig(batch_size=8, unroll_steps=3))
    before = network.value_head.w1.detach().clone()
    learner.step(random_batch(0, B=8, K=3, A=2), 0)
    after = network.value_head.w1.detach()
    assert (after - before).abs().max() > 1e-4
    latents = torch.rand(3, network.latent)
    _, value = engine_for(network.eval(), Compute()).predict(latents)
    with torch.no_grad():
        expected = network.support.scalar(network.prediction_logits(latents)[1])
    torch.testing.assert_close(value.float(), expected.float(), rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("fused", [True, False])
def test_gradients_are_clipped_and_weights_decay_as_the_settings_say(fused):
    def first(**settings):
        learner = small_learner(fused=fused, learning_rate=0.01, **settings)
        before = weights_of(learner)
        losses, _ = learner.step(random_batch(0, B=8, K=3, A=2), 0)
        moments = [x.astype(np.float64) for name, x in learner.state().items() if name.endswith("exp_avg")]
        return before, weights_of(learner), math.sqrt(sum((x**2).sum() for x in moments)), losses["gradient_norm"]

    _, plain, whole, norm = first(weight_decay=0.0, gradient_clip=1e9)
    assert whole == pytest.approx(0.1 * norm, rel=1e-4)  # the first moment is a tenth of the gradient
    assert first(weight_decay=0.0, gradient_clip=norm / 4)[2] == pytest.approx(0.025 * norm, rel=1e-3)
    before, decayed, *_ = first(weight_decay=2.0, gradient_clip=1e9)
    torch.testing.assert_close(plain - decayed, 0.02 * before, rtol=1e-3, atol=1e-6)


class Dropping(MLPNetwork):
    """A network with a layer that draws lots in training."""

    def represent(self, observations):
        return torch.nn.functional.dropout(super().represent(observations), 0.5, self.training)


def test_what_random_layers_draw_depends_on_the_seed_and_the_step_alone():
    config, found = TrainingConfig(batch_size=8, unroll_steps=2), []
    for seed, drawn_before in ((0, 0), (0, 3), (1, 0)):
        support, drawn = random_network(0).support, torch.Generator().manual_seed(5)
        network = Dropping(observation_size=4, num_actions=2, support=support, generator=drawn)
        torch.rand(drawn_before)
        before = torch.get_rng_state()
        learner = Learner(network, config, fused=False, seed=seed)
        learner.step(random_batch(0, B=8, K=2, A=2), 7)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(weights_of(learner))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


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
