"""Which search rule acts and teaches best, and with how few simulations?

The agent's own search (in the learned or the true model, whichever it was trained with; policy prior, value leaves) is
run by every rule with every N. Each plays whole episodes from the same starts, at T = 0. At some states of each episode
the true value of every action is measured: the action is taken in the real environment, and then the policy network is
followed, always by its likeliest action, as in the improvement probe. This shows how often the rule decides rightly,
what its errors cost, and the same for the policy that it would teach the network.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe.agents import Agent
from mzprobe.behaviour import (
    BehaviourPolicy,
    Episodes,
    action_values,
    draw_episode_numbers,
    play_episodes,
)
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.online import UNITS as ONLINE_UNITS
from mzprobe.probes.online import episode_rows
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, probe_generator
from mzprobe.settings import OperatorsConfig

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNITS = {
    "seed": AGENT_UNITS["seed"],
    "training_step": AGENT_UNITS["training_step"],
    "trained_rule": "name; of the search that the agent was trained with",
    "trained_simulations": "count; N of that search",
    "rule": "name; puct, gumbel or regularised, of the search that acts",
    "simulations": "count; N a step, of the search that acts",
    **{name: ONLINE_UNITS[name] for name in ("episode", "return", "length", "terminated")},
    "entropy": "nats; of the policy that the search would teach, mean over the episode's steps",
    "fidelity": "1; probability of a best action, mean over the states asked of the episode",
    "regret": "discounted reward; value of the best action less that of the one played, mean over those states",
    "target_regret": "discounted reward; the same of the policy that the search would teach",
}

_SAME = 1e-9  # relative to the best value, or to 1 if that is smaller; values this close differ only by rounding


class WatchedPolicy:
    """Policy that acts by a search at T = 0 and records what it plays and would teach, in the order of acting.

    Args:
        policy: policy whose searches are used.
    """

    def __init__(self, policy: BehaviourPolicy) -> None:
        self.policy = policy
        self.played: list[Float64] = []
        self.targets: list[Float64] = []

    def distribution(self, states: Any) -> Float64:
        """Returns the searches' policy at T = 0, `[B, A]`; appends it to `played`, and their targets to `targets`."""
        found = self.policy.searches(states)
        self.played.append(np.concatenate([one.acting(0) for one in found]))
        self.targets.append(np.concatenate([one.target for one in found]))
        return self.played[-1]


class Asked(NamedTuple):
    """Quality of the decisions at S states, each `[S]`; units as in `UNITS`."""

    episode: Int64  # episode of the state
    fidelity: Float64
    regret: Float64
    target_regret: Float64


