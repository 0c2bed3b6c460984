"""The public `check_env` passes environments that keep their protocol, and names the rule that a broken one breaks."""

import os

import numpy as np
import pytest

from mzprobe.envs import CartPole, check_env, make, registered
from mzprobe.envs.cartpole import CartPoleStates
from mzprobe.envs.core import Outcome
from mzprobe.errors import CheckFailed


@pytest.mark.parametrize("name", registered())
def test_check_env_passes(name):
    check_env(make(name))


class MutatesItsInput(CartPole):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        states.position.setflags(write=True)
        states.position[:] = following.position
        return following, outcome


class GoesOnAfterTheEnd(CartPole):
    def step(self, states, actions):
        return super().step(CartPoleStates(states.position, np.zeros_like(states.done)), actions)


class RewardsAfterTheEnd(CartPole):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        return following, outcome._replace(reward=np.ones_like(outcome.reward))


class DisagreesAboutTheEnd(CartPole):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        return following, outcome._replace(terminated=states.done)


class ObservesFloat64(CartPole):
    def observe(self, states):
        return super().observe(states).astype(np.float64)


class RewardsInFloat32(CartPole):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        return following, outcome._replace(reward=outcome.reward.astype(np.float32))


class ObservesNaN(CartPole):
    def observe(self, states):
        return np.where(np.abs(super().observe(states)) > 0.1, np.float32(np.nan), super().observe(states))


class ResetsAtRandom(CartPole):
    def reset(self, seeds):
        return super().reset(np.random.default_rng().integers(1 << 40, size=len(seeds)))


class ResetsByOrder(CartPole):
    def reset(self, seeds):
        return super().reset(np.asarray(seeds) + np.arange(len(seeds)))


class DependsOnTheBatch(CartPole):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        return following, outcome._replace(reward=outcome.reward * len(states))


class RemembersItsSteps(CartPole):
    calls = 0

    def step(self, states, actions):
        self.calls += 1
        following, outcome = super().step(states, actions)
        return following, Outcome(outcome.reward + self.calls, outcome.terminated)


class OtherStates(CartPole):
    States = CartPoleStates

    def reset(self, seeds):
        states = super().reset(seeds)
        return self.States(states.position, states.done)

    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        return self.States(following.position, following.done), outcome


class TakesTheFirst(OtherStates):
    class States(CartPoleStates):
        def take(self, indices):
            return super().take(np.zeros(len(indices), dtype=np.int64))


class ForgetsTheEnd(OtherStates):
    class States(CartPoleStates):
        def take(self, indices):
            taken = super().take(indices)
            return type(self)(taken.position, np.zeros_like(taken.done))


class JoinsBackwards(OtherStates):
    class States(CartPoleStates):
        @classmethod
        def concatenate(cls, parts):
            return super().concatenate(parts[::-1])


class RewardsAlongPastTheEnd(CartPole):
    def rewards_along(self, states, actions):
        return np.ones((len(states), actions.shape[1]))


class RewardsAlongOfOtherRows(CartPole):
    def rewards_along(self, states, actions):
        return super().rewards_along(states, actions)[::-1]


class RewardsAlongOneStepLess(CartPole):
    def rewards_along(self, states, actions):
        return super().rewards_along(states, actions)[:, :-1]


class RewardsAlongInFloat32(CartPole):
    def rewards_along(self, states, actions):
        return super().rewards_along(states, actions).astype(np.float32)


class DependsOnTheProcess(CartPole):
    def observe(self, states):
        return super().observe(states) + np.float32(os.getpid())


class CannotBePickled(CartPole):
    def __init__(self):
        super().__init__()
        self.secret = lambda: None


class WrongMeanings(CartPole):
    def __init__(self):
        super().__init__()
        object.__setattr__(self._spec, "action_meanings", ("push",))


class Raises(CartPole):
    def reset(self, seeds):
        if len(seeds) == 1:
            raise IndexError("one seed is too few")
        return super().reset(seeds)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (MutatesItsInput, "leaves the given states unchanged.*observation"),
        (GoesOnAfterTheEnd, "absorbing"),
        (RewardsAfterTheEnd, "absorbing.*reward is .*, not 0"),
        (DisagreesAboutTheEnd, "absorbing.*terminated is .* but terminal is"),
        (ObservesFloat64, "types and shapes.*float64.*not float32"),
        (RewardsInFloat32, "types and shapes.*reward of step 1 is float32"),
        (ObservesNaN, "types and shapes.*not finite"),
        (ResetsAtRandom, "same seed.*second reset"),
        (ResetsByOrder, "same seed.*reverse order"),
        (DependsOnTheBatch, "(take|branching).*reward"),
        (RemembersItsSteps, "replay to the same bits.*not deterministic.*reward"),
        (TakesTheFirst, "take, concatenate and len agree.*take"),
        (ForgetsTheEnd, "take, concatenate and len agree.*terminal"),
        (JoinsBackwards, "take, concatenate and len agree.*joined"),
        (RewardsAlongPastTheEnd, r"rewards_along gives what stepping gives.*from step 0, reward\[.*is 1.0, not 0.0"),
        (RewardsAlongOfOtherRows, "rewards_along gives what stepping gives"),
        (RewardsAlongOneStepLess, r"rewards_along gives what stepping gives.*float64 \[5, 63\], not float64 \[5, 64\]"),
        (RewardsAlongInFloat32, "rewards_along gives what stepping gives.*float32"),
        (CannotBePickled, "cannot be pickled.*processes=False"),
        (WrongMeanings, "specification.*action_meanings must name 2"),
        (Raises, "same seed.*raised IndexError: one seed is too few"),
    ],
)
def test_check_env_catches(broken, rule):
    with pytest.raises(CheckFailed, match=rule) as caught:
        check_env(broken())
    assert str(caught.value).startswith(f"{broken.__name__} breaks the rule")


def test_check_env_catches_what_depends_on_the_process():
    with pytest.raises(CheckFailed, match=r"every process sees the same.*sha256"):
        check_env(DependsOnTheProcess(), steps=8)


def test_check_env_without_processes_needs_no_pickling():
    check_env(CannotBePickled(), processes=False)


def test_check_env_refuses_to_walk_nowhere():
    with pytest.raises(ValueError, match="steps >= 1"):
        check_env(CartPole(), steps=0)
