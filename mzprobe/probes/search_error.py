"""Does the policy prior keep the search where the model is right (Figure 6)?

At sampled states the learned model is searched with the policy prior and with a uniform one. Every simulation walks a
path of actions from the root and goes on with a random rollout to the planning horizon; both are scored against the
truth (the paper's Eq. 5). The policy network is compared with where the visits went,
pi_hat(a) = (1 + N(a)) / (A + sum_b N(b)) (Grill et al. 2020).
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import rel_entr

from mzprobe.envs import Environment
from mzprobe.envs.core import rewards_along
from mzprobe.probes.planning import planning_model, rollout_seed
from mzprobe.probes.sampling import Agent, Sample, sample_states
from mzprobe.search.mcts import search
from mzprobe.search.models import Prior, StateArena
from mzprobe.search.rollouts import Rollout, RolloutArena, discounted
from mzprobe.search.tree import Tree
from mzprobe.seeding import numpy_generator
from mzprobe.settings import SearchErrorConfig
from mzprobe.threads import limited_threads

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNITS = {
    "seed": "agent",
    "training_step": "steps",
    "temperature": "1",
    "prior": "policy or uniform",
    "simulations": "count, N",
    "state": "index",
    "episode": "index",
    "time": "environment steps",
    "path_error": "discounted reward; mean over the first N simulations, actions in the tree",
    "trajectory_error": "discounted reward; the same with the rollout that follows, to the planning horizon",
    "path_length": "environment steps; mean over the first N simulations",
    "tv": "1; TV[pi_theta, pi_hat], half the sum of |pi_theta - pi_hat|",
    "kl": "nats; KL[pi_theta, pi_hat] = sum of pi_theta log(pi_theta / pi_hat)",
}


def measure_search(
    agent: Agent, config: SearchErrorConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """The probe on one checkpoint: searches at sampled states with both priors; columns as in `UNITS`."""
    checkpoint = agent.checkpoint
    generator = numpy_generator(checkpoint.seed, "probe", config.seed)
    rollout = Rollout(horizon=config.horizon, seed=rollout_seed(agent, config.seed))
    frames: list[pd.DataFrame] = []
    with limited_threads(checkpoint.config.training.threads):
        sample = sample_states(
            agent.environment, agent.policy, states=config.states, episodes=config.episodes, generator=generator
        )
        size = agent.policy.trees or config.states
        parts = [np.arange(i, min(i + size, config.states)) for i in range(0, config.states, size)]
        for prior in get_args(Prior):
            for chosen in parts:
                on_progress(len(frames) / (2 * len(parts)))
                rows = _score(agent, sample.take(chosen), prior, rollout, config.simulations)
                frames.append(rows.assign(prior=prior, state=chosen[rows["state"]]))
    frame = pd.concat(frames).sort_values(["prior", "simulations", "state"], ignore_index=True)
    return agent.label(frame)[list(UNITS)]


def _score(agent: Agent, sample: Sample, prior: Prior, rollout: Rollout, simulations: Sequence[int]) -> pd.DataFrame:
    """Rows of some states and one prior."""
    environment, B = agent.environment, len(sample.states)
    policy, _ = agent.evaluate(environment.observe(sample.states))
    model = planning_model(agent, "learned", prior, rollout)
    config = agent.policy.config.model_copy(update={"simulations": max(simulations)})
    tree = search(model, model.roots(environment, sample.states), config=config, keep_tree=True).tree
    assert tree is not None
    paths = trace(environment, sample.states, tree, rollout)
    rows = []
    for N in sorted(set(simulations)):
        first = slice(0, N)
        visits = np.stack([(paths.root_action[:, first] == a).sum(axis=1) for a in range(policy.shape[1])], axis=1)
        visited = (1 + visits) / (policy.shape[1] + N)
        rows.append(
            pd.DataFrame(
                {
                    "simulations": N,
                    "state": np.arange(B),
                    "episode": sample.episode,
                    "time": sample.time,
                    "path_error": np.abs(paths.value - paths.predicted)[:, first].mean(axis=1),
                    "trajectory_error": np.abs(paths.full_value - paths.full_predicted)[:, first].mean(axis=1),
                    "path_length": paths.length[:, first].mean(axis=1),
                    "tv": np.abs(policy - visited).sum(axis=1) / 2,
                    "kl": rel_entr(policy, visited).sum(axis=1),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


class Paths:
    """What the N simulations of B searches walked, `[B, N]` each; simulation i is column i - 1."""

    def __init__(self, B: int, N: int) -> None:
        self.root_action = np.zeros((B, N), np.int64)
        self.length = np.zeros((B, N), np.int64)  # actions in the tree, those beyond the horizon left out
        self.value, self.predicted = np.zeros((B, N)), np.zeros((B, N))  # v and v̂ of the path
        self.full_value, self.full_predicted = np.zeros((B, N)), np.zeros((B, N))  # with the rollout


def trace(environment: Environment, roots: Any, tree: Tree, rollout: Rollout) -> Paths:
    """Takes every simulation's actions in the real environment.

    Args:
        environment: the truth.
        roots: B real states.
        tree: of the learned model's search there, with rollout leaves.
        rollout: those.
    """
    B, M, A = tree.prior.shape
    gamma, b = environment.spec.gamma, np.arange(B)
    arena, rollouts = StateArena(roots), RolloutArena(rollout, environment.observe(roots), M)
    value, predicted, root_action = np.zeros((B, M)), np.zeros((B, M)), np.zeros((B, M), np.int64)
    paths = Paths(B, M - 1)
    for slot in range(1, M):
        parents, actions = tree.parent[:, slot], tree.parent_action[:, slot].astype(np.int64)
        states, outcome = environment.step(arena.take(parents), actions)
        arena.add(states)
        left = rollouts.place(parents, slot)
        depth = rollouts.depth[slot]
        discount = gamma ** (depth - 1)
        within = left >= 0
        value[:, slot] = value[b, parents] + np.where(within, discount * outcome.reward, 0.0)
        predicted[:, slot] = predicted[b, parents] + discount * tree.reward[b, parents, actions]
        root_action[:, slot] = np.where(parents == 0, actions, root_action[b, parents])
        rewards = rewards_along(environment, states, rollouts.actions(slot, A))
        column = slot - 1
        paths.length[:, column] = np.minimum(depth, rollout.horizon)
        paths.full_value[:, column] = value[:, slot] + discount * gamma * discounted(rewards, left, gamma)
        paths.full_predicted[:, column] = predicted[:, slot] + discount * gamma * tree.value[:, slot]
    paths.root_action, paths.value, paths.predicted = root_action[:, 1:], value[:, 1:], predicted[:, 1:]
    return paths
