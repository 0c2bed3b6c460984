"""Training loop of one agent: synchronous, and bit-identical for the same seed, interrupted or not."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe import envs
from mzprobe.checkpoints import agent_folder, read_checkpoint, step_of, steps_of
from mzprobe.compute import Compute
from mzprobe.config import RunConfig, of_record
from mzprobe.envs.core import is_masked
from mzprobe.errors import CheckpointError, Interrupted, TrainingDiverged, UsageError
from mzprobe.files import remove_leftovers
from mzprobe.lines import in_digits, one_line
from mzprobe.locks import held
from mzprobe.making import network_of
from mzprobe.networks.engine import place_on_device
from mzprobe.records.digests import own_code
from mzprobe.records.schemas import StateRecord
from mzprobe.records.versions import versions
from mzprobe.seeding import numpy_generator, torch_generator
from mzprobe.training.beyond import Beyond, Reach, reach
from mzprobe.training.clock import Clock
from mzprobe.training.continuing import (
    refuse_other_agent,
    refuse_other_precision,
    refuse_other_run,
    refuse_other_versions,
)
from mzprobe.training.experience import Offline, Online, prioritise
from mzprobe.training.learner import Learner
from mzprobe.training.reanalyse import Reanalyser
from mzprobe.training.recorded import Feed
from mzprobe.training.replay import Replay
from mzprobe.training.resume import load_resume, read_file, remove_older_states, save_resume
from mzprobe.training.snapshots import Snapshots
from mzprobe.trust import modules_of

RECENT = 20  # self-play episodes in the running mean return


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run, for display."""

    step: int  # number of training steps done
    steps: int  # total number of training steps
    environment_steps: int
    recent_return: float | None  # mean of the last self-play episodes, exploration included
    evaluation: float | None  # mean return of the last evaluation
    reanalysed: float | None  # share of the targets so far that came from stored positions
    losses: dict[str, float]  # losses of the last training step

    @property
    def note(self) -> str:
        """The returns so far in a few words, or the losses if there are losses and no return of self-play."""
        if self.recent_return is None and self.losses:
            losses = {name: loss for name, loss in self.losses.items() if name.endswith("_loss")}
            return ", ".join(f"{name.replace('_', ' ')} {loss:.2f}" for name, loss in losses.items())
        return f"return {in_digits(self.recent_return)}, evaluated {in_digits(self.evaluation)}"


