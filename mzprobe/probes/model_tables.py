"""Finite models of a `TabularEnvironment`, as tables of next nodes and rewards: given, or read from a network.

Policies are defined at real states. To follow one in a model, every node must therefore stand for a real state, which
can be arranged in two ways. `tables_over_states` takes a model over the real states, whose nodes are these states.
`along_real_states` moves model and truth together; for latents, only this assigns real states to nodes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mzprobe.compute import Compute
from mzprobe.envs import TabularEnvironment
from mzprobe.envs.tabular import TabularStates
from mzprobe.envs.validation import integers
from mzprobe.networks import MuZeroNetwork
from mzprobe.networks.engine import engine_for

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class TooManyLatentsError(ValueError):
    """A network has more distinct latents than the limit allows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelTables:
    """A finite model of S real states, with M nodes and A actions. The given arrays become read-only.

    Raises:
        ValueError: if the tables do not fit each other or hold values out of range.
    """

    start: Int64  # [S], node that each real state is encoded as
    transitions: Int64 | Float64  # [M, A] next nodes, or [M, A, M] their probabilities
    rewards: Float64  # [M, A], environment units
    # [M], real state whose policy and function each node takes. None if nodes do not correspond to real states.
    state: Int64 | None = None
    value: Float64 | None = None  # [M], the network's own values, environment units
    policy: Float64 | None = None  # [M, A], the network's own policy

    def __post_init__(self) -> None:
        _refuse_bad_tables(self)
        for table in (self.start, self.transitions, self.rewards, self.state, self.value, self.policy):
            if table is not None:
                table.setflags(write=False)


def _refuse_bad_tables(model: ModelTables) -> None:
    if model.rewards.ndim != 2 or 0 in model.rewards.shape:
        raise ValueError(f"rewards must be [M, A], not {model.rewards.shape}")
    if not np.isfinite(model.rewards).all():
        raise ValueError("rewards must be finite")
    M, A = model.rewards.shape
    whole = model.transitions.dtype.kind in "iu"
    if model.transitions.shape != ((M, A) if whole else (M, A, M)):
        raise ValueError(
            f"transitions must be integers [M, A] = {(M, A)} or probabilities [M, A, M] = {(M, A, M)}, "
            f"not {model.transitions.dtype} {model.transitions.shape}"
        )
    if whole:
        _refuse_out_of_range(model.transitions, M, "transitions")
    else:
        refuse_no_distribution(model.transitions, "transitions")
    if not len(integers(model.start, "start")):
        raise ValueError("start must name a node for at least one state")
    _refuse_out_of_range(model.start, M, "start")
    for name, shape in (("state", (M,)), ("value", (M,)), ("policy", (M, A))):
        table = getattr(model, name)
        if table is not None and table.shape != shape:
            raise ValueError(f"{name} must be of shape {shape}, not {table.shape}")
    if model.state is not None:
        _refuse_out_of_range(integers(model.state, "state"), len(model.start), "state")


def _refuse_out_of_range(table: NDArray[Any], size: int, what: str) -> None:
    if ((table < 0) | (table >= size)).any():
        raise ValueError(f"{what} must lie in 0..{size - 1}")


def tables_over_states(transitions: ArrayLike, rewards: ArrayLike) -> ModelTables:
    """Returns a model given as tables over the real states themselves: node i stands for state i.

    Args:
        transitions: next states, int `[S, A]`, or their probabilities `[S, A, S]`.
        rewards: `[S, A]`, environment units.

    Raises:
        ValueError: if the tables do not fit each other or hold values out of range.
    """
    table = np.array(transitions)
    reward = np.array(rewards, dtype=np.float64)
    every = np.arange(len(reward) if reward.ndim else 0)
    if table.ndim == 3:
        table = table.astype(np.float64)
    return ModelTables(start=every, transitions=table, rewards=reward, state=every)


