"""The networks, and the check that finds faulty ones."""

import numpy as np
import pytest
import torch
from models import random_network
from torch import nn

from mzprobe import networks
from mzprobe.compute import Compute
from mzprobe.config import MLPConfig, RunConfig, SearchConfig, validated
from mzprobe.envs import CartPole, random_mdp
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.networks import MLPNetwork, Unroll, check_network
from mzprobe.networks.core import halve_gradient, minmax_scale
from mzprobe.networks.engine import engine_for
from mzprobe.networks.fused.engines import KernelEngine
from mzprobe.search import LearnedModel, search

CARTPOLE = CartPole().spec


pytestmark = pytest.mark.usefixtures("one_thread")


# MLPNetwork


def observations_of(batch, size=4, seed=0):
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", [CARTPOLE, random_mdp(1, num_states=5, num_actions=3).spec], ids=lambda s: s.name)
def test_the_network_that_is_built_keeps_the_protocol(spec):
    network = networks.build(MLPConfig(), spec, torch.Generator().manual_seed(0))
    check_network(network, spec)


def test_a_network_with_random_heads_keeps_the_protocol():
    check_network(random_network(0), CARTPOLE)


def test_an_unknown_kind_of_network_is_refused():
    with pytest.raises(UsageError, match="no network transformer: use mlp, resnet, or module:attribute"):
        validated(RunConfig, {"network": {"kind": "transformer"}}, "here")


def test_latents_lie_between_zero_and_one_and_reach_both_ends():
    network = random_network(1)
    latents = network.represent(100 * observations_of(50))
    for z in (latents, network.transition(latents, torch.arange(50) % 2)):
        assert (z.amin(dim=1) == 0).all()
        assert (z.amax(dim=1) <= 1).all()
        assert (z.amax(dim=1) > 0.999).all()


def test_a_constant_latent_is_scaled_to_zero():
    assert torch.equal(minmax_scale(torch.full((2, 3), 7.0)), torch.zeros(2, 3))


def test_an_unroll_equals_stepping_through_the_model():
    network, K, B = random_network(2), 4, 6
    observations = observations_of(B)
    actions = torch.randint(2, (K, B), generator=torch.Generator().manual_seed(1))
    unroll = network.unroll(observations, actions)
    latents = network.represent(observations)
    for k in range(K + 1):
        logits, value = network.predict(latents)
        torch.testing.assert_close(unroll.policy_logits[k], logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.support.scalar(unroll.value_logits[k]), value, atol=1e-5, rtol=1e-5)
        if k < K:
            latents, reward = network.dynamics(latents, actions[k])
            torch.testing.assert_close(network.support.scalar(unroll.reward_logits[k]), reward, atol=1e-5, rtol=1e-5)


def test_half_of_the_gradient_passes():
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    y = halve_gradient(x)
    assert torch.equal(y, x)
    (5 * y).sum().backward()
    assert x.grad.tolist() == [2.5, 2.5]


