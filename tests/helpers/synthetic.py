"""Tables that nobody measured, in which each claim of the paper is true by as much as asked, or false; and claims."""

import numpy as np
import pandas as pd

from mzprobe.claims import CLAIMS, judge
from mzprobe.claims.core import Claim

STEPS = (500, 1000, 2000, 4000)
SIMULATIONS = (4, 16, 64)


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
            gain, ahead = self._shift(50), self._shift(20)
            for policy, mean in (("prior", 100.0), ("behaviour", 100.0 + gain), ("greedy", 100.0 + gain - ahead)):
                yield from (
                    {"training_step": step, "policy": policy, "episode": i, "return": mean + i - 1} for i in range(3)
                )

    def _horizon(self):
        slope, first = self._shift(0.05 if self.effect > 0 else 0.015), 0.05 - self._shift(0.02)
        for number, step in enumerate((0, *STEPS)):
            falling = 1 - self.effect * 0.1 * number
            later, drift = self._shift(0.02), self._shift(0.1)
            for h in (1, 2, 3, 4):
                error = max(first + slope * (h - 1), 0.0) * falling
                cell = {"training_step": step, "h": h, "value": float(h), "error": error, "exact": True}
                cell |= {"step_signed_error": -0.5 - later * h, "grounded_signed_error": 0.5 + later * h - drift}
                yield from (cell | {"state": s, "end_within": s == 1} for s in range(2))

    def _sequences(self):
        for number, step in enumerate((0, *STEPS)):
            # -rho grows with training where the effect is positive, and is as positive on average.
            rho = -self._shift(0.3) - self.effect * 0.05 * (number - 2.5)
            rhos = dict.fromkeys(["state_rho", *(f"state_rho_{way}" for way in ("at_1", "smoothed", "prior"))], rho)
            yield from ({"training_step": step, "state": s, "end_within": s == 1, **rhos} for s in range(2))

    def _cross(self):
        for x in (0, *STEPS):
            for y in (0, *STEPS):
                error = 1.0 if x == y else 1.0 + self._shift(0.5)
                cell = {"training_step": x, "policy_step": y, "error": error, "exact": True}
                cell |= {"tv": 0.0 if x == y else 0.4, "own_temperature": True}
                yield from (cell | {"state": s, "end_within": s == 1} for s in range(2))

    def _search_error(self):
        for N in SIMULATIONS:
            for prior, sign in (("policy", -1), ("uniform", 1)):
                numbers = {
                    name: 1 + sign * self._shift(0.2) for name in ("tv", "kl", "trajectory_error", "matched_error")
                }
                yield from (
                    {"training_step": 2000, "simulations": N, "prior": prior, "state": s, **numbers} for s in range(2)
                )

    def _planning(self):
        for number, step in enumerate(STEPS):
            behind_free, behind_guided, slower = self._shift(60), self._shift(20), self._shift(5)
            free = 300 - behind_free + self.effect * 20 * number
            for i, N in enumerate(SIMULATIONS):
                guided = 330 - behind_guided + slower * i
                # One of the models gets nowhere with few simulations, whichever the prior.
                late = {"learned": 200 * (self.effect > 0), "true": 200 * (self.effect < 0)} if i < 2 else {}
                returns = {
                    ("true", "uniform"): 300 - late.get("true", 0),
                    ("true", "policy"): 330 - late.get("true", 0),
                    ("learned", "uniform"): free - late.get("learned", 0),
                    ("learned", "policy"): guided - late.get("learned", 0),
                }
                for (model, prior), mean in returns.items():
                    yield from self._cell(step, model, prior, N, 0.0, mean)
            average = free - 400 / 3 * (self.effect > 0)
            yield from self._cell(step, "none", "uniform", 0, 1.0, average - self._shift(80))
            yield from self._cell(step, "none", "policy", 0, 1.0, guided - self._shift(100))
            yield from self._cell(step, "none", "policy", 0, 0.0, guided - self._shift(50))

    def _improvement(self):
        for step in (0, *STEPS):
            for N in SIMULATIONS:
                for model in ("learned", "true"):
                    gain = self._shift() if SIMULATIONS[-1] == N else -self.effect
                    cell = {"training_step": step, "model": model, "prior": "policy", "leaf": "value", "simulations": N}
                    yield from (cell | {"state": s, "improvement": gain + s - 0.5} for s in range(2))

    def _targets(self):
        for step in STEPS:
            lag = self._shift(10)
            for position, age in enumerate((10, 10, 40, 400)):
                target = 80.0 - (lag if age > 10 else 0.0)
                yield {"training_step": step, "position": position, "age": age, "value": 90.0, "target": target}

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
