"""What the pool refuses of a simulator: another sight of a state than before, another shape, what is not finite."""

import pickle

import numpy as np
import pytest

from mzprobe.envs.core import EnvironmentSpec
from mzprobe.envs.simulators import SimulatorEnvironment
from mzprobe.errors import UsageError


class Adder:
    """Adds actions to the seed, and what is set for its class at every step."""

    drift = 0.0

    def reset(self, seed):
        self.at = [float(seed), 0.0]

    def step(self, action):
        self.at = [self.at[0] + action + self.drift, self.at[1] + 1]
        return 0.0, False

    def advance(self, action):
        self.step(action)

    def observe(self):
        return self.at

    def save(self):
        """Cannot be saved."""


class Saving(Adder):
    """Can be put back, though not to what drifted since."""

    def save(self):
        return list(self.at)

    def restore(self, saved):
        self.at = [number + self.drift for number in saved]
        return True


SPEC = EnvironmentSpec(
    name="adder", observation_shape=(2,), num_actions=2, gamma=0.9, time_limit=50, action_meanings=("0", "1"), source=""
)


def after(env, steps):
    states = env.reset([6])
    for _ in range(steps):
        states, _ = env.step(states, [1])
    return states


@pytest.mark.parametrize("call", ["step", "rewards_along"])
@pytest.mark.parametrize("simulator", [Adder, Saving])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_state_must_look_as_before_when_it_is_gone_back_to(monkeypatch, simulator, steps, call):
    env = SimulatorEnvironment(SPEC, simulator, simulators=1)
    states = after(env, steps)
    env.step(states, [0])
    env.step(states, [1])  # a saved state is gone back to from here on
    monkeypatch.setattr(simulator, "drift", 0.25)
    if (simulator, steps) == (Adder, 0):  # nothing was added yet
        monkeypatch.setattr(Adder, "reset", lambda self, _: setattr(self, "at", [-1.0, 0.0]))
    with pytest.raises(UsageError) as refused:
        env.step(states, [0]) if call == "step" else env.rewards_along(states, [[0]])
    assert str(refused.value) == (
        f"adder is not deterministic: seed 6 and the same {steps} actions led to another observation than before; "
        "mzprobe.check_env tells more"
    )


def test_it_must_look_as_before_in_another_pool_too(monkeypatch):
    env = SimulatorEnvironment(SPEC, Adder, simulators=4)
    states = after(env, 3)
    other = pickle.loads(pickle.dumps(env))
    assert other.observe(other.step(states, [0])[0]).tolist() == [[9.0, 4.0]]
    monkeypatch.setattr(Adder, "drift", 0.25)
    env.step(states, [0])  # a simulator is there
    with pytest.raises(UsageError, match="adder is not deterministic: seed 6"):
        pickle.loads(pickle.dumps(env)).step(states, [0])


@pytest.mark.parametrize(("wrong", "shown"), [(np.nan, "nan"), (-np.inf, "-inf")])
def test_what_is_not_finite_is_refused(monkeypatch, wrong, shown):
    env = SimulatorEnvironment(SPEC, Adder, simulators=4)
    states = env.reset([1, 2, 3])
    monkeypatch.setattr(Adder, "observe", lambda self: [wrong if self.at[0] >= 3 else 0.0, 1.0])
    for call, seed, step in ((lambda: env.reset([2, 3]), 3, 0), (lambda: env.step(states, [0, 1, 1]), 2, 1)):
        with pytest.raises(UsageError) as refused:
            call()
        said = (
            f"adder observed {shown} at step {step} after seed {seed}: observations must be finite, and within float32"
        )
        assert str(refused.value) == said


def test_numbers_whose_squares_are_too_large_pass(monkeypatch):
    monkeypatch.setattr(Adder, "observe", lambda _: [3e38, -3e38])
    env = SimulatorEnvironment(SPEC, Adder, simulators=4)
    states, _ = env.step(env.reset([1, 2]), [0, 1])
    assert env.observe(states).tolist() == [[np.float32(3e38), np.float32(-3e38)]] * 2


@pytest.mark.parametrize("seen", [[1.0], 1.0, [[1.0, 1.0]]])
def test_a_shape_that_would_be_repeated_to_fit_is_refused(monkeypatch, seen):
    monkeypatch.setattr(Adder, "observe", lambda _: seen)
    with pytest.raises(UsageError) as refused:
        SimulatorEnvironment(SPEC, Adder, simulators=1).reset([2])
    shape = list(np.shape(seen))
    assert str(refused.value) == f"adder observed shape {shape} after seed 2: its specification says [2]"
