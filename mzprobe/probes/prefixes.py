"""Action sequences from sampled states, laid out as a tree of prefixes along the *real* states.

Truth and model are scored on the same tree, so that a perfect model's error is exactly 0. A node is one prefix: the
real state and the latent at its end, and the discounted rewards of both on the way. The tree grows as policies are
followed and keeps its nodes, so that several policies share the same truth.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe.behaviour import Policy
from mzprobe.compute import Compute
from mzprobe.envs import Environment, concatenate
from mzprobe.envs.core import step_of
from mzprobe.errors import UsageError
from mzprobe.networks import MuZeroNetwork
from mzprobe.networks.engine import engine_for
from mzprobe.search.mcts import actions_from_uniforms

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SEQUENCES = 1 << 16  # default number of sequences held at a time
LARGEST = 1 << 22  # largest number of sequences of one state


class PrefixTree:
    """Prefixes of action sequences from S states; nodes 0 .. S - 1 are the states themselves.

    Args:
        environment: the truth.
        network: the model.
        states: S real states.
        compute: device, precision and threads of the network.
    """

    def __init__(
        self, environment: Environment, network: MuZeroNetwork, states: Any, *, compute: Compute | None = None
    ) -> None:
        self.environment = environment
        self.engine = engine_for(network, compute)
        S = self.S = len(states)
        self.states = states
        self.latents = self.engine.represent(environment.observe(states))
        self.root = np.arange(S)  # [M], index of the state that a prefix starts from
        self.length = np.zeros(S, np.int64)  # [M], number of actions
        self.terminal = environment.terminal(states)  # [M]
        self.value = np.zeros(S)  # [M], v of the prefix
        self.predicted = np.zeros(S)  # [M], v̂ of the prefix
        self.alive_predicted = np.zeros(S)  # [M], v̂ without what follows a terminal state
        self.reward = np.zeros(S)  # [M], r of the last action
        self.predicted_reward = np.zeros(S)  # [M], u of the last action, in the model
        self.grounded_reward = np.zeros(S)  # [M], u of the last action from the encoding of the real state before it
        self.child = np.full((S, environment.spec.num_actions), -1)  # [M, A], node after each action; -1 if not grown

    def follow(self, nodes: Int64, actions: Int64) -> Int64:
        """Returns the prefixes one longer: from node `nodes[i]` by `actions[i]`; grows those that are new.

        No pair of node and action may occur twice.
        """
        new = self.child[nodes, actions] < 0
        if new.any():
            self._grow(nodes[new], actions[new])
        return np.asarray(self.child[nodes, actions])

    def _grow(self, parents: Int64, actions: Int64) -> None:
        M, n = len(self.root), len(parents)
        states, outcome = step_of(self.environment, self.states.take(parents), actions)
        before = self.latents[torch.as_tensor(parents, device=self.latents.device)]
        latents, u = self.engine.dynamics(before, actions)
        unrolled = u.cpu().numpy().astype(np.float64)
        discount = libm.power(self.environment.spec.gamma, self.length[parents])
        predicted = discount * unrolled
        alive = np.where(self.terminal[parents], 0.0, predicted)

        def grown(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([old, new])

        self.states = concatenate([self.states, states])
        self.latents = torch.cat([self.latents, latents])
        self.root = grown(self.root, self.root[parents])
        self.length = grown(self.length, self.length[parents] + 1)
        self.value = grown(self.value, self.value[parents] + discount * outcome.reward)
        self.predicted = grown(self.predicted, self.predicted[parents] + predicted)
        self.alive_predicted = grown(self.alive_predicted, self.alive_predicted[parents] + alive)
        self.reward = grown(self.reward, outcome.reward)
        self.predicted_reward = grown(self.predicted_reward, unrolled)
        self.grounded_reward = grown(self.grounded_reward, self._grounded(parents, actions))
        self.terminal = grown(self.terminal, outcome.terminated)
        self.child[parents, actions] = M + np.arange(n)
        self.child = grown(self.child, np.full((n, self.child.shape[1]), -1))

    def _grounded(self, parents: Int64, actions: Int64) -> Float64:
        """Returns the rewards that the model predicts from the encodings of the parents' real states."""
        of, place = np.unique(parents, return_inverse=True)
        encoded = self.engine.represent(self.environment.observe(self.states.take(of)))
        _, u = self.engine.dynamics(encoded[torch.as_tensor(place, device=encoded.device)], actions)
        return np.asarray(u.cpu().numpy(), np.float64)


@dataclass(frozen=True, kw_only=True)
class Level:
    """A policy's prefixes of one length, from S states."""

    S: int  # number of states
    nodes: Int64  # [M], nodes of the tree
    root: Int64  # [M], index of the state that a prefix starts from
    weight: Float64  # [M], probability of a prefix given that state, or its share of the state's samples
    policy: Float64  # [M, A], pi at the real state; not valid at the last level

    def expect(self, numbers: Float64) -> Float64:
        """Returns the expectation `[S]` of numbers `[M]` over each state's prefixes."""
        weighted = self.weight * numbers
        return np.asarray(np.bincount(self.root, weights=weighted, minlength=self.S), dtype=np.float64)


def _first_level(tree: PrefixTree, policy: Policy) -> Level:
    """Returns the states themselves, as prefixes of length 0."""
    roots = np.arange(tree.S)
    return Level(
        S=tree.S, nodes=roots, root=roots, weight=np.ones(tree.S), policy=policy.distribution(tree.states.take(roots))
    )


