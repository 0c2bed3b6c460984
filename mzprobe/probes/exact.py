"""Value equivalence of a model of a `TabularEnvironment`, computed exactly instead of estimated.

Value equivalence is defined as in Grimm et al. 2020 ("The Value Equivalence Principle for Model-Based Reinforcement
Learning", k = 1), and order-k and proper value equivalence as in Grimm et al. 2021 ("Proper Value Equivalence").
Policies and functions are over real states; `model_tables` decides which real state a node of the model stands for. All
results are in environment units, and a perfect model scores exactly 0.0.
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
_LARGEST = 1 << 13  # largest number of nodes of a linear system, which takes 512 MiB and as much again to solve
_HELD = 1 << 22  # entries of the linear systems solved at a time


# Order-k value equivalence


def order_k_errors(
    environment: TabularEnvironment,
    model: ModelTables,
    policies: ArrayLike,
    functions: Sequence[Function],
    orders: Sequence[int],
) -> Float64:
    """Computes the errors of k updates in the model: `|(T_pi^k v)(s) - (T~_pi^k v)(start(s))|`.

    T_pi v = r_pi + gamma P_pi v in the environment, where terminal states are absorbing with reward 0. T~_pi is the
    same operator in the model, whose terminal states may behave differently.

    Args:
        environment: the truth.
        model: a model whose nodes stand for real states.
        policies: probabilities `[n, S, A]`.
        functions: m functions, environment units. Each is `[S]`, which a node takes at its real state, or a tuple of
            `[S]` at real states and `[M]` at nodes; the network's own is `(model.value[model.start], model.value)`.
        orders: values of k, at least 1.

    Returns:
        `[n, m, len(orders), S]`, environment units.

    Raises:
        ValueError: if the model's nodes do not stand for real states, or an argument has the wrong shape or is out of
            range.
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
    """Summarises `order_k_errors` by their maximum and mean over states; the arguments are the same.

    Returns:
        One row per policy, function and order, with columns policy and function (indices), k, max and mean.

    Raises:
        ValueError: as in `order_k_errors`.
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
    """Returns T_pi v `[..., M]`, for a policy `[..., M, A]` and v `[..., M]` at nodes."""
    # Summing action by action does the same operations at every node of truth and model: equal nodes stay equal.
    total: Float64 = np.zeros(np.broadcast_shapes(policy.shape[:-1], v.shape))
    for a in range(policy.shape[-1]):
        total += policy[..., a] * (model.rewards[:, a] + gamma * _next(model, v, a))
    return total


def _next(model: ModelTables, v: Float64, a: int) -> Float64:
    """Returns the expectation of v `[..., M]` after action a, at every node."""
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
    """Returns m functions at real states `[m, S]` and at nodes `[m, M]`."""
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
    """Computes the errors of the model's values of policies: `|v~_pi(start(s)) - v_pi(s)|`.

    They are the limit of the order-k errors, computed by two linear solves: v_pi = T_pi v_pi, then d = v~_pi - v_pi at
    the nodes from d = (T~_pi v_pi - T_pi v_pi) + gamma P~_pi d. A state from which pi meets no one-step error therefore
    scores exactly 0.0, whatever nodes the model has.

    Args:
        environment: the truth, gamma < 1.
        model: a model whose nodes stand for real states.
        policies: probabilities `[n, S, A]`.

    Returns:
        `[n, S]`, environment units.

    Raises:
        ValueError: if gamma is 1, the model's nodes do not stand for real states or are too many to solve for, or the
            policies have the wrong shape or are not distributions.
    """
    policy = _valid_policies(environment, model, policies)
    errors = _one_step_errors(environment, model, policy)
    difference = _solve(model, policy[:, model.state], errors, _discount(environment))
    return np.abs(difference[:, model.start])


def proper_errors_of_all_policies(
    environment: TabularEnvironment, model: ModelTables, *, limit: int = 1 << 16
) -> Float64:
    """Computes the largest proper error of each state over all A^S deterministic policies.

    Args:
        environment: the truth, gamma < 1.
        model: a model whose nodes stand for real states.
        limit: largest number of policies to try.

    Returns:
        `[S]`, environment units; the policy with the largest error may differ from state to state.

    Raises:
        ValueError: if there are more than `limit` policies, or as in `proper_errors`.
    """
    S, A = environment.transitions.shape
    count = A**S
    if count > limit:
        raise ValueError(f"there are {A}^{S} deterministic policies, more than {limit:,} (limit)")
    largest = np.zeros(S)
    for first in range(0, count, 4096):
        number = np.arange(first, min(first + 4096, count))
        actions = number[:, None] // A ** np.arange(S) % A  # [n, S]: a policy is a number of S digits in base A
        largest = np.maximum(largest, proper_errors(environment, model, np.eye(A)[actions]).max(axis=0))
    return largest


def error_bound(environment: TabularEnvironment, model: ModelTables, policy: ArrayLike) -> tuple[float, float]:
    """Computes a bound on the proper errors of a policy from its one-step errors.

    epsilon = max over N of `|(T~_pi V)(n) - V(n)|`, where `V(n) = v_pi(state[n])`, and N are the nodes that pi reaches
    from the encoded states. The bound is epsilon / (1 - gamma); no proper error exceeds it by more than rounding.

    Proof: pi never leaves N, so on N T~_pi is a gamma-contraction in the largest difference, with fixed point v~_pi.
    Hence `|v~_pi - V| <= |T~_pi v~_pi - T~_pi V| + |T~_pi V - V| <= gamma |v~_pi - V| + epsilon`, and start(s) is in N.
    The encoded states alone would not suffice as N, since pi may reach nodes for s other than start(s).

    Args:
        environment: the truth, gamma < 1.
        model: a model whose nodes stand for real states.
        policy: probabilities `[S, A]`.

    Returns:
        epsilon and the bound, environment units.

    Raises:
        ValueError: as in `proper_errors`.
    """
    policies = _valid_policies(environment, model, np.asarray(policy, dtype=np.float64)[None])
    errors = _one_step_errors(environment, model, policies)[0]
    epsilon = float(np.abs(errors[_reached(model, policies[0, model.state])]).max())
    return epsilon, epsilon / (1 - _discount(environment))


def _one_step_errors(environment: TabularEnvironment, model: ModelTables, policy: Float64) -> Float64:
    """Returns T~_pi V - V at every node `[n, M]`, where V is v_pi at the node's real state.

    The second V is computed as T_pi V, which equals it up to rounding, so that a perfect model's difference is 0.0.
    """
    truth, gamma = true_tables(environment), _discount(environment)
    expected = (policy * truth.rewards).sum(axis=-1)
    v = _solve(truth, policy, expected, gamma)
    modelled = _update(model, policy[:, model.state], v[:, model.state], gamma)
    return np.asarray(modelled - _update(truth, policy, v, gamma)[:, model.state])


def _reached(model: ModelTables, policy: Float64) -> Bool:
    """Returns which nodes `[M]` a policy `[M, A]` reaches from the encoded states, including these."""
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
    """Solves x = rewards + gamma P_pi x for x `[n, M]`, given policies `[n, M, A]` and rewards `[n, M]` at nodes."""
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
        # Elimination leaves rounding errors where x is exactly 0: at nodes from which no reward is reached.
        solved[part] = np.where(_met(system != 0, rewards[part] != 0), solution, 0.0)
    return solved


def _met(links: Bool, marked: Bool) -> Bool:
    """Returns the nodes `[n, M]` from which links `[n, M, M]` lead to a marked one; every node links to itself."""
    while True:
        wider = (links @ marked[:, :, None])[:, :, 0]
        if (wider == marked).all():
            return marked
        marked = wider


# Planning


def greedy_regret(environment: TabularEnvironment, model: ModelTables) -> Float64:
    """Computes the regret of acting greedily on the model's optimal values: v*(s) - v_pi(s).

    pi(s) = argmax_a R~(start(s), a) + gamma E v~*(next), where v~* is optimal among the model's own nodes: planning in
    the model knows no real states, so `state` is not used. Action values count as equal if they differ by at most 1e-12
    times the larger of 1 and the largest value's magnitude. Of equal actions the lowest is taken, and a loss that small
    counts as 0. The regret x solves x = (max_a Q* - Q*(., pi)) + gamma P_pi x, which avoids a difference of large
    numbers.

    Args:
        environment: the truth, gamma < 1.
        model: any model of it; `state` may be None.

    Returns:
        `[S]`, environment units.

    Raises:
        ValueError: if gamma is 1, the model has other numbers of states or actions, or its nodes are too many to solve
            for.
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
    return np.maximum(regret, 0.0)  # rounding may make a tiny regret negative


def _optimal_action_values(model: ModelTables, gamma: float) -> tuple[Float64, float]:
    """Returns Q* `[M, A]` by policy iteration, exact up to rounding, and the tolerance for equal action values."""
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
