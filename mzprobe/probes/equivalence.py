"""Order-k value equivalence on-policy: is the model's k-step Bellman update of a value function the true one?

For k = 0 .. 2K the update of v under pi^MuZero, in the truth and in the model,

    E_pi[sum_{i<k} gamma^i r_{t+i} + gamma^k v(s_{t+k})]  and  E_pi[sum_{i<k} gamma^i u^i + gamma^k v_theta(z^k)],

differ in their rewards and in their bootstrap value (Grimm et al. 2020; here actions are those of pi along the real
states, as in the paper's Eq. 6). v at the real state is the agent's own value head, or that of another checkpoint. The
model's latents are always scored by the agent's own head, since no other head can read them. A terminal state is
worth 0.

In a tabular environment every state is used once, and the exact results of `mzprobe.probes.exact` are added.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mzprobe.agents import Agent, or_missing
from mzprobe.envs import TabularEnvironment
from mzprobe.envs.tabular import TabularStates
from mzprobe.networks.engine import Engine, engine_for
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.exact import greedy_regret, proper_errors, proper_errors_of_all_policies
from mzprobe.probes.horizon import ERROR_UNITS, error_columns, sample_size
from mzprobe.probes.model_tables import TooManyLatentsError, along_real_states, tables_of_network
from mzprobe.probes.prefixes import Level, PrefixTree, trees_over, walk
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, STATE_UNITS, Sample, draw_states, largest_horizon, probe_generator
from mzprobe.settings import EquivalenceConfig

Float64 = NDArray[np.float64]

LATENTS = 512  # largest number of latents of a network that is solved exactly
PAIRS = 4096  # largest number of pairs of a real state and a latent
MULTIPLICATIONS = 10**11  # largest number of multiplications for all deterministic policies, which takes some seconds

UNITS = {
    **AGENT_UNITS,
    "value_step": "training steps; of the checkpoint whose value head scores the real state",
    **STATE_UNITS,
    "k": "environment steps",
    "reward_part": "discounted reward; predicted minus true rewards of the k steps",
    "bootstrap_part": "discounted reward; predicted minus true value after them",
    **ERROR_UNITS,
    "proper_error": "discounted reward; |v~_pi - v_pi|, tabular environments only",
    "proper_error_all": "discounted reward; its largest over all deterministic policies",
    "greedy_regret": "discounted reward; optimal value minus that of acting greedily in the model",
}


@as_asked
def measure_equivalence(
    agent: Agent,
    config: EquivalenceConfig,
    others: Sequence[Agent],
    *,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Runs the probe on one checkpoint.

    Args:
        agent: agent whose model is evaluated, at states that its behaviour policy visits, or at all states of a tabular
            environment.
        config: settings.
        others: checkpoints whose value heads score real states; the agent itself may be among them.
        on_progress: called with the fraction done.

    Returns:
        One row per value head, state and order k, in this order; columns as in `UNITS`.

    Raises:
        UsageError: if the sequences of a single state are too many to hold, or no horizon is given and the agent has no
            unroll length.
    """
    environment = agent.environment
    largest, A = largest_order(agent, config), environment.spec.num_actions
    m = sample_size(config, A, largest)
    frames: list[pd.DataFrame] = []
    with agent.compute.limited():
        sample, generator = _states(agent, config)
        S = len(sample.states)
        uniforms = None if m is None else generator.random((S, m, largest))
        trees = trees_over(
            environment,
            agent.network,
            sample.states,
            widest=A**largest if m is None else m,
            batch_size=agent.sequences_at_once,
            uniforms=uniforms,
            compute=agent.compute,
        )
        for chosen, tree, draws in trees:
            on_progress(chosen[0] / S)
            levels = list(walk(tree, agent.policy, horizon=largest, uniforms=draws))
            predicted = _head(tree.engine, tree.latents)
            observations = environment.observe(tree.states)
            for other in others:
                # The same calls of the head as for the model's latents, so that values of equal latents cancel exactly.
                gap = predicted - np.where(tree.terminal, 0.0, real_values(other, observations))
                for k, level in enumerate(levels):
                    rows = _rows(tree, level, gap, m, gamma=environment.spec.gamma, k=k)
                    frames.append(rows.assign(state=chosen, value_step=or_missing(other.origin.training_step)))
        exact = exact_columns(agent)
    frame = pd.concat(frames).sort_values(["value_step", "state", "k"], ignore_index=True)
    frame["episode"], frame["time"] = (x[frame["state"]] for x in (sample.episode, sample.time))
    for name, column in exact.items():
        frame[name] = column[frame["state"]] if column is not None else np.nan
    return agent.label(frame)[list(UNITS)]