def _next_level(
    tree: PrefixTree, policy: Policy, level: Level, *, parents: Int64, actions: Int64, weight: Float64, last: bool
) -> Level:
    """Returns the level one action longer: child i takes `actions[i]` after prefix `parents[i]` of the level."""
    nodes = tree.follow(level.nodes[parents], actions)
    pi = level.policy[parents]
    # A terminal parent does not move: its child is the same state, with the same policy.
    moved = np.flatnonzero(~tree.terminal[level.nodes[parents]])
    if not last and len(moved):
        pi[moved] = policy.distribution(tree.states.take(nodes[moved]))
    return Level(S=level.S, nodes=nodes, root=level.root[parents], weight=weight, policy=pi)


def _every_action(level: Level) -> tuple[Int64, Int64, Float64]:
    """Returns parents, actions and weights of all prefixes one action longer that have a probability above 0."""
    parents, actions = np.nonzero(level.policy > 0)
    return parents, actions, level.weight[parents] * level.policy[parents, actions]


def trees_over(
    environment: Environment,
    network: MuZeroNetwork,
    states: Any,
    *,
    widest: int,
    batch_size: int,
    uniforms: Float64 | None = None,
    compute: Compute | None = None,
) -> Iterator[tuple[Int64, PrefixTree, Float64 | None]]:
    """Yields prefix trees over portions of S states, one at a time, to bound the number of sequences held.

    Args:
        environment: the truth.
        network: the model.
        states: S real states.
        widest: largest number of sequences of a state.
        batch_size: number of sequences held at a time.
        uniforms: `[S, m, horizon]` numbers that draw sequences; None if all are enumerated.
        compute: device, precision and threads of the network.

    Yields:
        The indices of a portion's states, the tree over them, and their part of `uniforms`.

    Raises:
        UsageError: if the sequences of a single state are too many to hold.
    """
    for chosen in portions(len(states), widest, batch_size):
        tree = PrefixTree(environment, network, states.take(chosen), compute=compute)
        yield chosen, tree, None if uniforms is None else uniforms[chosen]


def walk(tree: PrefixTree, policy: Policy, *, horizon: int, uniforms: Float64 | None = None) -> Iterator[Level]:
    """Yields a policy's prefixes of the lengths 0, 1 .. horizon.

    Args:
        tree: tree over S states, grown where prefixes are missing.
        policy: policy in the real environment.
        horizon: length of the last level.
        uniforms: `[S, m, horizon]` numbers in [0, 1) that draw m sequences per state; None takes all sequences.
    """
    level = _first_level(tree, policy)
    yield level
    # The prefix of the current level that each sampled sequence has reached.
    at = None if uniforms is None else np.repeat(np.arange(tree.S), uniforms.shape[1])
    for h in range(1, horizon + 1):
        if uniforms is None or at is None:
            parents, actions, weight = _every_action(level)
        else:
            taken = actions_from_uniforms(level.policy[at], uniforms[:, :, h - 1].ravel())
            A = level.policy.shape[1]
            edges, at, counts = np.unique(at * A + taken, return_inverse=True, return_counts=True)
            parents, actions = np.divmod(edges, A)
            weight = counts / uniforms.shape[1]
        level = _next_level(tree, policy, level, parents=parents, actions=actions, weight=weight, last=h == horizon)
        yield level


def walk_all(tree: PrefixTree, policies: Callable[[Any], Float64], *, length: int) -> tuple[Int64, Float64]:
    """Follows all A^length sequences, also those of probability 0, and computes their probabilities under V policies.

    Args:
        tree: tree over S states, grown where prefixes are missing.
        policies: V policies in the real environment, states -> `[V, B, A]`.
        length: length of the sequences.

    Returns:
        The prefixes `[S, A^length]`, in lexicographic order, and their probabilities `[V, S, A^length]`.
    """
    S, nodes = tree.S, np.arange(tree.S)
    pi = policies(tree.states.take(nodes))
    V, _, A = pi.shape
    weight = np.ones((V, S))
    for h in range(1, length + 1):
        parents, actions = np.repeat(np.arange(len(nodes)), A), np.tile(np.arange(A), len(nodes))
        weight = (weight[:, :, None] * pi).reshape(V, -1)
        # A terminal parent does not move: its child is the same state, with the same policies.
        moved = np.flatnonzero(~tree.terminal[nodes[parents]])
        nodes, pi = tree.follow(nodes[parents], actions), pi[:, parents]
        if h < length and len(moved):
            pi[:, moved] = policies(tree.states.take(nodes[moved]))
    return nodes.reshape(S, -1), weight.reshape(V, S, -1)


def portions(S: int, widest: int, batch_size: int) -> list[Int64]:
    """Splits S states with up to `widest` sequences each into portions of at most `batch_size` sequences.

    A portion has at least one state, even if that has more sequences.

    Raises:
        UsageError: if the sequences of a single state are too many to hold.
    """
    refuse_too_many(widest)
    size = max(1, batch_size // widest)
    return [np.arange(first, min(first + size, S)) for first in range(0, S, size)]


def refuse_too_many(widest: int) -> None:
    """Refuses more sequences of one state than can be held.

    Raises:
        UsageError: if there are more than `LARGEST`.
    """
    if widest > LARGEST:
        count = f"{widest:,}" if widest < 10**15 else f"about 10^{math.log10(widest):.0f}"
        raise UsageError(
            f"{count} action sequences a state are too many to hold (at most {LARGEST:,}): ask for shorter ones, or "
            "lower enumerate_up_to where there is one, so that they are sampled"
        )
