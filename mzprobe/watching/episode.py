"""One episode, step by step, with what the search visited and what the model dreamt of the next steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.behaviour import BehaviourPolicy, Policy, PriorPolicy, draw_episode_numbers, steps_of_episodes
from mzprobe.envs import EnvironmentSpec, concatenate
from mzprobe.envs.shapes import Picture
from mzprobe.networks.engine import engine_for
from mzprobe.pictures import pictures_of
from mzprobe.seeding import numpy_generator

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Actor = Literal["search", "prior"]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """An episode of T steps; dreams reach h steps ahead, along the actions that were then taken."""

    spec: EnvironmentSpec
    pictures: list[Picture] | None  # [T + 1], where the environment draws itself
    actions: Int64  # [T]
    rewards: Float64  # [T], in the truth
    terminated: bool  # else the time limit ended it, or whoever watched
    acting: Float64  # [T, A], what the action was drawn from
    prior: Float64  # [T, A], of the policy network
    search_value: Float64  # [T], of the search; NaN where none was made
    value: Float64  # [T + 1], of the network at the real state
    dreamt_rewards: Float64  # [T, h], of the model unrolled from step t; NaN beyond the end
    dreamt_values: Float64  # [T, h], of the latent after each of them


def watch(
    agent: Agent,
    *,
    episode: int = 0,
    actor: Actor = "search",
    temperature: float | None = None,
    horizon: int = 10,
    steps: int | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Watched:
    """Plays one episode.

    Args:
        agent: who plays.
        episode: which: the same number is the same start.
        actor: the agent's search, or its policy network alone.
        temperature: T of either; without it, the agent's own of the search, and 1 of the network.
        horizon: h, steps that the model dreams ahead.
        steps: most that are played; without it, the time limit of the environment.
        on_step: told the number of each step before it is taken.
    """
    environment = agent.environment
    generator = numpy_generator(agent.origin.seed, "watch", episode)
    with agent.compute.limited():
        seeds, uniforms = draw_episode_numbers(generator, 1, environment.spec.time_limit)
        policy = _Recording(_policy(agent, actor, temperature))
        taken = []
        for step in steps_of_episodes(environment, policy, environment.reset(seeds), uniforms[:, :steps]):
            on_step(step.time)
            taken.append(step)
        states = concatenate([*(step.states for step in taken), taken[-1].following])
        actions = np.concatenate([step.actions for step in taken])
        before = np.arange(len(actions))
        prior, value = agent.evaluate(environment.observe(states))
        rewards, values = _dreams(agent, states.take(before), actions, horizon)
        return Watched(
            spec=environment.spec,
            pictures=pictures_of(environment, states),
            actions=actions,
            rewards=np.concatenate([step.outcome.reward for step in taken]),
            terminated=bool(taken[-1].outcome.terminated[0]),
            acting=np.concatenate(policy.distributions),
            prior=prior[:-1],
            search_value=np.array(policy.values),
            value=np.where(environment.terminal(states), 0.0, value),
            dreamt_rewards=rewards,
            dreamt_values=values,
        )


class _Recording:
    """A policy that keeps what it said."""

    def __init__(self, policy: BehaviourPolicy | PriorPolicy) -> None:
        self.policy: Policy = policy
        self.distributions: list[Float64] = []
        self.values: list[float] = []

    def distribution(self, states: Any) -> Float64:
        """As the policy; its search's value beside it."""
        value = np.nan
        if isinstance(self.policy, BehaviourPolicy):
            (result,) = self.policy.searches(states)
            said, value = result.acting(self.policy.temperature), float(result.root_value[0])
        else:
            said = self.policy.distribution(states)
        self.distributions.append(said)
        self.values.append(value)
        return said


def _policy(agent: Agent, actor: Actor, temperature: float | None) -> BehaviourPolicy | PriorPolicy:
    if actor == "prior":
        return replace(agent.prior, temperature=1.0 if temperature is None else temperature)
    T = agent.temperature if temperature is None else temperature
    return agent.acting(agent.planning_in(agent.plan_in), temperature=T)


def _dreams(agent: Agent, states: Any, actions: Int64, horizon: int) -> tuple[Float64, Float64]:
    """Predicted rewards and values `[T, h]` of the model unrolled from each state, along the actions taken there."""
    engine, T = engine_for(agent.network, agent.compute), len(actions)
    rewards, values = np.full((2, T, horizon), np.nan)
    latents = engine.represent(agent.environment.observe(states))
    for k in range(min(horizon, T)):
        latents = latents[: T - k]  # of those from which the episode goes on so far
        latents, reward = engine.dynamics(latents, actions[k:])
        _, value = engine.predict(latents)
        rewards[: T - k, k], values[: T - k, k] = reward.cpu().numpy(), value.cpu().numpy()
    return rewards, values
