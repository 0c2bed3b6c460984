"""Value prediction error of every action sequence, by how likely the behaviour policy is to take it (Figure 4).

From each sampled state all A^h sequences are scored (the paper's Eq. 3 to 5). Their probabilities are the products of
Eq. 6 along the real states, by which they are ranked, the least likely first. At a low temperature most sequences have
probability 0 and no order among them, so probabilities are computed in four ways (`WAYS`) from the same searches.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.compute import Compute
from mzprobe.envs import Environment
from mzprobe.networks import MuZeroNetwork
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.prefixes import SEQUENCES, PrefixTree, trees_over, walk_all
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, Sample, draw_states
from mzprobe.settings import SequencesConfig
from mzprobe.stats import kendall, ranked, spearman, tied_levels

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Policies that define how likely a sequence is: pi^MuZero at its own temperature and at T = 1;
# (1 + N(a)) / (A + sum_b N(b)), which is nowhere 0 (Grill et al. 2020); and the policy network alone.
WAYS = ("", "_at_1", "_smoothed", "_prior")
UNITS = {
    **AGENT_UNITS,
    **STATE_UNITS,
    "sequence": "index; its digits in base A are the actions, the first one leading",
    "rank": "index; 1 for the least probable of the state",
    "probability": "1; under the behaviour policy",
    "probability_at_1": "1; under the behaviour policy at T = 1",
    "probability_smoothed": "1; by (1 + N(a)) / (A + sum of N)",
    "probability_prior": "1; under the policy network",
    "value": "discounted reward",
    "predicted_value": "discounted reward",
    "error": "discounted reward",
    "rank_error": "discounted reward; mean over the state's sequences of equal probability",
    "state_rho": "1; Spearman's rho of probability and error within the state",
    "state_rho_at_1": "1; the same for probability_at_1",
    "state_rho_smoothed": "1; the same for probability_smoothed",
    "state_rho_prior": "1; the same for probability_prior",
    "state_tau": "1; Kendall's tau-b of true and predicted value within the state",
    "regret": "discounted reward; best true value of the state, minus that of the sequence the model finds best",
    "affine_residual": "discounted reward; of true values on predicted ones (see affine_residual)",
    "rho": "1; mean of state_rho over those of the agent's states at that step that have one",
    "rho_at_1": "1; the same for probability_at_1",
    "rho_smoothed": "1; the same for probability_smoothed",
    "rho_prior": "1; the same for probability_prior",
    "end_within": "bool; one of the state's sequences ends the real episode",
}


@as_asked
def measure_sequences(
    agent: Agent, config: SequencesConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint: samples states and scores their sequences.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per state and sequence, in this order; columns as in `UNITS`.

    Raises:
        UsageError: if the sequences of a single state are too many to hold.
    """
    with agent.compute.limited():
        sample, _ = draw_states(agent, config)
        frame = score_sequences(
            agent.environment,
            agent.network,
            partial(policies_of, agent),
            sample,
            length=config.length,
            compute=agent.compute,
            batch_size=agent.sequences_at_once,
            on_progress=on_progress,
        )
    return agent.label(frame)


def policies_of(agent: Agent, states: Any) -> Float64:
    """Returns an agent's policies at real states, `[V, B, A]` in the order of `WAYS`, by one search per state."""
    searches = agent.policy.searches(states)
    # The visits of Gumbel's rule follow its schedule, so its policy target takes their place.
    by_gumbel, N = agent.search.rule == "gumbel", agent.search.simulations
    visits = np.concatenate([one.target * N if by_gumbel else one.visit_counts for one in searches])
    at_own, at_1 = (np.concatenate([one.acting(T) for one in searches]) for T in (agent.temperature, 1.0))
    smoothed = (1 + visits) / (visits.shape[1] + visits.sum(axis=1, keepdims=True))
    return np.stack([at_own, at_1, smoothed, agent.prior.distribution(states)])


