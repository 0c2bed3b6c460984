"""Tables that nobody measured, in which each claim of the paper is true by as much as asked, or false; and claims."""

import numpy as np
import pandas as pd

from mzprobe.claims import CLAIMS, judge
from mzprobe.claims.core import Claim

STEPS = (500, 1000, 2000, 4000)
SIMULATIONS = (2, 8, 32)


class World:
    """Agents whose tables carry an effect.

    Args:
        effect: how much of what the paper claims is so; negative for the opposite.
        agents: seeds 0, 1 and so on.
        noise: standard deviation of what agents differ by.
    """

    def __init__(self, effect, *, agents=8, noise=0.1, seed=0):
        self.effect, self.agents, self.noise = effect, agents, noise
        self.generator = np.random.default_rng(seed)

    def table(self, probe):
        """The table of a probe."""
        rows = [row | {"seed": agent} for agent in range(self.agents) for row in getattr(self, f"_{probe}")()]
        return pd.DataFrame(rows)

    def _shift(self, size=1.0):
        """An agent's own effect."""
        return size * (self.effect + self.noise * self.generator.standard_normal())

    def _online(self):
        for step in (0, *STEPS):
            gain = self._shift(50)
            for policy, mean in (("prior", 100.0), ("behaviour", 100.0 + gain)):
                yield from (
                    {"training_step": step, "policy": policy, "episode": i, "return": mean + i - 1} for i in range(3)
                )

    def _horizon(self):
        for step in (0, *STEPS):
            slope, first = self._shift(0.01), 0.05 - self._shift(0.02)
            for h in (1, 2, 3, 4):
                error = max(first + slope * (h - 1), 0.0)
                yield from (
                    {"training_step": step, "h": h, "state": s, "value": float(h), "error": error, "exact": True}
                    for s in range(2)
                )

    def _sequences(self):
        for number, step in enumerate((0, *STEPS)):
            # -rho grows with training where the effect is positive, and is as positive on average.
            rho = -self._shift(0.3) - self.effect * 0.05 * (number - 2.5)
            yield from ({"training_step": step, "state": s, "rho": rho} for s in range(2))

    def _cross(self):
        for x in (0, *STEPS):
            for y in (0, *STEPS):
                error = 1.0 if x == y else 1.0 + self._shift(0.5)
                cell = {"training_step": x, "policy_step": y, "error": error, "exact": True}
                yield from (cell | {"state": s} for s in range(2))

    def _search(self):
        for N in SIMULATIONS:
            for prior, sign in (("policy", -1), ("uniform", 1)):
                numbers = {name: 1 + sign * self._shift(0.2) for name in ("tv", "kl", "trajectory_error", "path_error")}
                yield from (
                    {"training_step": 2000, "simulations": N, "prior": prior, "state": s, **numbers} for s in range(2)
                )

    def _planning(self):
        for step in STEPS:
            behind_free, behind_guided, slower = self._shift(60), self._shift(20), self._shift(5)
            for i, N in enumerate(SIMULATIONS):
                guided = 330 - behind_guided + slower * i
                returns = {
                    ("true", "uniform"): 300,
                    ("true", "policy"): 330,
                    ("learned", "uniform"): 300 - behind_free,
                    ("learned", "policy"): guided,
                }
                for (model, prior), mean in returns.items():
                    yield from self._cell(step, model, prior, N, 0.0, mean)
            yield from self._cell(step, "none", "policy", 0, 1.0, guided - self._shift(100))
            yield from self._cell(step, "none", "policy", 0, 0.0, guided - self._shift(50))

    def _cell(self, step, model, prior, N, temperature, mean):
        place = {"learned": "latent"}.get(model, "state") if prior == "policy" else "none"
        cell = {"training_step": step, "model": model, "prior": prior, "prior_at": place, "simulations": N}
        cell["temperature"] = temperature
        yield from (cell | {"episode": i, "return": mean + i - 1} for i in range(3))


def judged(claim, frame, seed=0):
    return judge(claim, frame, generator=np.random.default_rng(seed))


def named(name):
    """The claim of a name."""
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    return claim


def made(rows):
    """A table that holds cells, seeds and effects."""
    return pd.DataFrame(rows, columns=["cell", "seed", "effect"]).assign(training_step=1)


def a_claim(*, every=False):
    """A claim whose table holds the effects themselves."""
    return Claim(
        name="made", section="0", sentence="So.", effect="it", probe="none", measure=lambda frame: frame, every=every
    )
