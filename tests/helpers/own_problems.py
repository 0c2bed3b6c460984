"""A grid world as a user would write it, and what goes wrong with one; factories of networks, likewise."""

from dataclasses import dataclass, replace

import numpy as np
import torch

import mzprobe
from mzprobe.envs import ArrayStates
from mzprobe.networks import MLPNetwork, Support


@dataclass(frozen=True, eq=False)
class Cells(ArrayStates):
    at: np.ndarray  # [B]
    done: np.ndarray  # [B]


class Grid:
    """Five by five cells, each a start, with a reward of 1 in the last."""

    spec = mzprobe.EnvironmentSpec(
        name="grid",
        observation_shape=(25,),
        num_actions=4,
        gamma=0.95,
        time_limit=30,
        action_meanings=("up", "right", "down", "left"),
        source="here",
    )

    def reset(self, seeds):
        at = np.asarray(seeds) * 7919 % 24
        return Cells(at, np.zeros(len(at), dtype=bool))

    def step(self, states, actions):
        actions = self.taken(np.asarray(actions))
        row, column = np.divmod(states.at, 5)
        row = np.clip(row + np.array([-1, 0, 1, 0])[actions], 0, 4)
        column = np.clip(column + np.array([0, 1, 0, -1])[actions], 0, 4)
        at = np.where(states.done, states.at, 5 * row + column)
        reward = np.where((at == 24) & ~states.done, 1.0, 0.0)
        return Cells(at, at == 24), mzprobe.Outcome(reward, at == 24)

    def taken(self, actions):
        return actions

    def observe(self, states):
        return np.eye(25, dtype=np.float32)[states.at]

    def terminal(self, states):
        return states.done


class Slips(Grid):
    def taken(self, actions):
        return np.where(np.random.random(len(actions)) < 0.2, 0, actions)  # noqa: NPY002


class SlipsByItsOwn(Grid):
    def __init__(self):
        self.generator = np.random.default_rng(0)

    def taken(self, actions):
        return np.where(self.generator.random(len(actions)) < 0.2, 0, actions)


class Narrow(Grid):
    def observe(self, states):
        return super().observe(states)[:, :-1]


class PaysNaN(Grid):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        return following, outcome._replace(reward=np.full(len(following), np.nan))


class PaysNaNLate(Grid):
    def step(self, states, actions):
        following, outcome = super().step(states, actions)
        late = len(states) == 4 and outcome.reward.any()  # in the play of four episodes alone
        return following, outcome._replace(reward=outcome.reward * (np.nan if late else 1))


class Indexed(Grid):
    """Shows the number of the cell."""

    spec = replace(Grid.spec, observation_shape=(1,))

    def observe(self, states):
        return states.at[:, None].astype(np.float32)


class BeginsAtAnEnd(Grid):
    def reset(self, seeds):
        states = super().reset(seeds)
        return Cells(states.at, np.asarray(seeds) == 2)


class KeepsArrays(Grid):
    def reset(self, seeds):
        return super().reset(seeds).at


class Raises(Grid):
    def taken(self, actions):
        raise KeyError(f"of its own, for {len(actions)}")


def makes_short_latents(config, spec, generator):
    class Short(MLPNetwork):
        def represent(self, observations):
            return super().represent(observations)[:1]

    return _built(Short, spec, generator)


def guesses(config, spec, generator):
    class Guesses(MLPNetwork):
        def prediction_logits(self, latents):
            policy, value = super().prediction_logits(latents)
            return policy + torch.rand_like(policy), value

    return _built(Guesses, spec, generator)


def gives_no_tensor(config, spec, generator):
    class NoTensor(MLPNetwork):
        def represent(self, observations):
            return list(super().represent(observations))

    return _built(NoTensor, spec, generator)


def reads_indices(config, spec, generator):
    class Embeds(MLPNetwork):
        def represent(self, observations):
            if not ((observations >= 0) & (observations < 25)).all():
                raise IndexError("index out of range")
            return super().represent(torch.nn.functional.one_hot(observations[:, 0].long(), 25).float())

    return _built(Embeds, spec, generator)


def is_right(config, spec, generator):
    return _built(MLPNetwork, spec, generator)


def _built(kind, spec, generator):
    support = Support(minimum=-10, maximum=10, atoms=21)
    return kind(observation_size=25, num_actions=spec.num_actions, support=support, generator=generator)
