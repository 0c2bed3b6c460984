"""Tables of agents of this process: what the commands do with checkpoints, from Python."""

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

from mzprobe.agents import Agent
from mzprobe.config import validated
from mzprobe.errors import UsageError
from mzprobe.names import check_name
from mzprobe.probes.question import Question
from mzprobe.probes.registry import question_of
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.sources.memory import InMemory, placed
from mzprobe.tables import differing


def ask(
    agents: Agent | Sequence[Agent],
    question: str | Question,
    *,
    analyses: Path | str = "analyses",
    overwrite: bool = False,
    on_progress: Callable[[float], None] = lambda _: None,
    **settings: Any,
) -> list[Path]:
    """Asks agents a question and writes tables, for `mzprobe figures`, `claims`, `compare` and `report`.

    A table is of one agent, by run and seed of its origin, at all of its training steps. What a table holds already is
    not measured again; further steps are added to it, also by another call.

    Args:
        agents: one or several, such as a network at several training steps, each with an
            `Origin(run=..., seed=..., training_step=...)`.
        question: its name, or a question of your own.
        analyses: folder of all tables.
        overwrite: whether a table that was made otherwise is replaced, with all the steps that it holds.
        on_progress: told now and then the share that is done, from 0 to 1.
        **settings: settings of the question; those left out are as on the command line.

    Returns:
        The paths of the tables.

    Raises:
        UsageError: if an agent has no training step or shares it with another one of its run and seed, a network is not
            known by its weights (see `mzprobe.sources.memory.weights_sha256`), or a table was made otherwise.
    """
    probe = question_of(question)
    config = validated(probe.config, settings, probe.name)
    asked = [agents] if isinstance(agents, Agent) else agents
    if not asked:
        raise UsageError(f"there is no agent to ask about {probe.name}: give one or several")
    runs = [
        ProbeRun(
            probe=probe,
            agent=Path(f"{run}-{seed}"),
            config=config,
            analyses=Path(analyses),
            steps=tuple(sorted(at)),
            source=InMemory(at=at),
            compute=next(iter(at.values())).compute,
            overwrite=overwrite,
        )
        for (run, seed), at in _by_agent(asked).items()
    ]

    def told(place: int, done: float, total: int) -> None:
        on_progress((place + done / total) / len(runs))

    return [run_probe(run, on_progress=partial(told, place)) for place, run in enumerate(runs)]


def _by_agent(agents: Sequence[Agent]) -> dict[tuple[str, int], dict[int, Agent]]:
    """Agents by run and seed, and then by training step."""
    found: dict[tuple[str, int], dict[int, Agent]] = {}
    for agent in agents:
        origin = agent.origin
        if origin.training_step is None:
            raise UsageError(
                "an agent without a training step has no place in a table: give it "
                "origin=mzprobe.Origin(run=..., seed=..., training_step=...)"
            )
        check_name(origin.run, "a run", "give its Origin another one")
        seed, step = _whole(origin.seed, "seed"), _whole(origin.training_step, "training_step")
        steps = found.setdefault((origin.run, seed), {})
        if step in steps:
            raise UsageError(
                f"two agents are of run {origin.run}, seed {seed}, step {step}: give each an origin of its own"
            )
        if any(one.compute != agent.compute for one in steps.values()):
            raise UsageError(f"run {origin.run}, seed {seed} is asked with several compute: give all the same")
        steps[step] = placed(agent, seed=seed, training_step=step)
        unlike = differing(*({"config": one.origin.config} for one in (next(iter(steps.values())), steps[step])))
        if unlike:
            raise UsageError(
                f"run {origin.run}, seed {seed} is asked with several {unlike} at its steps: give others another run"
            )
    return found


def _whole(number: object, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 0:
        raise UsageError(f"the {what} of an Origin is a whole number of at least 0, not {number!r}")
    return int(number)
