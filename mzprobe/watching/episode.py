"""Plays one episode and records, step by step, the search's visits and the model's predictions of the next steps."""

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
    """Episode of T steps; the model's dreams are its predictions for h steps ahead, along the actions then taken."""

    spec: EnvironmentSpec
    pictures: list[Picture] | None  # [T + 1], None if the environment has no pictures
    actions: Int64  # [T]
    rewards: Float64  # [T], real rewards
    terminated: bool  # False if the time limit or the caller's `steps` ended the episode
    acting: Float64  # [T, A], distribution that the action was drawn from
    prior: Float64  # [T, A], prior of the policy network at the real state
    search_value: Float64  # [T], root value of the search; NaN without a search
    value: Float64  # [T + 1], value of the network at the real state; 0 at a terminal one
    dreamt_rewards: Float64  # [T, h], predicted rewards of the model unrolled from step t; NaN beyond the end
    dreamt_values: Float64  # [T, h], value of the latent after each of these steps; NaN beyond the end


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
    """Plays one episode and records it.

    Args:
        agent: agent that plays.
        episode: number of the episode; the same number has the same start.
        actor: what acts: the agent's search, or its policy network alone.
        temperature: T of the actor; by default the agent's own for the search, and 1 for the network.
        horizon: h, number of steps that the model predicts ahead.
        steps: largest number of steps; by default the time limit of the environment.
        on_step: called with the number of each step after it is taken.
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
    """Policy that records its distributions, and its search's values."""

    def __init__(self, policy: BehaviourPolicy | PriorPolicy) -> None:
        self.policy: Policy = policy
        self.distributions: list[Float64] = []
        self.values: list[float] = []

    def distribution(self, states: Any) -> Float64:
        """Returns the policy's distribution, and records it with the search's value (NaN without a search)."""
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
    """Unrolls the model from each of T states along the actions taken; returns rewards and values `[T, h]`."""
    engine, T = engine_for(agent.network, agent.compute), len(actions)
    rewards, values = np.full((2, T, horizon), np.nan)
    latents = engine.represent(agent.environment.observe(states))
    for k in range(min(horizon, T)):
        latents = latents[: T - k]  # those from which the episode has a step k
        latents, reward = engine.dynamics(latents, actions[k:])
        _, value = engine.predict(latents)
        rewards[: T - k, k], values[: T - k, k] = reward.cpu().numpy(), value.cpu().numpy()
    return rewards, values
