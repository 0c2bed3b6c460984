"""A small Gymnasium environment, of which the tests of `gym:ID` make faulty ones."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Corridor(gymnasium.Env):
    """Walk right to the end; faults are made of it below."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Discrete(2, start=-1)

    def reset(self, *, seed=None, **_):
        super().reset(seed=seed)
        self.at = float(self.np_random.integers(3))
        return self.seen(), {}

    def step(self, action):
        assert action in (-1, 0)
        self.at += 2 * action + 1
        return self.seen(), -1.0, self.at >= 9, False, {}

    def seen(self):
        return np.array([self.at], np.float32)
