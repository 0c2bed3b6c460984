"""What a study will do, before it does it."""

from collections.abc import Iterator, Sequence
from math import ceil

import torch

from mzprobe import envs, networks
from mzprobe.agents import Agent
from mzprobe.checkpoints import Checkpoint, spec_record
from mzprobe.config import RunConfig
from mzprobe.errors import UsageError
from mzprobe.probes.cost import Cost, seconds
from mzprobe.probes.registry import PROBES
from mzprobe.settings import StudyConfig, StudyRun
from mzprobe.sources.own import load_agent
from mzprobe.study.price import steps_played, training_seconds
from mzprobe.trust import modules_of


def planned(study: StudyConfig, runs: Sequence[StudyRun]) -> Iterator[tuple[str, int, Cost, float]]:
    """Each probe's name, its checkpoints, what they cost at most, and the seconds of that, for all agents together.

    Counts what there is to do from nothing; a table that is there already is not made again.

    Raises:
        UsageError: if a probe looks at a step that will have no checkpoint.
    """
    for run in runs:
        refuse_missing_steps(study, run.config)
    agents = [_untrained(run.config) for run in runs]
    for name, (settings, steps) in study.probes().items():
        checkpoints, total, needed = 0, Cost(), 0.0
        for run, agent in zip(runs, agents, strict=True):
            training = run.config.training
            first = 1 if PROBES[name].file else 0  # what is kept of training is not there before
            every = [step for step in range(first, training.steps + 1) if training.is_checkpoint(step)]
            count = len(steps or PROBES[name].steps or every)
            policies = count if PROBES[name].pair else 1
            cost = PROBES[name].price(agent, settings, policies) * (count * len(study.seeds))
            checkpoints, total = checkpoints + count * len(study.seeds), total + cost
            needed += seconds(cost, agent, trees=PROBES[name].side_by_side(settings))
        yield name, checkpoints, total, needed


def training_needed(study: StudyConfig, runs: Sequence[StudyRun]) -> float:
    """Seconds that it takes to train all agents one after the other, about."""
    return len(study.seeds) * sum(training_seconds(run.config, _untrained(run.config)) for run in runs)


def in_all(seconds: float, *, agents: int, processes: int) -> float:
    """Seconds from start to end: so much work of that many equal agents, so many at a time."""
    return seconds / agents * ceil(agents / processes)


def training_planned(study: StudyConfig, runs: Sequence[StudyRun]) -> str:
    """What is trained, in words."""
    seeds, configs = len(study.seeds), [run.config for run in runs]
    environment_steps = seeds * sum(steps_played(config) for config in configs)
    agents = f"{seeds * len(runs)} agent{'s' if seeds * len(runs) > 1 else ''}"
    if study.variants:
        agents += f" ({len(runs)} variants)"
    lengths = sorted({config.training.steps for config in configs})
    steps = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    taken = f"some {environment_steps:,}" if environment_steps else "no"
    return f"{agents}, {steps} training steps each, {taken} environment steps"


def refuse_missing_steps(study: StudyConfig, config: RunConfig) -> None:
    """Refuses a study one of whose probes looks at a step that will have no checkpoint.

    Raises:
        UsageError: naming the probe and the step.
    """
    for name, (_, steps) in study.probes().items():
        for step in steps or PROBES[name].steps:
            if step > config.training.steps or not config.training.is_checkpoint(step):
                raise UsageError(
                    f"the study's probe {name} looks at step {step}, where there will be no checkpoint: add it to "
                    f"training.checkpoint_steps, or choose others with steps.{name}"
                )


def _untrained(config: RunConfig) -> Agent:
    """An agent of the run that has learned nothing: as fast as any other."""
    environment = envs.make(config.environment.name, **config.environment.options)
    network = networks.build(config.network, environment.spec, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint(
        run="planned",
        seed=0,
        training_step=0,
        environment_steps=0,
        config=config,
        environment=spec_record(environment),
        metrics={},
        versions={},
        command="",
        weights={name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()},
        weights_sha256="",
        allow=modules_of(config),  # of a study that may be run
    )
    return load_agent(checkpoint)
