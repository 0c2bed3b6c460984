"""Action sequences from sampled states, laid out as a tree of prefixes along the *real* states.

Truth and model are scored on the same tree, so that a perfect model scores exactly 0. A node is one prefix: the real
state at its end, the latent at its end, and the discounted rewards of both on the way. The tree grows where somebody
walks, and keeps what it has, so that several policies walked over it share its truth.
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
from mzprobe.errors import UsageError
from mzprobe.networks import MuZeroNetwork
from mzprobe.networks.engine import engine_for
from mzprobe.search.mcts import actions_from_uniforms

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SEQUENCES = 1 << 16  # held at a time, unless a caller says otherwise
LARGEST = 1 << 22  # sequences of one state that are still tried


class PrefixTree:
    """Prefixes from S states; nodes 0 .. S - 1 are the states themselves.

    Args:
        environment: the truth.
        network: the model.
        states: S real states.
        compute: how it runs.
    """

    def __init__(
        self, environment: Environment, network: MuZeroNetwork, states: Any, *, compute: Compute | None = None
    ) -> None:
        self.environment = environment
        self.engine = engine_for(network, compute)
        S = len(states)
        self.states = states
        self.latents = self.engine.represent(environment.observe(states))
        self.root = np.arange(S)  # [M], which state a prefix starts from
        self.length = np.zeros(S, np.int64)  # [M], actions in it
        self.terminal = environment.terminal(states)  # [M]
        self.value = np.zeros(S)  # [M], v of the prefix
        self.predicted = np.zeros(S)  # [M], v̂ of the prefix
        self.alive_predicted = np.zeros(S)  # [M], v̂ without what follows a terminal state
        self.reward = np.zeros(S)  # [M], r of the last action
        self.predicted_reward = np.zeros(S)  # [M], u of it, in the model
        self.grounded_reward = np.zeros(S)  # [M], u of it from the real state before, encoded anew
        self.child = np.full((S, environment.spec.num_actions), -1)  # [M, A]

    def follow(self, nodes: Int64, actions: Int64) -> Int64:
        """The prefixes one longer: from node `nodes[i]` by `actions[i]`, every pair once; grown where they are new."""
        new = self.child[nodes, actions] < 0
        if new.any():
            self._grow(nodes[new], actions[new])
        return np.asarray(self.child[nodes, actions])

    def _grow(self, parents: Int64, actions: Int64) -> None:
        M, n = len(self.root), len(parents)
        states, outcome = self.environment.step(self.states.take(parents), actions)
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
        """What the model predicts of a step whose latent is not unrolled but encoded from the real state."""
        of, place = np.unique(parents, return_inverse=True)
        encoded = self.engine.represent(self.environment.observe(self.states.take(of)))
        _, u = self.engine.dynamics(encoded[torch.as_tensor(place, device=encoded.device)], actions)
        return np.asarray(u.cpu().numpy(), np.float64)


@dataclass(frozen=True, kw_only=True)
class Level:
    """A policy's prefixes of one length."""

    nodes: Int64  # [M], of the tree
    weight: Float64  # [M], probability given the state it starts from (or share of its samples)
    policy: Float64  # [M, A], pi at the real state; of the last level, of no meaning

    def expect(self, tree: PrefixTree, numbers: Float64, S: int) -> Float64:
        """Expectation of numbers `[M]` of the prefixes, `[S]`."""
        weighted = self.weight * numbers
        return np.asarray(np.bincount(tree.root[self.nodes], weights=weighted, minlength=S), dtype=np.float64)


def first_level(tree: PrefixTree, policy: Policy, S: int) -> Level:
    """The S states."""
    return Level(nodes=np.arange(S), weight=np.ones(S), policy=policy.distribution(tree.states.take(np.arange(S))))


