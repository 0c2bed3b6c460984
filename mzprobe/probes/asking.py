"""`ask`: makes tables of agents in memory from Python, as the commands do of checkpoints."""

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
from mzprobe.sources.memory import InMemory, with_origin
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

    There is one table per run and seed of the agents' origins, with all their training steps. Steps that a table
    already holds are not measured again; further steps are added to it, also by later calls.

    Args:
        agents: one or several agents, such as a network at several training steps, each with an
            `Origin(run=..., seed=..., training_step=...)`.
        question: name of the question, or a `Question` of your own.
        analyses: folder of all tables.
        overwrite: whether to replace a table that was made with other settings, including all its steps.
        on_progress: called periodically with the fraction done, from 0 to 1.
        **settings: settings of the question; the others have the defaults of the command line.

    Returns:
        The paths of the tables, one per run and seed.

    Raises:
        UsageError: if there is no agent, question or setting of that name; an agent has no training step or shares it
            with another one of its run and seed; agents of a run and seed differ in their configuration or `compute`;
            a network cannot be identified by its weights (see `mzprobe.sources.memory.weights_sha256`); or a table was
            made with other settings and `overwrite` is not set.
        InUse: if another process is writing one of the tables.
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
    """Groups agents by run and seed, and then by training step, with origins completed by `with_origin`.

    Raises:
        UsageError: if an origin is incomplete or invalid, or agents of a run and seed do not fit together.
    """
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
        steps[step] = with_origin(agent, seed=seed, training_step=step)
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
