"""Does an agent play as it should, or like chance? An adapter that is wrong plays like chance."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mzprobe.agents import Agent
from mzprobe.behaviour import Episodes, Policy, RandomPolicy, draw_episode_numbers, play_episodes
from mzprobe.seeding import numpy_generator

EPISODES = 20
_ERRORS = 3  # standard errors by which it must be better than chance


@dataclass(frozen=True, kw_only=True)
class Returns:
    """Undiscounted returns of an agent's search at T = 0, and of random play from the same starts."""

    episodes: Episodes  # E of the agent, with their states
    chance: NDArray[np.float64]  # [E]

    @property
    def agent(self) -> NDArray[np.float64]:
        """`[E]`."""
        return self.episodes.returns

    @property
    def plays_like_chance(self) -> bool:
        """Whether the mean is not clearly above that of random play."""
        E = len(self.agent)
        error = np.sqrt((self.agent.var(ddof=1) + self.chance.var(ddof=1)) / E)
        return bool(self.agent.mean() - self.chance.mean() <= _ERRORS * error)


def returns_of(agent: Agent, *, episodes: int = EPISODES, seed: int = 0) -> Returns:
    """Plays an agent, and chance, from the same starts."""
    environment = agent.environment
    generator = numpy_generator(agent.origin.seed, "probe", seed)
    seeds, uniforms = draw_episode_numbers(generator, episodes, environment.spec.time_limit)

    def played(policy: Policy, *, keep_states: bool) -> Episodes:
        return play_episodes(environment, policy, seeds=seeds, uniforms=uniforms, keep_states=keep_states)

    with agent.compute.limited():
        chance = played(RandomPolicy(environment=environment), keep_states=False).returns
        own = played(replace(agent.policy, temperature=0.0), keep_states=True)
    return Returns(episodes=own, chance=chance)
