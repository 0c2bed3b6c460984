"""Tells whether an agent plays better than chance; one that is read by a wrong adapter does not."""

from collections.abc import Iterator
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

    episodes: Episodes  # E episodes of the agent, with their states
    chance: NDArray[np.float64]  # [E], of random play
    chance_scores: NDArray[np.float64] | None = None  # [E], its points in the game, where rewards are clipped

    @property
    def agent(self) -> NDArray[np.float64]:
        """Returns of the agent, `[E]`."""
        return self.episodes.returns

    @property
    def too_few(self) -> bool:
        """Whether the agent's mean is above that of random play, but there are too few episodes to be sure."""
        return len(self.agent) < EPISODES and self.agent.mean() > self.chance.mean() and not self._clearly_better

    @property
    def plays_like_chance(self) -> bool:
        """Whether the mean is not clearly above that of random play, and not only because of too few episodes."""
        return not self._clearly_better and not self.too_few

    @property
    def _clearly_better(self) -> bool:
        E = len(self.agent)
        error = np.sqrt((self.agent.var(ddof=1) + self.chance.var(ddof=1)) / E)
        return bool(self.agent.mean() - self.chance.mean() > _ERRORS * error)

    def said(self) -> Iterator[str]:
        """Yields a line on returns, and one on scores where the game has its own."""
        yield _said("returns", self.agent, self.chance)
        if self.episodes.scores is not None and self.chance_scores is not None:
            yield _said("scores", self.episodes.scores, self.chance_scores)


def _said(what: str, own: NDArray[np.float64], chance: NDArray[np.float64]) -> str:
    return f"{what}: {own.mean():.4g} (from {own.min():.4g} to {own.max():.4g}), chance {chance.mean():.4g}"


def returns_of(agent: Agent, *, episodes: int = EPISODES) -> Returns:
    """Plays an agent, and random play, from the same starts."""
    environment = agent.environment
    generator = numpy_generator(agent.origin.seed, "probe", 0)
    seeds, uniforms = draw_episode_numbers(generator, episodes, environment.spec.time_limit)

    def played(policy: Policy, *, keep_states: bool) -> Episodes:
        return play_episodes(environment, policy, seeds=seeds, uniforms=uniforms, keep_states=keep_states)

    with agent.compute.limited():
        chance = played(RandomPolicy(environment=environment), keep_states=False)
        own = played(replace(agent.policy, temperature=0.0), keep_states=True)
    return Returns(episodes=own, chance=chance.returns, chance_scores=chance.scores)
