"""Does the learned model help planning (Figure 7)? Returns of acting by search in it and in the true environment.

Cells are {learned, true} model x {policy, uniform} prior x N. Below the root, the policy prior is that of the unrolled
latent or that of the encoded real state. Both are tried in both models, so that what the learned model loses splits
into its own errors and those of its prior. Leaves are valued by random rollouts in the same model or, beyond the paper,
by the network. Further cells have no search: the policy prior alone, sampled and greedy; random play; and, with value
leaves, a single step of either model followed by the value. All cells start from the same states and draw their actions
from the same random numbers.

An agent that was trained without unrolling (K = 0) has no learned model, so the cells that plan in it are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, get_args

import pandas as pd

from mzprobe.agents import Agent, PriorAt, own_place
from mzprobe.behaviour import (
    BehaviourPolicy,
    LookaheadPolicy,
    Policy,
    RandomPolicy,
    draw_episode_numbers,
    play_episodes,
)
from mzprobe.config import Model
from mzprobe.probes import cost
from mzprobe.probes.acting import as_asked
from mzprobe.probes.cost import Cost
from mzprobe.probes.online import UNITS as ONLINE_UNITS
from mzprobe.probes.online import episode_rows
from mzprobe.probes.question import Question
from mzprobe.probes.sampling import AGENT_UNITS, probe_generator, rollout_seed
from mzprobe.search.models import LeafValue, Prior
from mzprobe.search.rollouts import Rollout
from mzprobe.settings import PlanningConfig, simulation_counts

UNITS = {
    "seed": AGENT_UNITS["seed"],
    "training_step": AGENT_UNITS["training_step"],
    "model": "name; learned or true, none where the policy prior acts alone",
    "prior": "name; policy or uniform, none where a single step decides",
    "prior_at": "name; latent or state, where the policy network is asked below the root, none where it is not",
    "leaf": "name; rollout or value, none where the policy prior acts alone",
    "horizon": "environment steps; planning horizon, 0 for no limit, 1 for a single step",
    "counted_from": "name; root or leaf, where the horizon of rollouts begins, none without them",
    "simulations": "count; N a step, 0 without a search",
    "temperature": "1; T of the acting policy, 0 takes the most likely action",
    **{name: ONLINE_UNITS[name] for name in ("episode", "return", "length", "terminated", "score")},
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Some episodes of one cell."""

    cell: int  # index of the cell
    first: int  # first episode
    last: int  # end of the episodes, exclusive
    work: float  # amount of work, roughly in simulations


class Players(Protocol):
    """Plays jobs outside of this process."""

    def count(self) -> int:
        """Returns how many jobs could be played at a time now; with one, this process plays them itself."""
        ...

    def play(self, jobs: Sequence[Job], config: PlanningConfig, on_done: Callable[[float], None]) -> list[pd.DataFrame]:
        """Plays jobs and returns the rows of each, in order; calls `on_done` with the fraction done."""
        ...


