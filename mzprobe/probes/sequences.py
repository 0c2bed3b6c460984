"""Value prediction error of every action sequence, by how likely the behaviour policy is to take it (Figure 4).

From each sampled state all A^h sequences are scored (the paper's Eq. 3 to 5), their probabilities are the products of
Eq. 6 along the real states, and they are ranked by them, the least likely first.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mzprobe.behaviour import Policy
from mzprobe.envs import Environment
from mzprobe.networks import MuZeroNetwork
from mzprobe.probes.prefixes import BATCH_SIZE, PrefixTree, portions, walk
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, Agent, Sample, draw_states
from mzprobe.settings import SequencesConfig
from mzprobe.stats import kendall, spearman
from mzprobe.threads import limited_threads

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_ROUNDING = 1e-12  # relative; products of the same probabilities in another order differ by less

UNITS = {
    **AGENT_UNITS,
    **STATE_UNITS,
    "sequence": "index; its digits in base A are the actions, the first one leading",
    "rank": "index; 1 for the least probable of the state",
    "probability": "1",
    "value": "discounted reward",
    "predicted_value": "discounted reward",
    "error": "discounted reward",
    "rank_error": "discounted reward; mean over the state's sequences of equal probability",
    "state_rho": "1; Spearman's rho of probability and error within the state",
    "state_tau": "1; Kendall's tau-b of true and predicted value within the state",
    "regret": "discounted reward; best true value of the state, minus that of the sequence the model finds best",
    "affine_residual": "discounted reward; of true values on predicted ones (see affine_residual)",
    "rho": "1; mean of state_rho over those of the agent's states at that step that have one",
}


def measure_sequences(
    agent: Agent, config: SequencesConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """The probe on one checkpoint: samples states and scores their sequences; columns as in `UNITS`."""
    with limited_threads(agent.checkpoint.config.training.threads):
        sample, _ = draw_states(agent, config)
        frame = score_sequences(
            agent.environment,
            agent.network,
            agent.policy,
            sample,
            length=config.length,
            device=agent.device,
            batch_size=agent.batch_size,
            on_progress=on_progress,
        )
    return agent.label(frame)


def score_sequences(
    environment: Environment,
    network: MuZeroNetwork,
    policy: Policy,
    sample: Sample,
    *,
    length: int,
    device: torch.device | str = "cpu",
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Scores all A^length sequences from the given states.

    Args:
        environment: the truth.
        network: the model.
        policy: whose probabilities rank the sequences.
        sample: states.
        length: of the sequences, h.
        device: of the network.
        batch_size: sequences held at a time; no number depends on it.
        on_progress: told the share that is done.

    Returns:
        One row a state and sequence, ordered so.

    Raises:
        UsageError: if one state's sequences alone are more than fit.
    """
    S, A = len(sample.states), environment.spec.num_actions
    frames = []
    for chosen in portions(S, A**length, batch_size):
        on_progress(chosen[0] / S)
        tree = PrefixTree(environment, network, sample.states.take(chosen), device=device)
        # Parents in order and actions in order: the sequences of a state come in lexicographic order.
        *_, level = walk(tree, policy, len(chosen), horizon=length, unlikely=True)
        shape = (len(chosen), A**length)
        value, predicted = (x[level.nodes].reshape(shape) for x in (tree.value, tree.predicted))
        frames.append(_rows(level.weight.reshape(shape), value, predicted, sample.take(chosen), first=int(chosen[0])))
    rows = pd.concat(frames, ignore_index=True)
    of_states = rows.loc[rows["sequence"] == 0, "state_rho"]
    return rows.assign(rho=of_states.mean())


def _rows(probability: Float64, value: Float64, predicted: Float64, sample: Sample, *, first: int) -> pd.DataFrame:
    """Rows of S states with n sequences each; the arrays are `[S, n]`, the first state has number `first`."""
    S, n = probability.shape
    error, level = np.abs(value - predicted), _levels(probability)
    order = np.argsort(level, axis=1, kind="stable")
    rank = np.empty((S, n), np.int64)
    np.put_along_axis(rank, order, np.arange(1, n + 1)[None], axis=1)
    return pd.DataFrame(
        {
            "state": np.repeat(first + np.arange(S), n),
            "episode": np.repeat(sample.episode, n),
            "time": np.repeat(sample.time, n),
            "sequence": np.tile(np.arange(n), S),
            "rank": rank.ravel(),
            "probability": probability.ravel(),
            "value": value.ravel(),
            "predicted_value": predicted.ravel(),
            "error": error.ravel(),
            "rank_error": np.concatenate([_tied_means(x, e) for x, e in zip(level, error, strict=True)]),
            "state_rho": np.repeat([spearman(x, e) for x, e in zip(level, error, strict=True)], n),
            "state_tau": np.repeat([kendall(x, y) for x, y in zip(value, predicted, strict=True)], n),
            "regret": np.repeat(best_sequence_regret(value, predicted), n),
            "affine_residual": np.repeat(affine_residual(value, predicted), n),
        }
    )


def _levels(probability: Float64) -> Int64:
    """Numbers `[S, n]` in the order of the probabilities, equal where they are equal but for rounding."""
    order = np.argsort(probability, axis=1, kind="stable")
    ordered = np.take_along_axis(probability, order, axis=1)
    above = np.diff(ordered, axis=1, prepend=ordered[:, :1]) > _ROUNDING * ordered
    level = np.empty(probability.shape, np.int64)
    np.put_along_axis(level, order, above.cumsum(axis=1), axis=1)
    return level


def _tied_means(level: Int64, error: Float64) -> Float64:
    """Each sequence's error averaged over those of equal probability: which of them is ranked first says nothing."""
    return np.asarray((np.bincount(level, weights=error) / np.bincount(level))[level])


def best_sequence_regret(value: Float64, predicted: Float64) -> Float64:
    """max_a v(a) - v(argmax v̂), `[S]`, for true and predicted values `[S, n]`.

    Sequences that share the largest v̂ count with their mean.
    """
    chosen = predicted == predicted.max(axis=1, keepdims=True)
    lost = value.max(axis=1, keepdims=True) - value
    return np.asarray((lost * chosen).sum(axis=1) / chosen.sum(axis=1))


def affine_residual(value: Float64, predicted: Float64) -> Float64:
    """Root mean square of v - (alpha + beta v̂), `[S]`, with the best alpha and the best beta >= 0.

    What is left of the error when the model may be wrong in scale and offset, which no comparison of sequences depends
    on: sd(v) sqrt(1 - r^2) with Pearson's r, and sd(v) where r is negative or v̂ constant. Values are `[S, n]`.
    """
    v, p = (x - x.mean(axis=1, keepdims=True) for x in (value, predicted))
    square = (p**2).sum(axis=1)
    beta = np.maximum((v * p).sum(axis=1), 0.0) / np.where(square > 0, square, 1.0)
    return np.asarray(np.sqrt(((v - beta[:, None] * p) ** 2).mean(axis=1)))