@pytest.mark.parametrize("K", [1, 2, 3])
def test_the_representation_gets_the_gradient_of_the_last_step_halved_once_a_step(K):
    network = random_network(3)
    observations, actions = observations_of(5), torch.zeros(K, 5, dtype=torch.int64)
    network.unroll(observations, actions).reward_logits[K - 1].square().sum().backward()
    halved = network.representation.w1.grad.clone()
    network.zero_grad()
    latents = network.represent(observations)
    for chosen in actions:
        before, latents = latents, network.transition(latents, chosen)
    network.reward_logits(before, actions[-1], latents).square().sum().backward()
    whole = network.representation.w1.grad
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(halved * 2**K, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def initial(seed):
    network = networks.build(MLPConfig(), CARTPOLE, torch.Generator().manual_seed(seed))
    return {name: x.numpy().tobytes() for name, x in network.state_dict().items()}


def test_a_seed_decides_the_initial_weights():
    torch.manual_seed(1)
    first = initial(7)
    torch.manual_seed(2)
    assert initial(7) == first
    assert initial(8) != first


def test_a_fresh_network_predicts_nothing():
    network = networks.build(MLPConfig(), CARTPOLE, torch.Generator().manual_seed(0))
    latents, reward = network.dynamics(network.represent(observations_of(3)), torch.tensor([0, 1, 1]))
    logits, value = network.predict(latents)
    assert logits.abs().max() == 0
    assert max(reward.abs().max(), value.abs().max()) < 1e-6


# check_network finds planted faults


class Faulty(MLPNetwork):
    """A sound network; each subclass spoils one function."""


class LatentsOfOtherRows(Faulty):
    def represent(self, observations):
        return super().represent(observations - observations.mean(dim=0))


class ValueOfWrongShape(Faulty):
    def predict(self, latents):
        logits, value = super().predict(latents)
        return logits, value[:, None]


class RewardOfWrongShape(Faulty):
    def dynamics(self, latents, actions):
        following, reward = super().dynamics(latents, actions)
        return following, reward[:, None]


class LogitsOfWrongShape(Faulty):
    def predict(self, latents):
        logits, value = super().predict(latents)
        return logits[:, :1], value


class LatentsOfWrongShape(Faulty):
    def dynamics(self, latents, actions):
        following, reward = super().dynamics(latents, actions)
        return following[:, :-1], reward


class TooFewLatents(Faulty):
    def represent(self, observations):
        return super().represent(observations)[:-1]


class InfiniteValue(Faulty):
    def predict(self, latents):
        logits, value = super().predict(latents)
        return logits, value / 0


class ChangedObservations(Faulty):
    def represent(self, observations):
        return super().represent(observations.mul_(2))


class ChangedLatents(Faulty):
    def transition(self, latents, actions):
        return super().transition(latents.mul_(0.5), actions)


class RandomLatents(Faulty):
    def represent(self, observations):
        return nn.functional.dropout(super().represent(observations), 0.5)


class OtherRewardsInTheUnroll(Faulty):
    def unroll(self, observations, actions):
        unroll = super().unroll(observations, actions)
        return Unroll(unroll.reward_logits.flip(0), unroll.policy_logits, unroll.value_logits)


class OtherPolicyInTheUnroll(Faulty):
    def unroll(self, observations, actions):
        unroll = super().unroll(observations, actions)
        return Unroll(unroll.reward_logits, unroll.policy_logits.flip(0), unroll.value_logits)


class ValueOfOtherRows(Faulty):
    def predict(self, latents):
        logits, value = super().predict(latents)
        return logits, value - value.mean()


class RandomValue(Faulty):
    def predict(self, latents):
        return super().predict(nn.functional.dropout(latents, 0.5))


class OtherValuesInTheUnroll(Faulty):
    def unroll(self, observations, actions):
        unroll = super().unroll(observations, actions)
        return Unroll(unroll.reward_logits, unroll.policy_logits, unroll.value_logits.flip(0))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (LatentsOfOtherRows, "must not depend on the others"),
        (ValueOfWrongShape, "value must have shape"),
        (RewardOfWrongShape, "reward must have shape"),
        (LogitsOfWrongShape, "policy logits must have shape"),
        (LatentsOfWrongShape, "keep the latents' shape"),
        (TooFewLatents, "must give 6 latents"),
        (InfiniteValue, "value must be finite"),
        (ChangedObservations, "must not change the observations"),
        (ChangedLatents, "must not change the latents"),
        (RandomLatents, "training mode"),
        (OtherRewardsInTheUnroll, "disagree at k = 1"),
        (OtherPolicyInTheUnroll, "disagree on the policy"),
        (ValueOfOtherRows, "must not depend on the others"),
        (RandomValue, "training mode"),
        (OtherValuesInTheUnroll, "disagree on the value"),
    ],
)
def test_a_planted_fault_is_found_and_named(fault, sentence):
    network = random_network(4, spread=1.0)
    network.__class__ = fault
    with pytest.raises(CheckFailed, match=sentence) as reason:
        check_network(network, CARTPOLE)
    assert "\n" not in str(reason.value)


def test_latents_that_depend_on_other_rows_are_found_in_a_fresh_network():
    network = networks.build(MLPConfig(), CARTPOLE, torch.Generator().manual_seed(0))
    network.__class__ = LatentsOfOtherRows
    with pytest.raises(CheckFailed, match="must not depend on the others"):
        check_network(network, CARTPOLE)


# Kernels


OUTSIDE = {
    "observations": (lambda engine: engine.represent(np.zeros((3, 3), np.float32)), "observations have 3 numbers each"),
    "latents": (lambda engine: engine.predict(torch.zeros(3, 5)), "latents of shape"),
    "an action": (lambda engine: engine.dynamics(torch.zeros(2, 8), [0, 2]), "actions 0 to 2"),
    "a negative action": (lambda engine: engine.dynamics(torch.zeros(2, 8), [0, -1]), "actions -1 to 0"),
    "actions": (lambda engine: engine.dynamics(torch.zeros(3, 8), [0, 1]), "for 3 latents"),
    "sequences": (lambda engine: engine.rewards_along(torch.zeros(2, 8), [[0, 1], [0, 9]]), "actions 0 to 9"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_kernels_are_not_given_what_is_out_of_bounds(case):
    engine = engine_for(random_network(0, latent=8), Compute())
    assert isinstance(engine, KernelEngine)
    ask, said = OUTSIDE[case]
    with pytest.raises(ValueError, match=said):
        ask(engine)


def test_kernels_take_latents_in_double_precision_as_they_are():
    engine = engine_for(random_network(0, latent=8), Compute())
    latents = torch.rand(3, 8)
    assert torch.equal(engine.predict(latents)[1], engine.predict(latents.double())[1])


def test_a_search_of_another_number_of_actions_is_refused():
    model = LearnedModel(random_network(0), num_actions=3, gamma=0.9)
    with pytest.raises(ValueError, match="3 actions, the network 4 and 2"):
        search(model, np.zeros((2, 4), np.float32), config=SearchConfig(simulations=3))