@as_asked
def measure_planning(
    agent: Agent,
    config: PlanningConfig,
    *,
    players: Players | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> pd.DataFrame:
    """Runs all cells of the probe on one checkpoint.

    Args:
        agent: the checkpoint.
        config: settings.
        players: plays all remaining cells as soon as it can play several jobs at a time, which is checked before each
            cell. Until then, and by default, this process plays them. Affects no result.
        on_progress: called with the fraction done.

    Returns:
        One row per cell and episode, in this order; columns as in `UNITS`, `score` only if the environment has it.
    """
    frames, jobs = list[pd.DataFrame](), _jobs(agent, config)
    total, done = sum(job.work for job in jobs), 0.0
    while jobs:
        count = 1 if players is None else min(players.count(), config.episodes)
        if players is not None and count > 1:
            frames += _shared_out(jobs, players, count, config, on_progress, done / total)
            break
        job = jobs.pop(0)
        frames.append(play(agent, config, job, on_step=partial(on_progress, done / total)))
        done += job.work
    return QUESTION.columns_of(agent.label(pd.concat(frames, ignore_index=True)))


def play(agent: Agent, config: PlanningConfig, job: Job, *, on_step: Callable[[], None] = lambda: None) -> pd.DataFrame:
    """Plays a job and returns its rows; an episode does not depend on the job that it is part of.

    Args:
        agent: the checkpoint.
        config: settings.
        job: episodes to play.
        on_step: called before every step, which may take a second; an exception from it propagates.
    """
    generator = probe_generator(agent, config)
    seeds, uniforms = draw_episode_numbers(generator, config.episodes, agent.environment.spec.time_limit)
    cell, policy = list(cells(agent, config))[job.cell]
    chosen = slice(job.first, job.last)
    with agent.compute.limited():
        played = play_episodes(
            agent.environment, policy, seeds=seeds[chosen], uniforms=uniforms[chosen], on_step=on_step
        )
    rows = episode_rows(played).assign(**cell)
    return rows.assign(episode=rows["episode"] + job.first)


def _jobs(agent: Agent, config: PlanningConfig) -> list[Job]:
    """Returns one job per cell, with all its episodes."""
    E = config.episodes
    return [
        Job(cell=number, first=0, last=E, work=(cell["simulations"] + 1) * E)
        for number, (cell, _) in enumerate(cells(agent, config))
    ]


def _shared_out(
    jobs: Sequence[Job],
    players: Players,
    count: int,
    config: PlanningConfig,
    on_progress: Callable[[float], None],
    before: float,
) -> list[pd.DataFrame]:
    """Returns the rows of jobs whose episodes are each split among `count` players.

    `before` is the fraction of all work that was done before these jobs.
    """
    parts = [part for job in jobs for part in _parts(job, count)]
    return players.play(parts, config, lambda share: on_progress(before + share * (1 - before)))


def _parts(job: Job, parts: int) -> list[Job]:
    """Splits the episodes of a job into `parts` jobs."""
    E = job.last - job.first
    edges = [job.first + E * part // parts for part in range(parts + 1)]
    return [replace(job, first=first, last=last, work=job.work * (last - first) / E) for first, last in pairwise(edges)]


def cells(agent: Agent, config: PlanningConfig) -> Iterator[tuple[dict[str, Any], Policy]]:
    """Yields every cell's columns, and the policy that acts in it."""
    alone = {
        "model": "none",
        "prior": "policy",
        "prior_at": "state",
        "leaf": "none",
        "horizon": 0,
        "counted_from": "none",
        "simulations": 0,
    }
    for T in (1.0, 0.0):  # sampled, and greedy
        yield {**alone, "temperature": T}, replace(agent.prior, temperature=T)
    by_lot = {**alone, "prior": "uniform", "prior_at": "none", "temperature": 1.0}
    yield by_lot, RandomPolicy(environment=agent.environment)
    models = agent.models
    if config.leaf == "value":
        for model in models:
            stepped = LookaheadPolicy(environment=agent.environment, model=agent.planning_in(model, prior="uniform"))
            cell = {"model": model, "prior": "none", "prior_at": "none", "leaf": "value", "horizon": 1}
            yield {**cell, "counted_from": "none", "simulations": 0, "temperature": 0.0}, stepped
    for model in models:
        for prior, prior_at in _priors(model, crossed="learned" in models):
            yield from _searching(agent, config, model, prior, prior_at)


def _priors(model: Model, *, crossed: bool) -> list[tuple[Prior, PriorAt | None]]:
    """Returns the priors for planning in a model, each with the place where the policy network is evaluated.

    The place is None for the uniform prior. Without `crossed`, it is only the model's own (see `own_place`).
    """
    places = [place for place in get_args(PriorAt) if place == own_place(model) or crossed]
    return [*(("policy", place) for place in places), ("uniform", None)]


def _searching(
    agent: Agent, config: PlanningConfig, model: Model, prior: Prior, prior_at: PriorAt | None
) -> Iterator[tuple[dict[str, Any], Policy]]:
    """Yields the cells of one model and prior, one per N."""
    planned = agent.planning_in(model, prior=prior, leaf=leaf_of(agent, config), prior_at=prior_at)
    rolled = config.leaf == "rollout"
    temperature = agent.temperature if config.temperature is None else config.temperature
    counts = simulation_counts(config.simulations, agent.environment.spec.num_actions)
    if prior_at not in (None, own_place(model)) and config.crossed is not None:
        counts = tuple(N for N in counts if N in config.crossed)
    for N in counts:
        cell = {
            "model": model,
            "prior": prior,
            "prior_at": prior_at or "none",
            "leaf": config.leaf,
            "horizon": config.horizon if rolled else 0,
            "counted_from": config.counted_from if rolled else "none",
            "simulations": N,
            "temperature": temperature,
        }
        yield cell, agent.acting(planned, temperature=temperature, simulations=N, ties=config.ties)


def leaf_of(agent: Agent, config: PlanningConfig) -> LeafValue:
    """Returns how leaves of the agent's searches are valued."""
    if config.leaf == "value":
        return "value"
    seed = rollout_seed(agent, config.seed)
    return Rollout(horizon=config.horizon, seed=seed, counted_from=config.counted_from)


def _cost(agent: Agent, config: PlanningConfig, _: int) -> Cost:
    rollout = config.horizon if config.leaf == "rollout" else 0
    total = Cost()
    for cell, policy in cells(agent, config):
        if isinstance(policy, LookaheadPolicy):
            total += cost.lookahead(agent, config.episodes, cell["model"])
        elif isinstance(policy, RandomPolicy):
            total += Cost(environment_steps=config.episodes * agent.environment.spec.time_limit)
        elif isinstance(policy, BehaviourPolicy):
            total += cost.episodes(agent, config.episodes, policy.config, (cell["model"], rollout))
        else:
            total += cost.prior_episodes(agent, config.episodes)
    return total


def _kind(config: PlanningConfig) -> str:
    """Returns the suffix of the tables' name: value leaves have tables of their own."""
    return "value" if config.leaf == "value" else ""


QUESTION = Question(
    config=PlanningConfig,
    units=UNITS,
    optional=("score",),
    measure=measure_planning,
    shared=True,
    cost=_cost,
    masks=True,
    plays=True,
    kind=_kind,
)
