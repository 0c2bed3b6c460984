"""Value prediction error of the behaviour policy by horizon (Figure 3; the paper's Eq. 3, 4, 5 and 7).

From each sampled state the action sequences of pi^MuZero are laid out as a tree of prefixes along the *real* states.
Truth and model are scored on the same tree, one level a horizon, so that a perfect model scores exactly 0. The tree
holds every sequence with its probability (Eq. 6) where A^h is small enough; else m sampled sequences, those with a
common prefix sharing their searches.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from mzprobe.behaviour import Policy
from mzprobe.config import HorizonConfig
from mzprobe.envs import Environment
from mzprobe.errors import UsageError
from mzprobe.networks import MuZeroNetwork
from mzprobe.probes.sampling import Agent, Sample, sample_states
from mzprobe.search.mcts import actions_from_uniforms
from mzprobe.seeding import numpy_generator
from mzprobe.threads import limited_threads

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

UNITS = {
    "seed": "agent",
    "training_step": "steps",
    "temperature": "1",
    "state": "index",
    "episode": "index",
    "time": "environment steps",
    "h": "environment steps",
    "value": "discounted reward",
    "predicted_value": "discounted reward",
    "error": "discounted reward",
    "sequence_error": "discounted reward",
    "signed_error": "discounted reward",
    "alive_error": "discounted reward",
    "alive_probability": "1",
    "standard_error": "discounted reward",
    "bias": "discounted reward",
    "sequences": "count",
    "exact": "bool",
}

SEARCHES = 1 << 13  # trees held at a time
LARGEST_LEVEL = 1 << 16  # nodes of one tree level held at a time; states are taken in portions to keep to it


@dataclass(frozen=True, kw_only=True)
class Level:
    """Prefixes of one length; several states' trees side by side. M nodes."""

    root: Int64  # [M], which state the prefix starts from
    weight: Float64  # [M], probability given that state (or share of its samples)
    states: Any  # M real states at the end of the prefix
    terminal: Bool  # [M]
    latents: Tensor  # [M, ...], where the model is at the end of the prefix
    policy: Float64  # [M, A], pi^MuZero at the real states
    value: Float64  # [M], v of the prefix
    predicted: Float64  # [M], v̂ of the prefix
    alive_predicted: Float64  # [M], v̂ without what follows a terminal state


def measure_horizon(agent: Agent, config: HorizonConfig) -> pd.DataFrame:
    """The probe on one checkpoint: samples states and scores them; columns as in `UNITS`."""
    checkpoint = agent.checkpoint
    generator = numpy_generator(checkpoint.seed, "probe", config.seed)
    h = config.horizon or checkpoint.config.training.unroll_steps
    with limited_threads(checkpoint.config.training.threads):
        sample = sample_states(
            agent.environment, agent.policy, states=config.states, episodes=config.episodes, generator=generator
        )
        frame = score_horizon(
            agent.environment,
            agent.network,
            agent.policy,
            sample,
            horizon=h,
            sequences=None if is_exact(config, agent.environment.spec.num_actions, h) else config.sequences,
            generator=generator,
            device=agent.device,
        )
    frame.insert(0, "temperature", agent.policy.temperature)
    frame.insert(0, "training_step", checkpoint.training_step)
    frame.insert(0, "seed", checkpoint.seed)
    return frame


def is_exact(config: HorizonConfig, num_actions: int, horizon: int) -> bool:
    """Whether all A^h sequences are enumerated."""
    return bool(num_actions**horizon <= config.enumerate_up_to)


