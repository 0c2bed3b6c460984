"""What is said of a row, by a network or by a search, does not depend on what stands beside it."""

import numpy as np
import pytest
import torch
from models import WideCartPole, by_torch, random_network, walked

from mzprobe.config import SearchConfig
from mzprobe.networks.batching import in_batches
from mzprobe.networks.engine import engine_for
from mzprobe.networks.evaluate import Evaluator
from mzprobe.networks.fused.mlp_kernels import lanes_of
from mzprobe.search import LearnedModel, Rollout, TrueModel, search

pytestmark = pytest.mark.usefixtures("one_thread")


def random_rows(batch, scale=1.0):
    """Observations `[B, 4]`."""
    return (scale * np.random.default_rng(0).standard_normal((batch, 4))).astype(np.float32)


# Calls of one fixed size


@pytest.mark.parametrize(("B", "calls"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (11, 3)])
def test_every_batch_is_filled_up_with_its_first_row_and_results_keep_their_order(B, calls):
    x, y = torch.arange(2.0 * B).view(B, 2), 10 * torch.arange(B)
    seen = []

    def function(x, y):
        seen.append((x, y))
        return x.sum(dim=1) + y, -x

    total, negative = in_batches(function, x, y, batch_size=4)
    assert total.tolist() == [1 + 14 * b for b in range(B)]
    assert torch.equal(negative, -x)
    assert len(seen) == calls
    for i, (part, numbers) in enumerate(seen):
        expected = [b if b < B else 4 * i for b in range(4 * i, 4 * i + 4)]
        assert torch.equal(part, x[expected])
        assert torch.equal(numbers, y[expected])


def test_without_a_batch_size_all_are_one_call():
    x, seen = torch.arange(7.0), []
    (result,) = in_batches(lambda x: (seen.append(x) or 2 * x,), x, batch_size=None)
    assert torch.equal(result, 2 * x)
    assert len(seen) == 1
    assert seen[0] is x


def test_a_block_has_one_lane_or_whole_registers():
    assert [lanes_of(B) for B in (1, 2, 8, 9, 29, 32, 33, 500)] == [1, 8, 8, 16, 32, 32, 32, 32]


def evaluator_of(way, network):
    return Evaluator(network if way == "kernel" else by_torch(network), num_actions=network.num_actions)


def assert_no_row_depends_on_its_batch(bits, take, B):
    """Compares the bits of each of B rows among all with those alone, in parts, and in another order.

    Args:
        bits: what `take` gives -> a tuple of bytes for each row.
        take: indices -> rows.
        B: rows.
    """
    together = bits(take(np.arange(B)))
    assert len(set(together)) > 0.9 * B
    for b in range(0, B, 9):
        assert bits(take(np.array([b]))) == [together[b]]
    for size in (7, 100):
        for first in range(0, B, size):
            assert bits(take(np.arange(first, min(first + size, B)))) == together[first : first + size]
    order = np.random.default_rng(0).permutation(B)
    assert bits(take(order)) == [together[b] for b in order]


SIZES = [(8, 16), (32, 64), (128, 512)]


@pytest.mark.parametrize("way", ["kernel", "torch"])
@pytest.mark.parametrize(("latent", "hidden"), SIZES)
def test_what_is_said_of_an_observation_does_not_depend_on_its_batch(latent, hidden, way):
    evaluate = evaluator_of(way, random_network(3, num_actions=3, latent=latent, hidden=hidden))

    def bits(rows):
        prior, value = evaluate(rows)
        return [(p.tobytes(), v.tobytes()) for p, v in zip(prior, value, strict=True)]

    assert_no_row_depends_on_its_batch(bits, random_rows(300).__getitem__, 300)


@pytest.mark.parametrize(("latent", "hidden"), SIZES)
def test_calls_of_a_fixed_size_give_a_row_the_same_bits_in_every_batch(latent, hidden):
    network = random_network(4, num_actions=3, latent=latent, hidden=hidden)

    @torch.inference_mode()
    def bits(rows):
        x = torch.from_numpy(rows)
        actions = (x[:, 0] > 0).long()
        (latents,) = in_batches(lambda x: (network.represent(x),), x)
        numbers = (latents, *in_batches(network.dynamics, latents, actions), *in_batches(network.predict, latents))
        return [tuple(y[i].numpy().tobytes() for y in numbers) for i in range(len(rows))]

    assert_no_row_depends_on_its_batch(bits, random_rows(300).__getitem__, 300)