class Trainer:
    """Trains one agent.

    Args:
        config: configuration of the run.
        seed: seed of the agent.
        run: name of the run; with the seed, it gives the folder of the agent under `out`.
        out: folder of all checkpoints.
        command: command line that trains this agent, for the checkpoints.
        compute: how the network runs; the number of threads is taken from the configuration.
        any_version: whether to resume from a state saved with other package versions.

    Raises:
        UsageError: if the replay buffer cannot hold the longest episode or does not fit into memory, or if recorded
            episodes are given for an environment that masks actions.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        seed: int,
        run: str,
        out: Path | str,
        command: str,
        compute: Compute | None = None,
        any_version: bool = False,
    ) -> None:
        self.config = config
        self.any_version = any_version
        self.seed = seed
        self.run_name = run
        self.folder = agent_folder(out, run, seed)
        self.command = command
        training = config.training
        self.compute = replace(compute or Compute(), threads=training.threads)
        self.environment = envs.make(config.environment.name, **config.environment.options)
        spec = self.environment.spec
        if training.replay_capacity <= spec.time_limit:
            raise UsageError(
                f"training.replay_capacity={training.replay_capacity} does not hold an episode of {spec.time_limit} "
                f"steps and its last state: set it to {spec.time_limit + 1} or more"
            )
        self.network = network_of(config.network, self.environment, torch_generator(seed, "network"))
        place_on_device(self.network, self.compute)
        self.learner = Learner(self.network, training, compute=self.compute, seed=seed)
        self.snapshots = Snapshots(config, self.environment, self.network, seed=seed, compute=self.compute)
        self.reanalyser = Reanalyser(
            config,
            self.environment,
            self.snapshots.model_for("reanalyse"),
            self.snapshots.network_for("reanalyse"),
            generator=numpy_generator(seed, "reanalyse"),
            compute=self.compute,
        )
        self.clock = Clock()
        self.feed = self._feed()  # None unless the configuration names recorded episodes
        self.experience = self._experience()
        self.step = 0
        self.environment_steps = 0
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.last_losses: dict[str, float] = {}
        self.beyond = Beyond(support=self.network.support, learned=self.learner.objective.learned)
        self.stop = False  # set to True, for example by `on_progress`, to stop before the next turn

    def train(self, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        """Trains to the last step, from the saved state if there is one.

        Raises:
            TrainingDiverged: if a loss, a gradient or a weight stops being finite.
            Interrupted: if `stop` was set; the state is saved.
            UsageError: if the folder holds another agent, or was trained with another configuration, precision or
                package versions.
            CheckpointError: if the saved state is damaged, missing or does not fit.
            InUse: if another command trains this agent.
            DatasetError: if the run began with another dataset.
        """
        steps = self.config.training.steps
        self.stop = False
        with held(self.folder), self.compute.limited():
            resumed = self._resume()
            for folder in (self.folder, self.folder / "resume"):
                remove_leftovers(folder)
            remove_older_states(self.folder, self.experience.files() if resumed else ())
            if not resumed:
                self.experience.begin()
                self._at_step()
            while self.step < steps:
                if self.stop:
                    self.save()
                    raise Interrupted(f"stopped at step {self.step} of {steps}: run the same command again to resume")
                self.advance()
                on_progress(self.progress())
        on_progress(self.progress())

    def advance(self) -> None:
        """Takes one turn: plays one step of every episode or, if the ratio of steps allows it, makes one training step.

        Raises:
            TrainingDiverged: if a loss, a gradient or a weight stops being finite.
        """
        experience = self.experience
        if isinstance(experience, Online) and not experience.may_train(self.environment_steps, self.step):
            self.recent.extend(experience.play_step(self.step))
            self.environment_steps += self.config.training.environments
            return
        drawn, batch = experience.sample(self.step)
        with self.clock.part("learn"):
            self.last_losses, root_values = self.learner.step(batch, self.step)
        self._refuse_divergence()
        prioritise(drawn, np.abs(root_values - batch.values[0]))
        self.beyond.add(batch)
        self.step += 1
        self.snapshots.follow(self.step)
        self.beyond.tell(self._reach() if self.step == 1 else None)
        self._at_step()

    def progress(self) -> Progress:
        """Returns the progress of the run."""
        evaluations = self.snapshots.evaluations
        return Progress(
            step=self.step,
            steps=self.config.training.steps,
            environment_steps=self.environment_steps,
            recent_return=self._recent_return(),
            evaluation=evaluations[-1]["mean_return"] if evaluations else None,
            reanalysed=self.experience.counts.fraction,
            losses=self.last_losses,
        )

    def save(self) -> None:
        """Saves the state to resume from, and the times so far."""
        parts, kept = self.experience.state()
        parts |= {"learner": self.learner.state(), "average": self.snapshots.state()}
        arrays = {f"{part}/{name}": array for part, found in parts.items() for name, array in found.items()}
        record = {
            "run": self.run_name,
            "seed": self.seed,
            "versions": self._versions(),
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "environment_steps": self.environment_steps,
            "recent": list(self.recent),
            "evaluations": self.snapshots.evaluations,
            "last_losses": self.last_losses,
            "beyond_support": self.beyond.state(),
            "experience": kept,
            "compute": self.compute.record(),
        }
        self.clock.write(self.folder, training_step=self.step, environment_steps=self.environment_steps)
        save_resume(
            self.folder,
            step=self.step,
            environment_steps=self.environment_steps,
            arrays=arrays,
            record=record,
            files=self.experience.files(),
        )

    def _at_step(self) -> None:
        """Updates the target network, evaluates, writes a checkpoint and saves the state, as far as each is due."""
        training = self.config.training
        self.reanalyser.at_step(self.step)
        # Evaluations play, and offline the environment must never be stepped.
        if training.evaluation_episodes and self.step % training.evaluation_interval == 0 and not self.config.offline:
            with self.clock.part("evaluate"):
                self.snapshots.evaluate(self.step, self.environment_steps)
        if training.is_checkpoint(self.step):
            self._write_checkpoint()
        if self.step % training.resume_interval == 0 or training.is_checkpoint(self.step):
            self.save()

    def _write_checkpoint(self) -> None:
        counts = vars(self.experience.counts)
        self.clock.mark(training_step=self.step, environment_steps=self.environment_steps, **counts)
        self.snapshots.write(
            self.folder,
            run=self.run_name,
            step=self.step,
            environment_steps=self.environment_steps,
            metrics={
                "recent_return": self._recent_return(),
                "losses": self.last_losses,
                "targets": counts,
                "beyond_support": self.beyond.record(),
                **({} if self.feed is None else {"dataset": self.feed.record()}),
            },
            command=self.command,
            targets=self.experience.stored_targets(self.step),
        )

    def _recent_return(self) -> float | None:
        return float(np.mean(self.recent)) if self.recent else None

    def _refuse_divergence(self) -> None:
        losses = self.last_losses
        if not all(map(math.isfinite, losses.values())):
            said = ", ".join(f"{name} {value}" for name, value in losses.items())
            raise TrainingDiverged(
                f"training step {self.step + 1} gave a number that is not finite ({said}): the last checkpoint is "
                "intact; lower training.learning_rate or training.gradient_clip and train another run"
            )

    def _reach(self) -> Reach | None:
        """Returns the estimate from the warm-up for an environment without a shipped preset; None for others."""
        foreign = ":" in self.config.environment.name
        return reach(self.experience.replay, self.environment.spec) if foreign else None

    def _versions(self) -> dict[str, str]:
        return versions(self.environment.spec.name) | own_code(modules_of(self.config))

    def _resume(self) -> bool:
        """Restores the latest state, if there is one; returns False if training starts from the beginning."""
        here, refuse = (self.run_name, self.seed), partial(refuse_other_run, self.folder, now=self.config)
        loaded = load_resume(self.folder)
        if loaded is None:
            kept = steps_of(self.folder)
            if not kept:
                return False
            first = read_checkpoint(kept[0])
            refuse_other_agent(self.folder, found=(first.run, first.seed), expected=here)
            refuse(before=first.config, fed=first.dataset, feed=self.feed)
            return self._is_finished(kept[-1])
        arrays, record = loaded
        refuse_other_agent(self.folder, found=(record.run, record.seed), expected=here)
        fed = record.experience.get("feed")
        before = of_record(record.config, str(self.folder))
        refuse(before=before, fed=fed if isinstance(fed, dict) else {}, feed=self.feed)
        if not self.any_version:
            refuse_other_versions(self.folder, saved=record.versions, here=self._versions())
        refuse_other_precision(self.folder, saved=record.compute.get("precision"), here=self.compute.precision)
        try:
            self._restore(arrays, record)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as reason:
            said = one_line(str(reason))[:200]
            raise CheckpointError(
                f"{self.folder} holds a state of training that does not fit ({said}): copy it back, or "
                "train under another --name"
            ) from None
        self.clock.read(self.folder, training_step=self.step, environment_steps=self.environment_steps)
        return True

    def _is_finished(self, last: Path) -> bool:
        """Whether an agent without saved state is already finished; one with only the first checkpoint is restarted.

        Raises:
            CheckpointError: if it is neither, so that training would overwrite its checkpoints.
        """
        step = step_of(last)
        if step >= self.config.training.steps:
            self.step, self.environment_steps = step, read_checkpoint(last).environment_steps
            return True
        if step:
            raise CheckpointError(
                f"{self.folder} has checkpoints up to step {step} and no state to go on from: copy its folder resume/ "
                "back, or train under another --name"
            )
        return False  # killed before the first state was saved: a restart writes the same checkpoint again

    def _restore(self, arrays: dict[str, NDArray[Any]], record: StateRecord) -> None:
        """Restores a state; propagates the error of whichever part rejects it."""

        def part(name: str) -> dict[str, Any]:
            return {key.partition("/")[2]: a for key, a in arrays.items() if key.startswith(f"{name}/")}

        self.step, self.environment_steps = record.step, record.environment_steps
        self.recent = deque(record.recent, maxlen=RECENT)
        self.last_losses = record.last_losses
        if record.last_losses and not {*self.learner.objective.names} <= {*record.last_losses}:
            raise ValueError("it does not say all losses")
        self.beyond.restore(record.beyond_support.model_dump())
        parts = {name: part(name) for name in ("play", "replay", "recorded", "target")}
        self.experience.restore(parts, record.experience, partial(read_file, self.folder))
        self.learner.restore(part("learner"))
        self.snapshots.restore(part("average"), [one.model_dump() for one in record.evaluations])

    def _feed(self) -> Feed | None:
        config = self.config
        if config.dataset.path is None:
            return None
        if is_masked(self.environment):
            raise UsageError(
                f"{self.environment.spec.name} does not allow every action everywhere, and recorded episodes do not "
                "say what was legal: leave dataset.path out"
            )
        from mzprobe.datasets import open_dataset  # an extra, needed only here

        return Feed(
            open_dataset(config.dataset.path, self.environment.spec),
            # Without `keep_best`: offline the feed itself chooses the best, and online they are among the agent's own.
            Replay.of(self.environment, config.training.model_copy(update={"keep_best": None})),
            seed=self.seed,
            best=config.training.keep_best if config.offline else None,
        )

    def _experience(self) -> Online | Offline:
        config, seed, feed = self.config, self.seed, self.feed
        if feed is not None and config.offline:
            return Offline(config, reanalyser=self.reanalyser, seed=seed, clock=self.clock, feed=feed)
        return Online(
            config,
            self.environment,
            model=self.snapshots.model_for("play"),
            replay=Replay.of(self.environment, config.training),
            reanalyser=self.reanalyser,
            seed=seed,
            clock=self.clock,
            demonstrations=feed,
        )