def largest_order(agent: Agent, config: EquivalenceConfig) -> int:
    """Returns the largest k: `config.horizon` if set, else twice the unroll length of training.

    Raises:
        UsageError: if there is neither.
    """
    return config.horizon or 2 * largest_horizon(None, agent)


def real_values(agent: Agent, observations: NDArray[Any]) -> Float64:
    """Returns v_theta(h_theta(o)) `[M]` at observations `[M, ...]`."""
    engine = engine_for(agent.network, agent.compute)
    return _head(engine, engine.represent(observations))


def exact_columns(agent: Agent) -> dict[str, Float64 | None]:
    """Computes `proper_error`, `proper_error_all` and `greedy_regret` of every state `[S]`, each None if infeasible.

    All need a tabular environment with gamma < 1 and a network with few enough latents to enumerate them (`LATENTS`,
    `PAIRS`); `proper_error_all` also needs few deterministic policies, A^S (`MULTIPLICATIONS`).
    """
    environment = agent.environment
    found: dict[str, Float64 | None] = dict.fromkeys(("proper_error", "proper_error_all", "greedy_regret"))
    if not isinstance(environment, TabularEnvironment) or environment.spec.gamma == 1:
        return found
    try:
        model = tables_of_network(environment, agent.network, limit=LATENTS, compute=agent.compute)
    except TooManyLatentsError:
        return found
    paired = along_real_states(environment, model)
    if len(paired.rewards) > PAIRS:
        return found
    policy = agent.policy.distribution(_all_states(environment))
    found["proper_error"] = proper_errors(environment, paired, policy[None])[0]
    found["greedy_regret"] = greedy_regret(environment, model)
    (M, A), S = paired.rewards.shape, len(environment.transitions)
    if A**S * M**3 <= MULTIPLICATIONS:
        found["proper_error_all"] = proper_errors_of_all_policies(environment, paired, limit=A**S)
    return found


def _rows(tree: PrefixTree, level: Level, gap: Float64, m: int | None, *, gamma: float, k: int) -> pd.DataFrame:
    """Returns the rows of S states at order k; `m` sequences were sampled, or all taken if it is None."""
    rewards = tree.predicted[level.nodes] - tree.value[level.nodes]
    bootstrap = gamma**k * gap[level.nodes]
    return pd.DataFrame(
        {
            "k": k,
            "reward_part": level.expect(rewards),
            "bootstrap_part": level.expect(bootstrap),
            **error_columns(level, rewards + bootstrap, m),
        }
    )


def _head(engine: Engine, latents: torch.Tensor) -> Float64:
    """Returns v_theta(z) `[M]` at M latents."""
    _, value = engine.predict(latents)
    return value.cpu().numpy().astype(np.float64)


def _states(agent: Agent, config: EquivalenceConfig) -> tuple[Sample, np.random.Generator]:
    """Returns states that the policy visits, or all states of a tabular environment, each as the start of an episode.

    The generator returned with them may be used for further draws.
    """
    if not isinstance(agent.environment, TabularEnvironment):
        return draw_states(agent, config)
    states = _all_states(agent.environment)
    sample = Sample(states=states, episode=np.arange(len(states)), time=np.zeros(len(states), np.int64))
    return sample, probe_generator(agent, config)


def _all_states(environment: TabularEnvironment) -> TabularStates:
    return TabularStates(np.arange(len(environment.transitions)))


def _cost(agent: Agent, config: EquivalenceConfig, heads: int) -> Cost:
    A, k = agent.environment.spec.num_actions, largest_order(agent, config)
    table = agent.environment if isinstance(agent.environment, TabularEnvironment) else None
    S = config.states if table is None else len(table.transitions)
    nodes, edges = cost.prefixes(S, A, k, sample_size(config, A, k))
    # The latent of each prefix is scored; every head encodes and scores its real state.
    tree = cost.tree(S, nodes, edges) + Cost(model_steps=(1 + 2 * heads) * (S + edges))
    sampling = cost.sampling(agent, config) if table is None else Cost(states=S)
    return sampling + cost.own_searches(agent, nodes) + tree


QUESTION = Question(
    config=EquivalenceConfig,
    units=UNITS,
    measure=measure_equivalence,
    cost=_cost,
    pair="value_step",
)