@pytest.mark.parametrize("batch", [1, 5, 40, 300])
@pytest.mark.parametrize(("latent", "hidden"), SIZES)
def test_both_ways_of_evaluating_agree_with_the_network(latent, hidden, batch):
    network = random_network(batch, num_actions=3, latent=latent, hidden=hidden, spread=0.1)
    rows = random_rows(batch, 3.0)
    with torch.inference_mode():
        logits, expected_value = network.predict(network.represent(torch.from_numpy(rows)))
        expected_prior = torch.softmax(logits, dim=1).numpy()
    assert batch == 1 or expected_value.std() > 0.01
    for way in ("kernel", "torch"):
        prior, value = evaluator_of(way, network)(rows)
        assert (prior.dtype, value.dtype) == (np.float64, np.float64)
        np.testing.assert_allclose(prior, expected_prior, atol=1e-5, rtol=0)
        np.testing.assert_allclose(value, expected_value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", ["kernel", "torch"])
def test_an_evaluator_flattens_observations_and_follows_training_in_place(way):
    network = random_network(6)
    evaluate = evaluator_of(way, network)
    rows = random_rows(6, 3.0)
    prior, value = evaluate(rows)
    square_prior, square_value = evaluate(rows.reshape(6, 2, 2))
    assert (square_prior.tobytes(), square_value.tobytes()) == (prior.tobytes(), value.tobytes())
    with torch.no_grad():
        network.value_head.b2[-1] += 5
        network.policy_head.b2[0] += 1
    after_prior, after_value = evaluate(rows)
    assert (after_value > value + 0.1).all()
    assert (after_prior[:, 0] > prior[:, 0] + 0.01).all()


# Searches


def bits_of(model, roots, config, path="auto"):
    """What a search says of each root, as bytes."""
    result = search(model, roots, config=config, path=path)
    columns = zip(result.visit_counts, result.root_value, result.q, result.prior, strict=True)
    return [tuple(x.tobytes() for x in row) for row in columns]


@pytest.mark.parametrize("path", ["fused", "general", "torch"])
@pytest.mark.parametrize("leaf", ["value", Rollout(horizon=7)], ids=str)
@pytest.mark.parametrize(("latent", "hidden"), [(8, 16), (32, 64)])
def test_a_root_of_the_learned_model_does_not_depend_on_its_batch(latent, hidden, leaf, path):
    network = random_network(3, num_actions=3, latent=latent, hidden=hidden)
    if path == "torch":
        network, path = by_torch(network), "general"
    observations = random_rows(100)
    model = LearnedModel(network, num_actions=3, gamma=0.97, leaf=leaf, batch_size=256)
    config = SearchConfig(simulations=12)
    assert_no_row_depends_on_its_batch(lambda roots: bits_of(model, roots, config, path), observations.__getitem__, 100)


@pytest.mark.parametrize("way", ["kernel", "torch"])
@pytest.mark.parametrize("leaf", ["value", Rollout(horizon=7)], ids=str)
def test_a_root_of_the_true_model_does_not_depend_on_its_batch(leaf, way):
    network = random_network(5, latent=32, hidden=64)
    network = network if way == "kernel" else by_torch(network)
    environment = WideCartPole(gamma=0.97)
    states = walked(environment, 25, 3)
    assert 5 < environment.terminal(states).sum() < 50
    model, config = TrueModel(environment, network, leaf=leaf), SearchConfig(simulations=12)
    assert_no_row_depends_on_its_batch(lambda roots: bits_of(model, roots, config), states.take, 100)


@pytest.mark.parametrize("batch", [1, 5, 40])
@pytest.mark.parametrize("way", ["kernel", "torch"])
def test_rewards_along_actions_are_those_of_one_step_after_the_other(batch, way):
    network = random_network(4, num_actions=3)
    engine = engine_for(network if way == "kernel" else by_torch(network))
    latents = engine.represent(random_rows(batch))
    actions = np.random.default_rng(1).integers(3, size=(batch, 6))
    found = engine.rewards_along(latents, actions)
    assert engine.rewards_along(latents, actions[:, :0]).shape == (batch, 0)
    for t in range(6):
        latents, reward = engine.dynamics(latents, actions[:, t])
        assert torch.equal(found[:, t], reward)
