"""Value prediction error of a policy by horizon (Figure 3; the paper's Eq. 3, 4, 5 and 7).

Truth and model are scored on the same tree of action sequences. Where A^h is small enough, it holds every sequence of
the policy with its probability (Eq. 6). Otherwise it holds m sampled sequences, and those with a common prefix share
its searches.
"""

from collections.abc import Callable
from itertools import takewhile
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from mzprobe import libm
from mzprobe.agents import Agent
from mzprobe.behaviour import Policy
from mzprobe.compute import Compute
from mzprobe.envs import Environment
from mzprobe.networks import MuZeroNetwork
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.prefixes import SEQUENCES, Level, PrefixTree, refuse_too_many, trees_over, walk
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, Sample, draw_states, largest_horizon
from mzprobe.settings import HorizonConfig

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

ERROR_UNITS = {
    "error": "discounted reward; magnitude of signed_error",
    "sequence_error": "discounted reward; expected magnitude of a sequence's error",
    "signed_error": "discounted reward; predicted minus true",
    "standard_error": "discounted reward; of signed_error, 0 where exact",
    "signed_low": "discounted reward; lower end of the 95 % interval of signed_error",
    "signed_high": "discounted reward; upper end of it",
    "bias": "discounted reward; of error, estimated (see mean_magnitude_bias)",
    "cancellation": "1; error / sequence_error, how little errors of different sequences cancel",
    "sequences": "count",
    "exact": "bool; all sequences, else sampled ones",
}
UNITS = {
    **AGENT_UNITS,
    **STATE_UNITS,
    "h": "environment steps",
    "value": "discounted reward",
    "predicted_value": "discounted reward",
    **ERROR_UNITS,
    "alive_error": "discounted reward; of error, without what is predicted after a real end",
    "alive_probability": "1; that the real episode has not ended after h steps",
    "step_reward": "reward; expectation of r of step h",
    "step_signed_error": "reward; expectation of predicted minus true reward of step h",
    "grounded_signed_error": "reward; the same, where the latent before the step is encoded from the real state",
    "step_standard_error": "reward; of step_signed_error, 0 where exact",
    "grounded_standard_error": "reward; of grounded_signed_error, 0 where exact",
    "end_within": "bool; a sequence that was scored ends the real episode within h steps",
}