def tables_of_network(
    environment: TabularEnvironment,
    network: MuZeroNetwork,
    *,
    limit: int = 4096,
    compute: Compute | None = None,
) -> ModelTables:
    """Reads a network as tables, by following every action from every encoded state until no latent is new.

    Latents that are equal to the last bit are one node. Nodes are numbered breadth first, in the order in which they
    are found, and do not correspond to real states.

    Args:
        environment: the environment that the network was trained in; all its states are encoded, terminal ones too.
        network: the model.
        limit: largest number of nodes.
        compute: device, precision and threads of the network.

    Raises:
        TooManyLatentsError: if there are more than `limit` latents.
        ValueError: if the network predicts rewards that are not finite.
    """
    S, A = environment.transitions.shape
    engine = engine_for(network, compute)
    encoded = engine.represent(environment.observe(TabularStates(np.arange(S))))
    known: dict[bytes, int] = {}
    start, new = _number(encoded, known)
    latents, transitions, rewards = [new], [], []
    while len(new):
        if len(known) > limit:
            raise TooManyLatentsError(
                f"the network's latents do not close within {limit} nodes (limit): no table holds this model, but its "
                "order-k errors can be estimated with mzprobe eval-equivalence"
            )
        following, reward = engine.dynamics(new.repeat_interleave(A, dim=0), np.tile(np.arange(A), len(new)))
        nodes, new = _number(following, known)
        latents.append(new)
        transitions.append(nodes.reshape(-1, A))
        rewards.append(_float64(reward).reshape(-1, A))
    prior, value = engine.predict(torch.cat(latents))
    policy = _float64(prior)
    return ModelTables(
        start=start,
        transitions=np.concatenate(transitions),
        rewards=np.concatenate(rewards),
        value=_float64(value),
        policy=policy / policy.sum(axis=1, keepdims=True),  # the network's sums to 1 only up to float32 rounding
    )


def _number(latents: Tensor, known: dict[bytes, int]) -> tuple[Int64, Tensor]:
    """Returns the nodes `[B]` of latents, and those latents that were new; adds them to `known`."""
    rows = latents.reshape(len(latents), -1).contiguous().view(torch.uint8).cpu().numpy()
    nodes, new = [], []
    for i, row in enumerate(rows):
        key = row.tobytes()
        if key not in known:
            known[key] = len(known)
            new.append(i)
        nodes.append(known[key])
    return np.array(nodes), latents[torch.as_tensor(new, dtype=torch.int64, device=latents.device)]


def _float64(x: Tensor) -> Float64:
    return np.asarray(x.cpu().numpy(), dtype=np.float64)


def along_real_states(environment: TabularEnvironment, model: ModelTables) -> ModelTables:
    """Returns the model as it is met by a policy that acts in the real environment.

    A node of the result is a pair of a real state and a node of the model. Both move by the same action, and the pair
    stands for its real state. This follows Definition 2 of "What Model Does MuZero Learn?", where action sequences have
    the probabilities of the policy in the real environment.

    Args:
        environment: the truth.
        model: a model with deterministic transitions; its `state` is not used.

    Returns:
        The pairs that some action sequence reaches from a real state and its encoding, with the model's rewards,
        values and policy.

    Raises:
        ValueError: if the model is stochastic, or has other numbers of states or actions.
    """
    refuse_other_sizes(environment, model)
    if model.transitions.ndim == 3:
        raise ValueError("a stochastic model cannot be moved along real states: its transitions must be [M, A] nodes")
    M, S = len(model.rewards), len(model.start)
    first = np.arange(S) * M + model.start

    def moved(pairs: Int64) -> Int64:
        real, node = np.divmod(pairs, M)
        return np.asarray(environment.transitions[real] * M + model.transitions[node], dtype=np.int64)

    pairs = new = first
    while len(new):
        new = np.setdiff1d(moved(new), pairs)
        pairs = np.union1d(pairs, new)
    real, node = np.divmod(pairs, M)
    return ModelTables(
        start=np.searchsorted(pairs, first),
        transitions=np.searchsorted(pairs, moved(pairs)),
        rewards=model.rewards[node],
        state=real,
        value=None if model.value is None else model.value[node],
        policy=None if model.policy is None else model.policy[node],
    )


def true_tables(environment: TabularEnvironment) -> ModelTables:
    """Returns the environment itself as a model."""
    return tables_over_states(environment.transitions, environment.rewards)


def refuse_other_sizes(environment: TabularEnvironment, model: ModelTables) -> None:
    """Refuses a model that has other numbers of states or actions than the environment.

    Raises:
        ValueError: if the numbers differ.
    """
    sizes = len(model.start), model.rewards.shape[1]
    if sizes != environment.transitions.shape:
        raise ValueError(f"the model has {sizes} states and actions, the environment {environment.transitions.shape}")


def refuse_no_distribution(table: NDArray[Any], what: str) -> None:
    """Refuses an array whose last axis does not hold probabilities.

    Args:
        table: the array.
        what: name of the array in the error message.

    Raises:
        ValueError: if an entry is negative, or a sum over the last axis differs from 1 by more than 1e-6.
    """
    if not ((table >= 0).all() and (np.abs(table.sum(axis=-1) - 1) <= 1e-6).all()):
        raise ValueError(f"{what} must hold probabilities whose last axis sums to 1")