def score_sequences(
    environment: Environment,
    network: MuZeroNetwork,
    policies: Callable[[Any], Float64],
    sample: Sample,
    *,
    length: int,
    compute: Compute | None = None,
    batch_size: int = SEQUENCES,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Scores all A^length sequences from the given states.

    Args:
        environment: the truth.
        network: the model.
        policies: states -> `[V, B, A]` in the order of `WAYS`, the policies that the sequences' probabilities are
            computed for; the first one ranks the sequences.
        sample: states.
        length: h, length of the sequences.
        compute: device, precision and threads of the network.
        batch_size: number of sequences held at a time; affects no result.
        on_progress: called with the fraction done.

    Returns:
        One row per state and sequence, in this order.

    Raises:
        UsageError: if the sequences of a single state are too many to hold.
    """
    S, A = len(sample.states), environment.spec.num_actions
    frames = []
    for chosen, tree, _ in trees_over(
        environment, network, sample.states, widest=A**length, batch_size=batch_size, compute=compute
    ):
        on_progress(chosen[0] / S)
        nodes, probabilities = walk_all(tree, policies, length=length)
        frames.append(_rows(tree, nodes, probabilities, sample.take(chosen), first=int(chosen[0])))
    rows = pd.concat(frames, ignore_index=True)
    of_states = rows.loc[rows["sequence"] == 0, [f"state_rho{way}" for way in WAYS]].mean()
    rhos = {f"rho{way}": of_states[f"state_rho{way}"] for way in WAYS}
    return rows.assign(**rhos)[[name for name in UNITS if name not in AGENT_UNITS]]


def _rows(tree: PrefixTree, nodes: Int64, probabilities: Float64, sample: Sample, *, first: int) -> pd.DataFrame:
    """Returns the rows of S states with n sequences each: `nodes [S, n]` and their probabilities `[V, S, n]`.

    `first` is the index of the first state.
    """
    S, n = nodes.shape
    value, predicted = tree.value[nodes], tree.predicted[nodes]
    error = np.abs(value - predicted)
    # Sums of the same rewards in another order may differ by rounding, which must not order sequences.
    scale = np.maximum(np.abs(value).max(axis=1), np.abs(predicted).max(axis=1))
    of_value, of_predicted, of_error = (tied_levels(one, scale) for one in (value, predicted, error))
    columns = {f"probability{way}": one for way, one in zip(WAYS, probabilities, strict=True)}
    levels = {way: tied_levels(one) for way, one in zip(WAYS, probabilities, strict=True)}
    of_state: dict[str, NDArray[Any]] = {
        f"state_rho{way}": np.array([spearman(x, e) for x, e in zip(level, of_error, strict=True)])
        for way, level in levels.items()
    }
    of_state |= {
        "state_tau": np.array([kendall(x, y) for x, y in zip(of_value, of_predicted, strict=True)]),
        "regret": best_sequence_regret(value, of_predicted),
        "affine_residual": affine_residual(value, predicted),
        "end_within": np.asarray(tree.terminal[nodes].any(axis=1)),
    }
    rank, rank_error = ranked(levels[""], error)
    of_sequence = {"rank": rank, **columns, "value": value, "predicted_value": predicted, "error": error}
    return pd.DataFrame(
        {
            "state": np.repeat(first + np.arange(S), n),
            "episode": np.repeat(sample.episode, n),
            "time": np.repeat(sample.time, n),
            "sequence": np.tile(np.arange(n), S),
            **{name: one.ravel() for name, one in of_sequence.items()},
            "rank_error": rank_error.ravel(),
            **{name: np.repeat(one, n) for name, one in of_state.items()},
        }
    )


def best_sequence_regret(value: Float64, predicted: NDArray[Any]) -> Float64:
    """Returns max_a v(a) - v(argmax v̂), `[S]`; of sequences that share the largest v̂, v is averaged.

    Args:
        value: `[S, n]`, true values v.
        predicted: `[S, n]`, predicted values v̂, or their levels.
    """
    chosen = predicted == predicted.max(axis=1, keepdims=True)
    lost = value.max(axis=1, keepdims=True) - value
    return np.asarray((lost * chosen).sum(axis=1) / chosen.sum(axis=1))


def affine_residual(value: Float64, predicted: Float64) -> Float64:
    """Returns the root mean square of v - (alpha + beta v̂), `[S]`, with the best alpha and the best beta >= 0.

    This is the error that remains if the model may be wrong in scale and offset, which affect no comparison of
    sequences. It equals sd(v) sqrt(1 - r^2) with Pearson's r, and sd(v) where r is negative or v̂ constant.

    Args:
        value: `[S, n]`, true values v.
        predicted: `[S, n]`, predicted values v̂.
    """
    v, p = (x - x.mean(axis=1, keepdims=True) for x in (value, predicted))
    square = (p**2).sum(axis=1)
    beta = np.maximum((v * p).sum(axis=1), 0.0) / np.where(square > 0, square, 1.0)
    return np.asarray(np.sqrt(((v - beta[:, None] * p) ** 2).mean(axis=1)))


def _cost(agent: Agent, config: SequencesConfig, _: int) -> Cost:
    nodes, edges = cost.prefixes(config.states, agent.environment.spec.num_actions, config.length, None)
    # The policy network is evaluated wherever the policy searches.
    tree = cost.tree(config.states, nodes, edges) + Cost(model_steps=nodes)
    return cost.sampling(agent, config) + cost.own_searches(agent, nodes) + tree


QUESTION = Question(
    config=SequencesConfig,
    units=UNITS,
    measure=measure_sequences,
    cost=_cost,
)
