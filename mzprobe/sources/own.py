"""Agents that mzprobe trained, loaded from their checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mzprobe.agents import Agent, Origin
from mzprobe.checkpoints import RECORD, Checkpoint, agents_at, find_agents, read_checkpoint, step_of, steps_of
from mzprobe.compute import Compute
from mzprobe.errors import UsageError
from mzprobe.networks.engine import place_on_device


@dataclass(frozen=True)
class Own:
    """Folders of agents with a folder for each checkpoint, as `mzprobe train` writes them."""

    name: str = "own"

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return self.is_checkpoint(path) or bool(agents_at(path))

    def is_checkpoint(self, path: Path) -> bool:
        """Whether a path is the folder of a single checkpoint."""
        return (path / RECORD).is_file()

    def agents(self, path: Path) -> list[Path]:
        """See `Source.agents`."""
        return find_agents(path)

    def checkpoints(self, agent: Path) -> dict[int, Path]:
        """See `Source.checkpoints`."""
        return {step_of(path): path for path in steps_of(agent)}

    def origin(self, checkpoint: Path) -> Origin:
        """See `Source.origin`.

        Raises:
            UsageError: if the folder's name states another training step than its record.
            CheckpointError: if the checkpoint cannot be read.
        """
        origin = origin_of(read_checkpoint(checkpoint))
        if step_of(checkpoint) != origin.training_step:
            raise UsageError(
                f"{checkpoint} holds step {origin.training_step}: rename it to step-{origin.training_step:07d}"
            )
        return origin

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:
        """See `Source.load`; the threads are those of training."""
        return load_agent(read_checkpoint(checkpoint, allow=allow), compute=compute)


def load_agent(checkpoint: Checkpoint, *, compute: Compute | None = None) -> Agent:
    """Returns the agent of a checkpoint, in its environment, acting as it did when it collected data.

    Args:
        checkpoint: checkpoint as read from disk.
        compute: device, precision and memory of its computations; the threads are those of training, since the bits of
            its results may depend on them.
    """
    training = checkpoint.config.training
    compute = replace(compute or Compute(), threads=training.threads)
    environment = checkpoint.make_environment()
    return Agent(
        environment=environment,
        network=place_on_device(checkpoint.make_network(environment), compute),
        search=checkpoint.config.search,
        temperature=training.temperature(checkpoint.training_step),
        unroll=training.unroll_steps,
        plan_in=training.plan_in,
        targets=checkpoint.targets,
        positions=training.audited_positions,
        origin=origin_of(checkpoint),
        compute=compute,
    )


def origin_of(checkpoint: Checkpoint) -> Origin:
    """Returns the provenance that a checkpoint records."""
    return Origin(
        source="own",
        run=checkpoint.run,
        seed=checkpoint.seed,
        training_step=checkpoint.training_step,
        environment_steps=checkpoint.environment_steps,
        environment=checkpoint.environment,
        network=checkpoint.config.network.kind,
        weights_sha256=checkpoint.weights_sha256,
        config=checkpoint.config.model_dump(mode="json"),
        dataset=checkpoint.dataset,
        beyond_support=checkpoint.metrics.get("beyond_support"),
    )