@as_asked
def measure_horizon(
    agent: Agent, config: HorizonConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint: samples states and scores them.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per state and horizon, in this order; columns as in `UNITS`.

    Raises:
        UsageError: if no horizon is given and the agent has no unroll length, or the sequences of a single state are
            too many to hold.
    """
    largest_horizon(config.horizon, agent)
    with agent.compute.limited():
        sample, generator = draw_states(agent, config)
        return agent.label(score_agent(agent, config, sample, generator, on_progress=on_progress))


def score_agent(
    agent: Agent,
    config: HorizonConfig,
    sample: Sample,
    generator: np.random.Generator,
    *,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Returns `score_horizon` of an agent's own policy, with the horizon and the number of sequences of the settings.

    Raises:
        UsageError: as in `measure_horizon`.
    """
    h = largest_horizon(config.horizon, agent)
    return score_horizon(
        agent.environment,
        agent.network,
        agent.policy,
        sample,
        horizon=h,
        sequences=sample_size(config, agent.environment.spec.num_actions, h),
        generator=generator,
        compute=agent.compute,
        batch_size=agent.sequences_at_once,
        on_progress=on_progress,
    )


def sample_size(config: HorizonConfig, num_actions: int, horizon: int) -> int | None:
    """Returns the number of sequences sampled for each state, or None if all A^h are enumerated."""
    return None if num_actions**horizon <= config.enumerate_up_to else config.sequences


def longest_exact(num_actions: int, horizon: int, sequences: int | None) -> int:
    """Returns the largest h, up to `horizon`, at which there are at most as many sequences, A^h, as would be sampled.

    If all sequences are enumerated (`sequences` is None) or A = 1, it is `horizon`.
    """
    if sequences is None or num_actions == 1:
        return horizon
    return max(takewhile(lambda h: num_actions**h <= sequences, range(horizon + 1)))


def score_horizon(
    environment: Environment,
    network: MuZeroNetwork,
    policy: Policy,
    sample: Sample,
    *,
    horizon: int,
    sequences: int | None,
    generator: np.random.Generator,
    exact_to: int | None = None,
    compute: Compute | None = None,
    batch_size: int = SEQUENCES,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Scores the model against the truth for h = 1..horizon on the given states.

    Args:
        environment: the truth.
        network: the model.
        policy: policy in the real environment whose sequences are evaluated.
        sample: states.
        horizon: largest h.
        sequences: m, number of sequences sampled for each state; None enumerates all A^h.
        generator: draws the sampled sequences.
        exact_to: largest h, up to `horizon`, at which all sequences are enumerated although longer ones are sampled; by
            default the largest with A^h <= m.
        compute: device, precision and threads of the network.
        batch_size: number of sequences held at a time; affects no result.
        on_progress: called with the fraction done.

    Returns:
        One row per state and horizon, in this order.

    Raises:
        UsageError: if the sequences of a single state are too many to hold.
        ValueError: if there is no state or no step, or fewer than two sequences, which have no standard error.
    """
    A, S = environment.spec.num_actions, len(sample.states)
    if S < 1 or horizon < 1 or (sequences is not None and sequences < 2):
        raise ValueError(
            f"at least 1 state, 1 step and 2 sampled sequences are needed, not {S}, {horizon} and {sequences}"
        )
    widest = A**horizon if sequences is None else max(min(A**horizon, sequences), A ** min(exact_to or 0, horizon))
    refuse_too_many(widest)
    uniforms = None if sequences is None else generator.random((S, sequences, horizon))
    frames = []
    for chosen, tree, draws in trees_over(
        environment, network, sample.states, widest=widest, batch_size=batch_size, uniforms=uniforms, compute=compute
    ):
        on_progress(chosen[0] / S)
        frames.append(score_tree(tree, policy, sample, chosen, horizon=horizon, uniforms=draws, exact_to=exact_to))
    rows = pd.concat(frames, ignore_index=True)
    return rows.sort_values(["state", "h"], ignore_index=True)


def mean_magnitude_bias(mean: Float64, standard_error: Float64) -> Float64:
    """Estimates how far |sample mean| overstates |true mean|, as E|X| - |m| for X ~ N(m, standard_error^2).

    This is the mean of the folded normal distribution. m is the sample mean, so the estimate is itself biased. Near 0
    it is too small: where the true mean is 0, it averages a third of a standard error, while the bias is
    sqrt(2 / pi) = 0.80 standard errors, its largest value. From a true mean of 0.7 standard errors on, it is too large,
    by at most a tenth of a standard error.

    Args:
        mean: sample means, of any shape.
        standard_error: their standard errors, of the same shape; the estimate is 0 where it is 0.
    """
    safe = np.where(standard_error > 0, standard_error, 1.0)
    ratio = np.abs(mean) / safe
    folded = safe * (np.sqrt(2 / np.pi) * libm.exp(-(ratio**2) / 2) + ratio * (1 - 2 * ndtr(-ratio)))
    # Far from 0, rounding could make the difference negative.
    return np.where(standard_error > 0, np.maximum(folded - np.abs(mean), 0.0), 0.0)


def score_tree(
    tree: PrefixTree,
    policy: Policy,
    sample: Sample,
    chosen: Int64,
    *,
    horizon: int,
    uniforms: Float64 | None,
    exact_to: int | None = None,
) -> pd.DataFrame:
    """Scores a policy on a tree over some of the sampled states, one level after the other.

    Args:
        tree: tree over the states `chosen`, grown where prefixes are missing.
        policy: policy whose sequences are evaluated.
        sample: all states.
        chosen: indices of the tree's states in the sample.
        horizon: largest h.
        uniforms: `[len(chosen), m, horizon]` numbers in [0, 1) that draw m sequences per state; None enumerates all.
        exact_to: as in `score_horizon`.

    Returns:
        One row per horizon and state, in this order.
    """
    A, frames = tree.child.shape[1], []
    m = None if uniforms is None else uniforms.shape[1]
    exact = longest_exact(A, horizon, m) if exact_to is None or m is None else min(exact_to, horizon)
    levels = list(enumerate(walk(tree, policy, horizon=exact)))[1:]
    if exact < horizon:
        levels += list(enumerate(walk(tree, policy, horizon=horizon, uniforms=uniforms)))[exact + 1 :]
    for h, level in levels:
        rows = _summarise(tree, level, None if h <= exact else m)
        frames.append(
            rows.assign(state=chosen, episode=sample.episode[chosen], time=sample.time[chosen], h=h)[
                [name for name in UNITS if name not in AGENT_UNITS]
            ]
        )
    return pd.concat(frames, ignore_index=True)


def _summarise(tree: PrefixTree, level: Level, sequences: int | None) -> pd.DataFrame:
    """Returns expectations over a level's sequences, one row per state; `sequences` were sampled, or all if None."""
    nodes = level.nodes
    value, predicted = tree.value[nodes], tree.predicted[nodes]
    alive = (~tree.terminal[nodes]).astype(np.float64)
    return pd.DataFrame(
        {
            "value": level.expect(value),
            "predicted_value": level.expect(predicted),
            **error_columns(level, predicted - value, sequences),
            "alive_error": np.abs(level.expect(value - tree.alive_predicted[nodes])),
            "alive_probability": level.expect(alive),
            "step_reward": level.expect(tree.reward[nodes]),
            **_step_columns(tree, level, sequences),
            "end_within": np.bincount(level.root, weights=tree.terminal[nodes], minlength=level.S) > 0,
        }
    )


def _step_columns(tree: PrefixTree, level: Level, sequences: int | None) -> dict[str, Float64]:
    """Returns the signed errors of the last step alone and their standard errors.

    The latent before the step is unrolled from the first state (`step_`) or encoded from the real state (`grounded_`).
    """
    columns = {}
    for name, predicted in (("step", tree.predicted_reward), ("grounded", tree.grounded_reward)):
        errors = predicted[level.nodes] - tree.reward[level.nodes]
        mean = level.expect(errors)
        columns[f"{name}_signed_error"] = mean
        columns[f"{name}_standard_error"] = _standard_error(level, errors, mean, sequences)
    return columns


def _standard_error(level: Level, errors: Float64, mean: Float64, sequences: int | None) -> Float64:
    """Returns the standard error of the mean of each state's m sampled errors.

    It is exactly 0 where all errors are equal, and everywhere if all sequences are enumerated (`sequences` is None) or
    fewer than two are sampled.
    """
    if sequences is None or sequences < 2:
        return np.zeros(mean.size)
    low, high = np.full(mean.size, np.inf), np.full(mean.size, -np.inf)
    np.minimum.at(low, level.root, errors)
    np.maximum.at(high, level.root, errors)
    variance = np.where(high > low, level.expect((errors - mean[level.root]) ** 2), 0.0)
    return np.sqrt(variance / (sequences - 1))


def error_columns(level: Level, errors: Float64, sequences: int | None) -> dict[str, NDArray[Any]]:
    """Returns the columns of `ERROR_UNITS` for each of S states.

    Args:
        level: prefixes of the sequences.
        errors: `[M]`, signed errors of the prefixes.
        sequences: m, number of sequences sampled per state; None if all were enumerated.
    """
    S = level.S
    mean, magnitude = level.expect(errors), level.expect(np.abs(errors))
    standard_error, reach = _standard_error(level, errors, mean, sequences), np.zeros(S)
    if sequences is not None and sequences > 1:
        reach = stdtrit(sequences - 1, 0.975) * standard_error
    counted = np.bincount(level.root, minlength=S)
    return {
        "error": np.abs(mean),
        "sequence_error": magnitude,
        "signed_error": mean,
        "standard_error": standard_error,
        "signed_low": mean - reach,
        "signed_high": mean + reach,
        "bias": mean_magnitude_bias(mean, standard_error),
        "cancellation": np.divide(np.abs(mean), magnitude, out=np.full(S, np.nan), where=magnitude > 0),
        "sequences": counted if sequences is None else np.full(S, sequences),
        "exact": np.full(S, sequences is None),
    }


def cost_of_horizon(agent: Agent, config: HorizonConfig, policies: int) -> Cost:
    """Returns the cost of evaluating `policies` policies from the same states.

    Raises:
        UsageError: as in `measure_horizon`.
    """
    A, h = agent.environment.spec.num_actions, largest_horizon(config.horizon, agent)
    m = sample_size(config, A, h)
    nodes, edges = cost.prefixes(config.states, A, h, m)
    again = 0 if m is None else cost.prefixes(config.states, A, longest_exact(A, h, m), None)[0]
    shared = 1 if m is None else policies
    searched = cost.own_searches(agent, (nodes + again) * policies)
    return cost.sampling(agent, config) + searched + cost.tree(config.states, nodes * shared, edges * shared)


QUESTION = Question(
    config=HorizonConfig,
    units=UNITS,
    measure=measure_horizon,
    cost=cost_of_horizon,
)
