"""Value prediction error of a policy by horizon (Figure 3; the paper's Eq. 3, 4, 5 and 7).

Truth and model are scored on the same tree of action sequences. It holds every sequence of the policy with its
probability (Eq. 6) where A^h is small enough; else m sampled sequences, those with a common prefix sharing their
searches.
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
    """The probe on one checkpoint: samples states and scores them; columns as in `UNITS`.

    Raises:
        UsageError: if how far the model was unrolled is not known and no horizon is given.
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
    """`score_horizon` of an agent's own policy, as far as the settings say."""
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
    """Sequences that are sampled for each state, or None where all A^h are enumerated."""
    return None if num_actions**horizon <= config.enumerate_up_to else config.sequences


def longest_exact(num_actions: int, horizon: int, sequences: int | None) -> int:
    """The largest h at which all A^h sequences are no more than those that would be sampled."""
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
        policy: whose sequences are evaluated, in the real environment.
        sample: states.
        horizon: largest h.
        sequences: m, sampled for each state; None enumerates all A^h.
        generator: draws the sampled sequences.
        exact_to: largest h at which all sequences are taken where longer ones are sampled; by default as far as there
            are no more of them than samples.
        compute: how the network runs.
        batch_size: sequences held at a time; no number depends on it.
        on_progress: called with the share that is done.

    Returns:
        One row per state and horizon, in this order.

    Raises:
        UsageError: if one state's sequences alone are more than fit.
        ValueError: if there is no state or no step, or fewer than two sequences, which have no standard error.
    """
    A, S = environment.spec.num_actions, len(sample.states)
    if S < 1 or horizon < 1 or (sequences is not None and sequences < 2):
        raise ValueError(
            f"at least 1 state, 1 step and 2 sampled sequences are needed, not {S}, {horizon} and {sequences}"
        )
    widest = A**horizon if sequences is None else min(A**horizon, sequences)
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
    """How far |sample mean| overstates |true mean|, by the folded normal: E|X| - |m| for X ~ N(m, standard_error^2).

    m is the sample mean, so the estimate is itself biased: too small near 0 (where the true mean is 0 it averages a
    third of a standard error, and the bias is sqrt(2 / pi) = 0.80 of one, the most it can be), and too large from 0.7
    standard errors on, by a tenth of one at most.
    """
    safe = np.where(standard_error > 0, standard_error, 1.0)
    ratio = np.abs(mean) / safe
    folded = safe * (np.sqrt(2 / np.pi) * libm.exp(-(ratio**2) / 2) + ratio * (1 - 2 * ndtr(-ratio)))
    # Never negative, though rounding might say so far from 0.
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
        tree: over the states `chosen`, grown where it has to be.
        policy: whose sequences are evaluated.
        sample: all states.
        chosen: those of the tree.
        horizon: largest h.
        uniforms: `[len(chosen), m, horizon]` numbers in [0, 1) that draw m sequences; None enumerates all.
        exact_to: as in `score_horizon`.
    """
    A, frames = tree.child.shape[1], []
    m = None if uniforms is None else uniforms.shape[1]
    exact = longest_exact(A, horizon, m) if exact_to is None or m is None else exact_to
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
    """Expectations over sequences for each state."""
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
    """Signed errors of the last step alone, unrolled and re-grounded, and their standard errors."""
    columns = {}
    for name, predicted in (("step", tree.predicted_reward), ("grounded", tree.grounded_reward)):
        errors = predicted[level.nodes] - tree.reward[level.nodes]
        mean = level.expect(errors)
        columns[f"{name}_signed_error"] = mean
        columns[f"{name}_standard_error"] = _standard_error(level, errors, mean, sequences)
    return columns


def _standard_error(level: Level, errors: Float64, mean: Float64, sequences: int | None) -> Float64:
    """Of the mean of a state's m sampled errors; exactly 0 where all are the same, or where no sequence is missing."""
    if sequences is None or sequences < 2:
        return np.zeros(mean.size)
    low, high = np.full(mean.size, np.inf), np.full(mean.size, -np.inf)
    np.minimum.at(low, level.root, errors)
    np.maximum.at(high, level.root, errors)
    variance = np.where(high > low, level.expect((errors - mean[level.root]) ** 2), 0.0)
    return np.sqrt(variance / (sequences - 1))


def error_columns(level: Level, errors: Float64, sequences: int | None) -> dict[str, NDArray[Any]]:
    """`ERROR_UNITS` of each of S states from the signed errors `[M]` of a level's prefixes, m sampled ones or all."""
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
    """What the probe costs, of so many policies from the same states."""
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
