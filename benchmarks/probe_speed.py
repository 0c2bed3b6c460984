"""The probes on one checkpoint and one core, and where their time goes: search, network, truth.

    python benchmarks/probe_speed.py

A CartPole agent after 2,000 training steps. Targets: horizon (200 states, h to 10, 64 sequences a state) and sequences
(100 states, 25,500 searches) under 60 s each; planning at N = 64, 20 episodes of 500 steps, under 60 s in either
model. What has to be compiled, is before.
"""

from _timing import SMALLEST, interleaved, pin_to_one_core  # isort: skip - sets the threads before numpy loads

import dataclasses
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mzprobe.agents import Agent
from mzprobe.behaviour import BehaviourPolicy
from mzprobe.checkpoints import read_checkpoint
from mzprobe.config import load_preset
from mzprobe.probes.equivalence import measure_equivalence
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.online import measure_online
from mzprobe.probes.planning import leaf_of
from mzprobe.probes.search_error import measure_search_error
from mzprobe.probes.sequences import measure_sequences
from mzprobe.settings import (
    EquivalenceConfig,
    HorizonConfig,
    OnlineConfig,
    PlanningConfig,
    SearchErrorConfig,
    SequencesConfig,
)
from mzprobe.sources.own import load_agent
from mzprobe.system.threads import limited_threads
from mzprobe.training.trainer import Trainer

TRAINED = 20 if SMALLEST else 2000  # training steps
PARTS = {
    "search": ("distribution", "searches"),
    "network": ("represent", "dynamics", "predict"),
    "truth": ("reset", "step", "observe", "terminal", "rewards_along"),
}


class Timed:
    """Passes everything on to an object and keeps the time of some of its methods."""

    def __init__(self, inner: Any, part: str, spent: dict[str, float]) -> None:
        self._inner, self._part, self._spent = inner, part, spent

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in PARTS[self._part]:
            return value

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = value(*arguments)
            self._spent[self._part] += time.perf_counter() - start
            return result

        return timed


def trained_agent() -> Agent:
    with tempfile.TemporaryDirectory() as folder:
        config = load_preset("cartpole", [f"training.steps={TRAINED}", "training.evaluation_episodes=0"])
        trainer = Trainer(config, seed=0, run="benchmark", out=Path(folder), command="benchmarks/probe_speed.py")
        trainer.train()
        return load_agent(read_checkpoint(trainer.folder / f"step-{TRAINED:07d}"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimedAgent(Agent):
    """An agent whose search and network evaluation are another's, so that neither is timed twice."""

    of: Agent
    spent: dict[str, float]

    @cached_property
    def policy(self) -> Any:
        """The search, timed as a whole."""
        return Timed(self.of.policy, "search", self.spent)

    @property
    def evaluate(self) -> Any:
        """As the agent's own."""
        return self.of.evaluate


def split(measure: Callable[[Agent, Any], Any], agent: Agent, config: Any) -> tuple[float, dict[str, float], int]:
    """Seconds of a probe, those of its parts, and its rows."""
    spent: dict[str, float] = defaultdict(float)
    given = {field.name: getattr(agent, field.name) for field in dataclasses.fields(agent)}
    given["environment"] = Timed(agent.environment, "truth", spent)
    given["network"] = Timed(agent.network, "network", spent)
    timed = TimedAgent(**given, of=agent, spent=spent)
    start = time.perf_counter()
    rows = measure(timed, config)
    return time.perf_counter() - start, spent, len(rows)


def report(name: str, measure: Callable[[Agent, Any], Any], agent: Agent, config: Any, *, parts: bool) -> None:
    """Prints the fastest of three; with its parts where the search is a call of the agent's policy."""
    if SMALLEST:
        few = {name: 2 for name in ("states", "episodes") if hasattr(config, name)}
        config = config.model_copy(update=few)
    measure(agent, config)
    results = []
    for _ in range(1 if SMALLEST else 3):
        if parts:
            results.append(split(measure, agent, config))
        else:
            start = time.perf_counter()
            rows = measure(agent, config)
            results.append((time.perf_counter() - start, {}, len(rows)))
    seconds, spent, count = min(results, key=lambda result: result[0])
    shares = ", ".join(f"{part} {spent[part]:.2f}" for part in spent)
    rest = f", rest {seconds - sum(spent.values()):.2f}" if spent else ""
    print(f"{name:56s} {seconds:6.2f} s; {count:,} rows; {shares}{rest}")


def own_head(agent: Agent, config: EquivalenceConfig) -> pd.DataFrame:
    """Order-k equivalence with the agent's own value head."""
    return measure_equivalence(agent, config, [agent])


def planning_cell(agent: Agent, model: str, prior: str) -> None:
    """Prints what a cell of 20 episodes and 500 steps takes at N = 64 where no episode ends early."""
    config = PlanningConfig(simulations=(64,))
    policy = BehaviourPolicy(
        environment=agent.environment,
        model=agent.planning_in(model, prior=prior, leaf=leaf_of(agent, config)),
        config=agent.policy.config.model_copy(update={"simulations": 64}),
        temperature=0.0,
    )
    states = agent.environment.reset(np.arange(20))
    seconds = interleaved({"": lambda: policy.distribution(states)}, repetitions=9)[""]
    rate = 20 * 64 / seconds
    print(f"planning cell, N = 64, {model:7s} model, {prior:7s} prior: {500 * seconds:.2f} s, {rate:.2e} simulations/s")


def main() -> None:
    pin_to_one_core()
    with limited_threads(1):
        agent = trained_agent()
        sampled = HorizonConfig(enumerate_up_to=0)
        report("horizon, 200 states, h to 10, 64 sequences a state", measure_horizon, agent, sampled, parts=True)
        report("horizon, 200 states, h to 10, all 1,024 sequences", measure_horizon, agent, HorizonConfig(), parts=True)
        report("sequences, 100 states, all 256 of length 8", measure_sequences, agent, SequencesConfig(), parts=True)
        report("online, 100 episodes of both policies", measure_online, agent, OnlineConfig(), parts=True)
        report("equivalence, 100 states, k to 20, 64 sequences", own_head, agent, EquivalenceConfig(), parts=True)
        report("search error, 200 states, N to 128", measure_search_error, agent, SearchErrorConfig(), parts=False)
        for model in ("learned", "true"):
            for prior in ("policy", "uniform"):
                planning_cell(agent, model, prior)


if __name__ == "__main__":
    main()