@as_asked
def measure_operators(
    agent: Agent, config: OperatorsConfig, *, on_progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Runs the probe on one checkpoint.

    Args:
        agent: the checkpoint.
        config: settings.
        on_progress: called with the fraction done.

    Returns:
        One row per rule, N and episode, in this order; columns as in `UNITS`.
    """
    limit = agent.environment.spec.time_limit
    generator = probe_generator(agent, config)
    seeds, uniforms = draw_episode_numbers(generator, config.episodes, limit)
    places = generator.random((config.episodes, config.states))  # times of the judged states, as shares of the episode
    numbers = generator.random((config.episodes * config.states, config.steps or limit))
    trained = agent.search
    own = {"trained_rule": trained.rule, "trained_simulations": trained.simulations}
    frames, cells = [], list(searched_cells(agent, config))
    with agent.compute.limited():
        for done, (rule, N) in enumerate(cells):
            report = _reporter(on_progress, done / len(cells))
            watched = WatchedPolicy(_searching(agent, rule, N))
            played = play_episodes(
                agent.environment, watched, seeds=seeds, uniforms=uniforms, keep_states=True, on_step=report
            )
            taught, chosen = np.concatenate(watched.targets), np.concatenate(watched.played)
            asked = _ask(agent, played, places, chosen, taught, numbers, report)
            rows = episode_rows(played).assign(rule=rule, simulations=N, **own)
            frames.append(rows.assign(entropy=_by_episode(played.episode, _entropy(taught)), **_means(asked)))
    return agent.label(pd.concat(frames, ignore_index=True))[list(UNITS)]


def searched_cells(agent: Agent, config: OperatorsConfig) -> Iterator[tuple[str, int]]:
    """Yields every rule with every N, in the order of the table."""
    for rule in dict.fromkeys(config.rules or (agent.search.rule,)):
        for N in sorted(set(config.simulations)):
            yield rule, N


def _searching(agent: Agent, rule: str, simulations: int) -> BehaviourPolicy:
    """Returns a policy that acts by the agent's own search with the given rule and simulations, at T = 0."""
    return agent.acting(agent.policy.model, rule=rule, simulations=simulations)


def _reporter(on_progress: Callable[[float], None], share: float) -> Callable[[], None]:
    return lambda: on_progress(share)


def _ask(
    agent: Agent,
    played: Episodes,
    places: Float64,
    chosen: Float64,
    taught: Float64,
    numbers: Float64,
    on_step: Callable[[], None],
) -> Asked:
    """Judges the decisions at k states of every episode by the true values of all actions there.

    Args:
        agent: agent whose policy network is followed after each action.
        played: E episodes, with their M states.
        places: `[E, k]` in [0, 1), times of the judged states as shares of their episode's length.
        chosen: `[M, A]`, policy that was played at each state.
        taught: `[M, A]`, policy that the search would teach at each state.
        numbers: `[E k, T]` in [0, 1), one per step after each judged state.
        on_step: called before every step.
    """
    E, k = places.shape
    order = np.lexsort((played.time, played.episode))  # episode by episode
    first = np.concatenate([[0], np.cumsum(played.lengths)[:-1]])
    at = order[(first[:, None] + (places * played.lengths[:, None]).astype(np.int64)).ravel()]
    network = replace(agent.prior, temperature=0.0)
    values = action_values(agent.environment, network, played.states.take(at), uniforms=numbers, on_step=on_step)
    best = values.max(axis=1, keepdims=True)
    right = values >= best - _SAME * np.maximum(np.abs(best), 1)
    lost = best - values
    return Asked(
        episode=np.repeat(np.arange(E), k),
        fidelity=(chosen[at] * right).sum(axis=1),
        regret=(chosen[at] * lost).sum(axis=1),
        target_regret=(taught[at] * lost).sum(axis=1),
    )


def _entropy(policy: Float64) -> Float64:
    """Returns the entropy `[M]`, in nats, of each row of probabilities `[M, A]`."""
    return np.asarray(-(policy * libm.log(np.where(policy > 0, policy, 1.0))).sum(axis=1))


def _by_episode(episode: Int64, numbers: Float64) -> Float64:
    """Returns the mean of numbers `[M]` over each episode, in the order of the episodes' indices."""
    return np.asarray(np.bincount(episode, weights=numbers) / np.bincount(episode))


def _means(asked: Asked) -> dict[str, Float64]:
    return {name: _by_episode(asked.episode, getattr(asked, name)) for name in Asked._fields if name != "episode"}


def _cost(agent: Agent, config: OperatorsConfig, _: int) -> Cost:
    spec, kind = agent.environment.spec, (agent.plan_in, 0)
    asked = config.episodes * config.states
    steps = config.steps or spec.time_limit
    followed = asked * spec.num_actions * (steps - 1)
    total = Cost()
    for rule, N in searched_cells(agent, config):
        constants = agent.search.model_copy(update={"rule": rule, "simulations": N})
        total += cost.episodes(agent, config.episodes, constants, kind)
        total += Cost(environment_steps=asked * spec.num_actions * steps, model_steps=followed)
    return total


QUESTION = Question(
    config=OperatorsConfig,
    units=UNITS,
    measure=measure_operators,
    cost=_cost,
    plays=True,
)