def next_level(
    tree: PrefixTree, policy: Policy, level: Level, parents: Int64, actions: Int64, weight: Float64, *, last: bool
) -> Level:
    """The prefixes one longer: child i takes `actions[i]` after prefix `parents[i]` of the level."""
    nodes = tree.follow(level.nodes[parents], actions)
    pi = level.policy[parents]
    # A state that had ended before is the same state, with the same policy.
    moved = np.flatnonzero(~tree.terminal[level.nodes[parents]])
    if not last and len(moved):
        pi[moved] = policy.distribution(tree.states.take(nodes[moved]))
    return Level(nodes=nodes, weight=weight, policy=pi)


def every_action(level: Level) -> tuple[Int64, Int64, Float64]:
    """Parents, actions and weights of all prefixes one longer that have a probability."""
    parents, actions = np.nonzero(level.policy > 0)
    return parents, actions, level.weight[parents] * level.policy[parents, actions]


def walk(tree: PrefixTree, policy: Policy, S: int, *, horizon: int, uniforms: Float64 | None = None) -> Iterator[Level]:
    """A policy's prefixes of the lengths 0, 1 .. horizon.

    Args:
        tree: over S states, grown where it has to be.
        policy: in the real environment.
        S: states.
        horizon: length of the last level.
        uniforms: `[S, m, horizon]` numbers in [0, 1) that draw m sequences a state; None takes all.
    """
    level = first_level(tree, policy, S)
    yield level
    # Where each sampled sequence stands: a prefix of the current level.
    at = None if uniforms is None else np.repeat(np.arange(S), uniforms.shape[1])
    for h in range(1, horizon + 1):
        if uniforms is None or at is None:
            parents, actions, weight = every_action(level)
        else:
            taken = actions_from_uniforms(level.policy[at], uniforms[:, :, h - 1].ravel())
            A = level.policy.shape[1]
            edges, at, counts = np.unique(at * A + taken, return_inverse=True, return_counts=True)
            parents, actions = np.divmod(edges, A)
            weight = counts / uniforms.shape[1]
        level = next_level(tree, policy, level, parents, actions, weight, last=h == horizon)
        yield level


def walk_all(tree: PrefixTree, policies: Callable[[Any], Float64], S: int, *, length: int) -> tuple[Int64, Float64]:
    """All A^length sequences, likely or not, with their probabilities under several policies.

    Args:
        tree: over S states, grown where it has to be.
        policies: V policies in the real environment, states -> `[V, B, A]`.
        S: states.
        length: of the sequences.

    Returns:
        The prefixes `[S, A^length]`, in lexicographic order, and their probabilities `[V, S, A^length]`.
    """
    nodes, pi = np.arange(S), policies(tree.states.take(np.arange(S)))
    V, _, A = pi.shape
    weight = np.ones((V, S))
    for h in range(1, length + 1):
        parents, actions = np.repeat(np.arange(len(nodes)), A), np.tile(np.arange(A), len(nodes))
        weight = (weight[:, :, None] * pi).reshape(V, -1)
        # A state that had ended before is the same state, with the same policies.
        moved = np.flatnonzero(~tree.terminal[nodes[parents]])
        nodes, pi = tree.follow(nodes[parents], actions), pi[:, parents]
        if h < length and len(moved):
            pi[:, moved] = policies(tree.states.take(nodes[moved]))
    return nodes.reshape(S, -1), weight.reshape(V, S, -1)


def portions(S: int, widest: int, batch_size: int) -> list[Int64]:
    """Parts of S states of which each has up to `widest` sequences, so that few enough are held at a time.

    Raises:
        UsageError: if those of one state alone are too many.
    """
    refuse_too_many(widest)
    size = max(1, batch_size // widest)
    return [np.arange(first, min(first + size, S)) for first in range(0, S, size)]


def refuse_too_many(widest: int) -> None:
    """Refuses more sequences of one state than can be held.

    Raises:
        UsageError: naming how many there are.
    """
    if widest > LARGEST:
        count = f"{widest:,}" if widest < 10**15 else f"about 10^{math.log10(widest):.0f}"
        raise UsageError(
            f"{count} action sequences a state are too many to hold (at most {LARGEST:,}): ask for shorter ones, or "
            "lower enumerate_up_to where there is one, so that they are sampled"
        )