@torch.inference_mode()
def score_horizon(
    environment: Environment,
    network: MuZeroNetwork,
    policy: Policy,
    sample: Sample,
    *,
    horizon: int,
    sequences: int | None,
    generator: np.random.Generator,
    device: torch.device | str = "cpu",
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
        device: of the network.

    Returns:
        One row a state and horizon, ordered so.

    Raises:
        UsageError: if one state's sequences alone are more than fit.
    """
    A, S = environment.spec.num_actions, len(sample.states)
    widest = A**horizon if sequences is None else min(A**horizon, sequences)
    if widest > 64 * LARGEST_LEVEL:
        raise UsageError(
            f"horizon {horizon} has {widest} sequences a state, too many to hold: "
            "lower --horizon, enumerate_up_to or sequences"
        )
    uniforms = None if sequences is None else generator.random((S, sequences, horizon))
    portion = max(1, LARGEST_LEVEL // widest)
    frames = []
    for first in range(0, S, portion):
        chosen = np.arange(first, min(first + portion, S))
        draws = None if uniforms is None else uniforms[chosen]
        frames.append(_score(environment, network, policy, sample, chosen, horizon, draws, device))
    rows = pd.concat(frames, ignore_index=True)
    return rows.sort_values(["state", "h"], ignore_index=True)


def mean_magnitude_bias(mean: Float64, standard_error: Float64) -> Float64:
    """E|X| - |mean| for X ~ N(mean, standard_error^2): how far |sample mean| overstates, estimated by itself.

    The folded normal's mean; about sqrt(2 / pi) standard errors where the true mean is 0.
    """
    safe = np.where(standard_error > 0, standard_error, 1.0)
    ratio = np.abs(mean) / safe
    folded = safe * (np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + ratio * (1 - 2 * norm.cdf(-ratio)))
    return np.where(standard_error > 0, folded - np.abs(mean), 0.0)


def _score(
    environment: Environment,
    network: MuZeroNetwork,
    policy: Policy,
    sample: Sample,
    chosen: Int64,
    horizon: int,
    uniforms: Float64 | None,
    device: torch.device | str,
) -> pd.DataFrame:
    """Rows of a portion of the states, one tree level after the other."""
    level = _roots(environment, network, policy, sample.states.take(chosen), device)
    # Where each sampled sequence stands: a node of the current level.
    nodes = None if uniforms is None else np.repeat(np.arange(len(chosen)), uniforms.shape[1])
    frames = []
    for h in range(1, horizon + 1):
        if uniforms is None:
            parents, actions = np.nonzero(level.policy > 0)
            weight = level.weight[parents] * level.policy[parents, actions]
        else:
            assert nodes is not None
            taken = actions_from_uniforms(level.policy[nodes], uniforms[:, :, h - 1].ravel())
            A = level.policy.shape[1]
            edges, nodes, counts = np.unique(nodes * A + taken, return_inverse=True, return_counts=True)
            parents, actions = np.divmod(edges, A)
            weight = counts / uniforms.shape[1]
        level = _follow(environment, network, policy, level, parents, actions, weight, h, h < horizon, device)
        rows = _summarise(level, len(chosen), None if uniforms is None else uniforms.shape[1])
        frames.append(
            rows.assign(state=chosen, episode=sample.episode[chosen], time=sample.time[chosen], h=h)[
                [name for name in UNITS if name not in ("seed", "training_step", "temperature")]
            ]
        )
    return pd.concat(frames, ignore_index=True)


def _roots(
    environment: Environment, network: MuZeroNetwork, policy: Policy, states: Any, device: torch.device | str
) -> Level:
    S = len(states)
    zeros = np.zeros(S)
    return Level(
        root=np.arange(S),
        weight=np.ones(S),
        states=states,
        terminal=environment.terminal(states),
        latents=network.represent(torch.as_tensor(environment.observe(states), device=device)),
        policy=_distribution(policy, states),
        value=zeros,
        predicted=zeros,
        alive_predicted=zeros,
    )


def _follow(
    environment: Environment,
    network: MuZeroNetwork,
    policy: Policy,
    level: Level,
    parents: Int64,
    actions: Int64,
    weight: Float64,
    h: int,
    going_on: bool,
    device: torch.device | str,
) -> Level:
    """The prefixes one longer: child i takes `actions[i]` at node `parents[i]`, in truth and in the model."""
    states, outcome = environment.step(level.states.take(parents), actions)
    latents, reward = network.dynamics(
        level.latents[torch.as_tensor(parents, device=device)], torch.as_tensor(actions, device=device)
    )
    predicted = reward.cpu().numpy().astype(np.float64)
    discount = environment.spec.gamma ** (h - 1)
    was_terminal = level.terminal[parents]
    pi = level.policy[parents]
    moved = np.flatnonzero(~was_terminal)  # an absorbed state is the same state, with the same policy
    if going_on and len(moved):
        pi[moved] = _distribution(policy, states.take(moved))
    return Level(
        root=level.root[parents],
        weight=weight,
        states=states,
        terminal=outcome.terminated,
        latents=latents,
        policy=pi,
        value=level.value[parents] + discount * outcome.reward,
        predicted=level.predicted[parents] + discount * predicted,
        alive_predicted=level.alive_predicted[parents] + np.where(was_terminal, 0.0, discount * predicted),
    )


def _distribution(policy: Policy, states: Any) -> Float64:
    """Pi at many states, a bounded number at a time: a search keeps a tree for each."""
    parts = [np.arange(first, min(first + SEARCHES, len(states))) for first in range(0, len(states), SEARCHES)]
    return np.concatenate([policy.distribution(states.take(part)) for part in parts])


def _summarise(level: Level, S: int, sequences: int | None) -> pd.DataFrame:
    """Expectations over sequences for each state."""

    def expect(x: Float64) -> Float64:
        return np.asarray(np.bincount(level.root, weights=level.weight * x, minlength=S), dtype=np.float64)

    difference = level.value - level.predicted
    mean = expect(difference)
    standard_error = np.zeros(S)
    if sequences is not None and sequences > 1:
        variance = np.maximum(expect(difference**2) - mean**2, 0.0) * sequences / (sequences - 1)
        standard_error = np.sqrt(variance / sequences)
    return pd.DataFrame(
        {
            "value": expect(level.value),
            "predicted_value": expect(level.predicted),
            "error": np.abs(mean),
            "sequence_error": expect(np.abs(difference)),
            "signed_error": -mean,
            "alive_error": np.abs(expect(level.value - level.alive_predicted)),
            "alive_probability": expect((~level.terminal).astype(np.float64)),
            "standard_error": standard_error,
            "bias": mean_magnitude_bias(mean, standard_error),
            "sequences": np.bincount(level.root, minlength=S) if sequences is None else np.full(S, sequences),
            "exact": sequences is None,
        }
    )
