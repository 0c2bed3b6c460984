"""Value equivalence of a model of a `TabularEnvironment`, computed and not estimated.

Value equivalence is that of Grimm et al. 2020 ("The Value Equivalence Principle for Model-Based Reinforcement
Learning", k = 1), order-k and proper those of Grimm et al. 2021 ("Proper Value Equivalence"). They are over policies
and functions of real states: `model_tables` says which real state a node of the model stands for. All results are in
environment units, and a perfect model scores exactly 0.0.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mzprobe.envs import TabularEnvironment
from mzprobe.envs.validation import integers
from mzprobe.probes.model_tables import ModelTables, refuse_no_distribution, refuse_other_sizes, true_tables

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Function = ArrayLike | tuple[ArrayLike, ArrayLike]

_NEAR = 1e-12  # share of the largest value within which two actions are equally good, as in envs/tabular.py
_LARGEST = 1 << 13  # nodes of a linear system: 512 MiB, and as much again to solve it
_HELD = 1 << 22  # numbers of the linear systems that are solved at a time


# Order-k value equivalence


def order_k_errors(
    environment: TabularEnvironment,
    model: ModelTables,
    policies: ArrayLike,
    functions: Sequence[Function],
    orders: Sequence[int],
) -> Float64:
    """How far k updates in the model are from k in the truth: `|(T_pi^k v)(s) - (T~_pi^k v)(start(s))|`.

    T_pi v = r_pi + gamma P_pi v in the environment, terminal states being absorbing with reward 0; T~_pi is the
    same in the model, which may do otherwise there.

    Args:
        environment: the truth.
        model: whose nodes stand for real states.
        policies: probabilities `[n, S, A]`.
        functions: m of them, environment units: `[S]`, which a node takes at its real state, or a tuple of two,
            `[S]` at real states and `[M]` at nodes: the network's own is `(model.value[model.start], model.value)`.
        orders: k of each, at least 1.

    Returns:
        `[n, m, len(orders), S]`.

    Raises:
        ValueError: if the nodes stand for no real states, or an argument has another shape or is out of range.
    """
    policy = _valid_policies(environment, model, policies)
    real, modelled = _valid_functions(model, functions)
    wanted = integers(orders, "orders")
    if not len(wanted) or wanted.min() < 1:
        raise ValueError("orders must hold at least one number, each at least 1")
    truth, gamma = true_tables(environment), environment.spec.gamma
    real_policy, model_policy = policy[:, None], policy[:, None, model.state]
    errors = np.empty((len(policy), len(real), len(wanted), len(model.start)))
    for k in range(1, wanted.max() + 1):
        real = _update(truth, real_policy, real, gamma)
        modelled = _update(model, model_policy, modelled, gamma)
        errors[:, :, wanted == k] = np.abs(real - modelled[..., model.start])[:, :, None]
    return errors


def order_k_summary(
    environment: TabularEnvironment,
    model: ModelTables,
    policies: ArrayLike,
    functions: Sequence[Function],
    orders: Sequence[int],
) -> pd.DataFrame:
    """`order_k_errors` over states.

    Returns:
        One row a policy, function and order: columns policy and function (indices), k, max and mean.

    Raises:
        ValueError: as `order_k_errors`.
    """
    errors = order_k_errors(environment, model, policies, functions, orders)
    policy, function, order = np.indices(errors.shape[:3]).reshape(3, -1)
    return pd.DataFrame(
        {
            "policy": policy,
            "function": function,
            "k": np.asarray(orders)[order],
            "max": errors.max(axis=-1).ravel(),
            "mean": errors.mean(axis=-1).ravel(),
        }
    )


def _update(model: ModelTables, policy: Float64, v: Float64, gamma: float) -> Float64:
    """T_pi v: policy `[..., M, A]`, v `[..., M]` at nodes."""
    # One action after the other: the same operations at every node of truth and model, so that equals stay equal.
    total: Float64 = np.zeros(np.broadcast_shapes(policy.shape[:-1], v.shape))
    for a in range(policy.shape[-1]):
        total += policy[..., a] * (model.rewards[:, a] + gamma * _next(model, v, a))
    return total


def _next(model: ModelTables, v: Float64, a: int) -> Float64:
    """Expected v `[..., M]` after action a."""
    table = model.transitions[:, a]
    return np.asarray(v[..., table] if model.transitions.ndim == 2 else v @ table.T)


def _valid_policies(environment: TabularEnvironment, model: ModelTables, policies: ArrayLike) -> Float64:
    refuse_other_sizes(environment, model)
    if model.state is None:
        raise ValueError("the model's nodes stand for no real states: take along_real_states(environment, model)")
    policy = np.asarray(policies, dtype=np.float64)
    shape = environment.transitions.shape
    if policy.ndim != 3 or policy.shape[1:] != shape:
        raise ValueError(f"policies must be [n, S, A] = (n, {shape[0]}, {shape[1]}), not {policy.shape}")
    refuse_no_distribution(policy, "policies")
    return policy


def _valid_functions(model: ModelTables, functions: Sequence[Function]) -> tuple[Float64, Float64]:
    """At real states `[m, S]` and at nodes `[m, M]`."""
    S, M = len(model.start), len(model.rewards)
    real, modelled = [], []
    for function in functions:
        first, second = function if isinstance(function, tuple) and len(function) == 2 else (function, None)
        at_states = np.asarray(first, dtype=np.float64)
        if at_states.shape != (S,):
            raise ValueError(f"a function must be [S] = ({S},), or a tuple whose first is, not of {at_states.shape}")
        at_nodes = at_states[model.state] if second is None else np.asarray(second, dtype=np.float64)
        if at_nodes.shape != (M,):
            raise ValueError(f"the second of a tuple must be [M] = ({M},), not {at_nodes.shape}")
        if not (np.isfinite(at_states).all() and np.isfinite(at_nodes).all()):
            raise ValueError("functions must be finite")
        real.append(at_states)
        modelled.append(at_nodes)
    if not real:
        raise ValueError("functions must hold at least one")
    return np.array(real), np.array(modelled)


# Proper value equivalence


def proper_errors(environment: TabularEnvironment, model: ModelTables, policies: ArrayLike) -> Float64:
    """How far the model's values of policies are from the true ones: `|v~_pi(start(s)) - v_pi(s)|`.

    The limit of the order-k errors, by two linear solves: v_pi = T_pi v_pi, then d = v~_pi - v_pi at the nodes from
    d = (T~_pi v_pi - T_pi v_pi) + gamma P~_pi d, so that a state from which pi meets no error scores
    exactly 0.0, whatever the model's nodes.

    Args:
        environment: the truth, gamma < 1.
        model: whose nodes stand for real states.
        policies: probabilities `[n, S, A]`.

    Returns:
        `[n, S]`, environment units.

    Raises:
        ValueError: if gamma is 1, the nodes stand for no real states or are too many to solve for, or the policies
            have another shape or are no distributions.
    """
    policy = _valid_policies(environment, model, policies)
    errors = _one_step_errors(environment, model, policy)
    difference = _solve(model, policy[:, model.state], errors, _discount(environment))
    return np.abs(difference[:, model.start])


def proper_errors_of_all_policies(
    environment: TabularEnvironment, model: ModelTables, *, limit: int = 1 << 16
) -> Float64:
    """The largest proper error of each state over all A^S deterministic policies.

    Args:
        environment: the truth, gamma < 1.
        model: whose nodes stand for real states.
        limit: policies at most.

    Returns:
        `[S]`, environment units; the policy may differ from state to state.

    Raises:
        ValueError: if there are more than `limit` policies, or as `proper_errors`.
    """
    S, A = environment.transitions.shape
    count = A**S
    if count > limit:
        raise ValueError(f"there are {A}^{S} deterministic policies, more than {limit:,} (limit)")
    largest = np.zeros(S)
    for first in range(0, count, 4096):
        number = np.arange(first, min(first + 4096, count))
        actions = number[:, None] // A ** np.arange(S) % A  # [n, S]: a policy is a number of S digits
        largest = np.maximum(largest, proper_errors(environment, model, np.eye(A)[actions]).max(axis=0))
    return largest


def error_bound(environment: TabularEnvironment, model: ModelTables, policy: ArrayLike) -> tuple[float, float]:
    """A bound on the proper errors of a policy from one-step errors.

    epsilon = max over N of `|(T~_pi V)(n) - V(n)|`, where `V(n) = v_pi(state[n])`, and N are the nodes that pi reaches
    from the encoded states. bound = epsilon / (1 - gamma), and every proper error is at most that, to rounding.
    Proof: pi never leaves N, so on N T~_pi is a gamma-contraction in the largest difference, with fixed point v~_pi;
    `|v~_pi - V| <= |T~_pi v~_pi - T~_pi V| + |T~_pi V - V| <= gamma |v~_pi - V| + epsilon`, and start(s) is in N.
    The encoded states alone would not do: a node that stands for s may be another than start(s).

    Args:
        environment: the truth, gamma < 1.
        model: whose nodes stand for real states.
        policy: probabilities `[S, A]`.

    Returns:
        epsilon and the bound, environment units.

    Raises:
        ValueError: as `proper_errors`.
    """
    policies = _valid_policies(environment, model, np.asarray(policy, dtype=np.float64)[None])
    errors = _one_step_errors(environment, model, policies)[0]
    epsilon = float(np.abs(errors[_reached(model, policies[0, model.state])]).max())
    return epsilon, epsilon / (1 - _discount(environment))


def _one_step_errors(environment: TabularEnvironment, model: ModelTables, policy: Float64) -> Float64:
    """T~_pi V - V at every node `[n, M]`, V being v_pi at its real state.

    The second V is written T_pi V, which it is but for rounding, so that a perfect model's difference is 0.0.
    """
    truth, gamma = true_tables(environment), _discount(environment)
    expected = (policy * truth.rewards).sum(axis=-1)
    v = _solve(truth, policy, expected, gamma)
    modelled = _update(model, policy[:, model.state], v[:, model.state], gamma)
    return np.asarray(modelled - _update(truth, policy, v, gamma)[:, model.state])


def _reached(model: ModelTables, policy: Float64) -> Bool:
    """Nodes `[M]` that a policy `[M, A]` reaches from the encoded states, these among them."""
    reached = np.zeros(len(policy), dtype=np.bool_)
    new = np.unique(model.start)
    while len(new):
        reached[new] = True
        taken = policy[new] > 0
        following = model.transitions[new][taken]  # nodes, or rows of probabilities
        if model.transitions.ndim == 3:
            following = np.flatnonzero((following > 0).any(axis=0))
        new = np.setdiff1d(following, np.flatnonzero(reached))
    return reached


def _discount(environment: TabularEnvironment) -> float:
    if environment.spec.gamma == 1:
        raise ValueError("exact values need gamma < 1")
    return environment.spec.gamma


def _solve(model: ModelTables, policy: Float64, rewards: Float64, gamma: float) -> Float64:
    """Solves x = rewards + gamma P_pi x: policy `[n, M, A]` and rewards `[n, M]` at nodes give x `[n, M]`."""
    n, M, A = policy.shape
    if M > _LARGEST:
        raise ValueError(f"linear equations of {M:,} nodes are too many to solve (at most {_LARGEST:,})")
    size = max(1, _HELD // M**2)
    solved = np.empty((n, M))
    for first in range(0, n, size):
        part = slice(first, first + size)
        system = np.broadcast_to(np.eye(M), (len(policy[part]), M, M)).copy()
        for a in range(A):
            weight = gamma * policy[part, :, a]
            if model.transitions.ndim == 2:
                system[:, np.arange(M), model.transitions[:, a]] -= weight
            else:
                system -= weight[:, :, None] * model.transitions[:, a]
        solution = np.linalg.solve(system, rewards[part, :, None])[:, :, 0]
        # Elimination leaves rounding where the solution is 0: at nodes from which nothing is met.
        solved[part] = np.where(_met(system != 0, rewards[part] != 0), solution, 0.0)
    return solved


def _met(links: Bool, marked: Bool) -> Bool:
    """Nodes `[n, M]` from which a marked one is reached by links `[n, M, M]`; each node has a link to itself."""
    while True:
        wider = (links @ marked[:, :, None])[:, :, 0]
        if (wider == marked).all():
            return marked
        marked = wider


# Planning


def greedy_regret(environment: TabularEnvironment, model: ModelTables) -> Float64:
    """What acting greedily on the model's optimal values loses: v*(s) - v_pi(s).

    pi(s) = argmax_a R~(start(s), a) + gamma E v~*(next), v~* optimal among the model's own nodes: who plans in the
    model does not know real states, so `state` is not used. Actions within 1e-12 of the larger of 1 and the largest
    value's magnitude are equally good; the lowest is taken, and such a loss counts as none. The regret x solves
    x = (max_a Q* - Q*(., pi)) + gamma P_pi x, so that it is no difference of large numbers.

    Args:
        environment: the truth, gamma < 1.
        model: any.

    Returns:
        `[S]`, environment units.

    Raises:
        ValueError: if gamma is 1, the model is of other numbers of states or actions, or its nodes are too many to
            solve for.
    """
    refuse_other_sizes(environment, model)
    gamma = _discount(environment)
    truth = true_tables(environment)
    planned, near = _optimal_action_values(model, gamma)
    planned = planned[model.start]
    greedy = (planned >= planned.max(axis=1, keepdims=True) - near).argmax(axis=1)
    best, near = _optimal_action_values(truth, gamma)
    loss = best.max(axis=1) - best[np.arange(len(best)), greedy]
    loss[loss <= near] = 0.0
    policy = np.eye(best.shape[1])[greedy]
    regret: Float64 = _solve(truth, policy[None], loss[None], gamma)[0]
    return np.maximum(regret, 0.0)  # a tiny one may be negative by rounding


def _optimal_action_values(model: ModelTables, gamma: float) -> tuple[Float64, float]:
    """Q* `[M, A]` by policy iteration, so to rounding, and the difference that counts as none."""
    M, A = model.rewards.shape
    best = np.zeros(M, dtype=np.int64)
    while True:
        v = _solve(model, np.eye(A)[best][None], model.rewards[None, np.arange(M), best], gamma)[0]
        action_values = np.stack([model.rewards[:, a] + gamma * _next(model, v, a) for a in range(A)], axis=1)
        near = _NEAR * max(1.0, float(np.abs(v).max()))
        better = action_values.max(axis=1) - action_values[np.arange(M), best] > near
        if not better.any():
            return action_values, near
        best = np.where(better, action_values.argmax(axis=1), best)
