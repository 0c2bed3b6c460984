"""An environment in which not every action is legal: a random tabular one with a mask for each state."""

import numpy as np

from mzprobe.envs.core import Outcome
from mzprobe.envs.tabular import TabularEnvironment, TabularStates, random_mdp


class MaskedEnvironment(TabularEnvironment):
    """Illegal actions pay a million, so that whoever takes one shows it; `taken` counts them.

    Args:
        seed: of tables and masks.
        num_states: S.
        num_actions: A.
    """

    def __init__(self, seed=0, *, num_states=12, num_actions=4, gamma=0.97):
        drawn = random_mdp(seed, num_states=num_states, num_actions=num_actions, gamma=gamma, time_limit=30)
        generator = np.random.default_rng(seed)
        legal = generator.random((num_states, num_actions)) < 0.5
        legal[np.arange(num_states), generator.integers(num_actions, size=num_states)] = True
        self.allowed = legal & ~drawn.terminal_states[:, None]
        self.taken = 0
        super().__init__(
            drawn.transitions,
            np.where(legal, 1 + drawn.rewards / 10, 1e6),
            drawn.terminal_states,
            starts=drawn.starts,
            gamma=gamma,
            time_limit=30,
            name="masked",
        )

    def legal(self, states):
        """None at an end."""
        return self.allowed[states.index]

    def step(self, states, actions) -> tuple[TabularStates, Outcome]:
        """Counts what is illegal."""
        alive = ~self.terminal_states[states.index]
        self.taken += int((alive & ~self.allowed[states.index, np.asarray(actions)]).sum())
        return super().step(states, actions)


def make_env(seed=0, gamma=0.97):
    """What `environment.name=masked:make_env` makes."""
    return MaskedEnvironment(seed, gamma=gamma)
