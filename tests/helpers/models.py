"""Planning models without weights, networks with random ones or none, environments, made-up episodes and batches."""

import copy
import dataclasses

import numpy as np
import torch

from mzprobe.config import TrainingConfig
from mzprobe.envs import CartPole, concatenate
from mzprobe.envs.cartpole import CartPoleStates
from mzprobe.envs.core import rewards_along
from mzprobe.networks import MLPNetwork, Support
from mzprobe.search import Leaf
from mzprobe.training.episodes import Episode
from mzprobe.training.replay import Replay
from mzprobe.training.targets import Batch


class TabularModel:
    """A planning model over tables; roots are state indices `[B]`, the arena is an int array `[capacity, B]`.

    Args:
        transitions: next state, int `[S, A]`.
        rewards: `[S, A]`.
        prior: `[S, A]`.
        value: `[S]`.
        terminal: bool `[S]`; terminal states are absorbing, with reward 0 and value 0.
        gamma: discount.
        discounts: `[S, A]` of the edges; gamma where not given.
        legal: bool `[S, A]`; None where everything is.
    """

    def __init__(self, transitions, rewards, prior, value, *, terminal=None, gamma, discounts=None, legal=None):
        self.transitions = np.array(transitions, np.int64)
        self.rewards = np.array(rewards, np.float64)
        self.prior = np.array(prior, np.float64)
        self.value = np.array(value, np.float64)
        ended = np.flatnonzero(terminal) if terminal is not None else np.zeros(0, np.int64)
        self.transitions[ended] = ended[:, None]
        self.rewards[ended] = 0
        self.value[ended] = 0
        self.num_actions = self.transitions.shape[1]
        self.gamma = gamma
        self.discounts = np.full(self.rewards.shape, gamma) if discounts is None else np.array(discounts, np.float64)
        self.legal = None if legal is None else np.array(legal, np.bool_)
        self.reward_unit = 1.0

    @classmethod
    def of_environment(cls, environment):
        """A `TabularEnvironment`'s own tables, with a uniform prior and value 0."""
        S, A = environment.transitions.shape
        return cls(
            environment.transitions,
            environment.rewards,
            np.full((S, A), 1 / A),
            np.zeros(S),
            terminal=environment.terminal_states,
            gamma=environment.spec.gamma,
        )

    def observations(self, roots):
        """The numbers of the states."""
        return np.array(roots, np.float32)[:, None]

    def start(self, roots, capacity):
        """Puts the roots in slot 0."""
        arena = np.zeros((capacity, len(roots)), np.int64)
        arena[0] = roots
        nothing = np.zeros(len(roots))
        return arena, self._leaf(nothing, nothing, arena[0])

    def expand(self, arena, nodes, actions, slot):
        """Looks the step up."""
        states = arena[nodes, np.arange(len(nodes))]
        arena[slot] = self.transitions[states, actions]
        return self._leaf(self.rewards[states, actions], self.discounts[states, actions], arena[slot])

    def _leaf(self, reward, discount, states):
        legal = None if self.legal is None else self.legal[states]
        return Leaf(reward, discount, self.prior[states], self.value[states], legal)

    def callables(self, root):
        """(start, expand) of one root, as `reference_search` takes them."""

        def start():
            return root, self.prior[root], self.value[root]

        def expand(state, action):
            following = self.transitions[state, action]
            return following, self.rewards[state, action], self.prior[following], self.value[following]

        return start, expand


def random_tabular_model(seed, num_states, num_actions, *, gamma=0.9, scale=1.0, ties=False):
    """Random tables, a fifth of the states terminal; with `ties`, few distinct numbers, so that scores are often equal.

    Args:
        seed: of the draws.
        num_states: S.
        num_actions: A.
        gamma: discount.
        scale: of rewards and values.
        ties: whether rewards and values are small integers times `scale`, and priors uniform.
    """
    generator = np.random.default_rng(seed)
    S, A = num_states, num_actions

    def draw(*shape):
        return generator.integers(-1, 2, size=shape) if ties else generator.standard_normal(shape)

    return TabularModel(
        generator.integers(S, size=(S, A)),
        scale * draw(S, A),
        np.full((S, A), 1 / A) if ties else generator.dirichlet(np.full(A, 0.7), size=S),
        scale * draw(S),
        terminal=generator.random(S) < 0.2,
        gamma=gamma,
    )


def random_network(
    seed,
    *,
    observation_size=4,
    num_actions=2,
    latent=8,
    hidden=16,
    atoms=21,
    spread=0.3,
    reach=5.0,
    reward_scale=1.0,
    reward_input="next",
):
    """An `MLPNetwork` all of whose parameters are random, heads too, which otherwise start at zero."""
    generator = torch.Generator().manual_seed(seed)
    network = MLPNetwork(
        observation_size=observation_size,
        num_actions=num_actions,
        latent=latent,
        hidden=hidden,
        support=Support(minimum=-reach, maximum=reach, atoms=atoms, reward_scale=reward_scale),
        reward_input=reward_input,
        generator=generator,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return network.eval()


class TorchNetwork(MLPNetwork):
    """A subclass may compute anything, so that no kernel is for it: torch runs it."""


def by_torch(network):
    """The same network with the same weights, run by torch."""
    twin = copy.copy(network)
    twin.__class__ = TorchNetwork
    return twin


def assert_same_searches(kernels, torchs):
    """Two searches of one network agree, but for rounding.

    Of some 5000 roots one has two scores that are equal to float32's rounding, and which one it is torch decides by the
    processor: one of a batch may differ.
    """
    B = len(kernels.root_value)
    same = (kernels.visit_counts == torchs.visit_counts).all(axis=1)
    same &= np.abs(kernels.root_value - torchs.root_value) < 1e-4
    assert (~same).sum() <= min(B - 1, max(1, B // 10))
    np.testing.assert_allclose(kernels.q[same], torchs.q[same], atol=1e-4, rtol=0)
    np.testing.assert_allclose(kernels.prior, torchs.prior, atol=1e-6, rtol=0)


class WideCartPole(CartPole):
    """CartPole from starts so far apart that some are lost already."""

    def reset(self, seeds):
        draws = [np.random.default_rng(seed).uniform(-1, 1, 4) for seed in seeds]
        return CartPoleStates(np.array(draws) * (2.4, 3.0, 0.2, 4.0), np.zeros(len(draws), dtype=bool))


def walked(environment, batch, steps, seed=0):
    """States along random walks, `batch` a step, past the end where there is one."""
    generator = np.random.default_rng(seed)
    states = [environment.reset(range(batch))]
    for _ in range(steps):
        actions = generator.integers(environment.spec.num_actions, size=batch)
        states.append(environment.step(states[-1], actions)[0])
    return concatenate(states)


LONGEST = 100  # actions of a history that is told by numbers


def in_columns(field):
    """An array as it is; histories, bytes each, as rows of their actions that are filled up with -1."""
    if not isinstance(field, tuple):
        return field
    assert max(map(len, field), default=0) <= LONGEST
    return np.array([[*history, *[-1] * (LONGEST - len(history))] for history in field], np.int64)


def numbers_of(states):
    """Every number of each state, float64 `[B, n]`: the fields of its dataclass side by side."""
    arrays = [in_columns(getattr(states, field.name)) for field in dataclasses.fields(states)]
    return np.concatenate([np.asarray(x, np.float64).reshape(len(states), -1) for x in arrays], axis=1)


def states_of(numbers, like):
    """States of the class of `like` that hold these numbers `[B, n]`."""
    arrays, first = {}, 0
    for field in dataclasses.fields(like):
        array = in_columns(getattr(like, field.name))
        width = int(np.prod(array.shape[1:]))
        columns = np.array(numbers[:, first : first + width], array.dtype, order="C")
        arrays[field.name] = columns.reshape(-1, *array.shape[1:])
        if isinstance(getattr(like, field.name), tuple):
            arrays[field.name] = tuple(bytes(row[row >= 0].tolist()) for row in columns)
        first += width
    return type(like)(**arrays)


class RememberingEnvironment:
    """An environment that keeps the numbers of every state that it has shown, by the bytes of its observation.

    Args:
        environment: any whose states are a dataclass of arrays and histories.
    """

    def __init__(self, environment):
        self.environment = environment
        self.shown = {}

    @property
    def spec(self):
        return self.environment.spec

    def reset(self, seeds):
        return self.environment.reset(seeds)

    def step(self, states, actions):
        return self.environment.step(states, actions)

    def terminal(self, states):
        return self.environment.terminal(states)

    def rewards_along(self, states, actions):
        return rewards_along(self.environment, states, actions)

    def observe(self, states):
        """Observations; two states must not look alike to the last bit."""
        observations = self.environment.observe(states)
        for observation, numbers in zip(observations, numbers_of(states), strict=True):
            kept = self.shown.setdefault(observation.tobytes(), numbers)
            assert kept.tobytes() == numbers.tobytes()
        return observations


class OracleNetwork:
    """The truth as a `MuZeroNetwork`: latents are whole states in float64, `[B, n]`, rewards are the real ones.

    Policy and value are linear in the observation (a vector), drawn from the seed; a terminal state is worth 0.

    Args:
        environment: a `RememberingEnvironment`, which has shown whatever is represented.
        seed: of policy and value.
        values: observations `[B, size]` -> values `[B]`, instead of the drawn ones.
    """

    def __init__(self, environment, *, seed=0, values=None):
        self.environment = environment
        self.example = environment.reset([0])
        generator = np.random.default_rng(seed)
        shape = environment.spec.observation_shape
        self.policy = generator.standard_normal((*shape, environment.spec.num_actions))
        direction = generator.standard_normal(shape)
        self.values = values or (lambda observations: (observations * direction).sum(axis=1))

    def represent(self, observations):
        """The state that looked like that."""
        return torch.from_numpy(np.stack([self.environment.shown[x.tobytes()] for x in observations.numpy()]))

    def dynamics(self, latents, actions):
        """One real step."""
        states, outcome = self.environment.step(states_of(latents.numpy(), self.example), actions.numpy())
        return torch.from_numpy(numbers_of(states)), torch.from_numpy(outcome.reward)

    def predict(self, latents):
        """Sums of products, one row like the other, so that no bit depends on the batch."""
        states = states_of(latents.numpy(), self.example)
        observations = self.environment.environment.observe(states).astype(np.float64)
        logits = (observations[:, :, None] * self.policy).sum(axis=1)
        value = np.where(self.environment.terminal(states), 0.0, self.values(observations))
        return torch.from_numpy(logits), torch.from_numpy(value)


def episode(rewards, root_values, *, terminated, marker=0.0, num_actions=2):
    """An episode whose observation at t is (marker, t), and whose action at t is t modulo A."""
    T = len(rewards)
    observations = np.stack([np.full(T + 1, marker), np.arange(T + 1)], axis=1).astype(np.float32)
    share = (1 + np.arange(T + 1)) / (T + 2)
    return Episode(
        observations=observations,
        actions=np.arange(T) % num_actions,
        rewards=np.array(rewards, np.float64),
        policies=np.stack([share, 1 - share], axis=1),
        root_values=np.array(root_values, np.float64),
        terminated=terminated,
    )


def random_batch(seed, *, B, K, A, size=4, reach=40.0):
    """Numbers of every kind: values beyond the support, and weights of 0 beside others."""
    generator = np.random.default_rng(seed)

    def weights(*shape):
        return (generator.random(shape) * (generator.random(shape) < 0.8) / B).astype(np.float32)

    return Batch(
        observations=generator.standard_normal((B, size)).astype(np.float32),
        actions=generator.integers(A, size=(K, B)),
        rewards=generator.normal(scale=3, size=(K, B)).astype(np.float32),
        values=generator.uniform(-reach, reach, (K + 1, B)).astype(np.float32),
        policies=generator.dirichlet(np.ones(A), size=(K + 1, B)).astype(np.float32),
        reward_weights=weights(K, B),
        value_weights=weights(K + 1, B),
        policy_weights=weights(K + 1, B),
    )


def made_up(T, *, marker=0, terminated=False, seed=0):
    """An episode with random rewards and root values."""
    generator = np.random.default_rng((seed, marker))
    root_values = generator.normal(size=T + 1)
    if terminated:
        root_values[-1] = 0
    return episode(generator.normal(size=T), root_values, terminated=terminated, marker=marker)


def replay_of(*episodes, gamma=0.5, **settings):
    """A small replay buffer that holds these episodes, with further keys of the training configuration."""
    config = TrainingConfig(**{"replay_capacity": 64, "priority_alpha": 0.0, "value_loss_weight": 0.25, **settings})
    replay = Replay(config, observation_shape=(2,), num_actions=2, gamma=gamma)
    for one in episodes:
        replay.add(one)
    return replay


def drawn(replay, B=None, *, seed=0, step=0):
    """Slots and batch that a replay buffer gives."""
    generator = np.random.default_rng(seed)
    slots = replay.draw(generator, B or replay.config.batch_size)
    return slots, replay.batch(slots, generator, step=step)
