"""The training loop: one agent, synchronous, the same bits for the same seed, interrupted or not."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mzprobe import envs, networks
from mzprobe.behaviour import BehaviourPolicy, draw_episode_numbers, play_episodes
from mzprobe.checkpoints import agent_folder, read_checkpoint, steps_of, write_checkpoint
from mzprobe.config import RunConfig, of_record
from mzprobe.errors import CheckpointError, Interrupted, TrainingDiverged, UsageError
from mzprobe.files import remove_leftovers
from mzprobe.lines import one_line
from mzprobe.locks import held
from mzprobe.networks import TrainableNetwork
from mzprobe.provenance import versions
from mzprobe.records import StateRecord
from mzprobe.search.models import LearnedModel
from mzprobe.seeding import numpy_generator, torch_generator
from mzprobe.threads import limited_threads
from mzprobe.training.averaging import WeightAverage
from mzprobe.training.beyond import Beyond, Reach, reach
from mzprobe.training.clock import Clock
from mzprobe.training.experience import Experience, Offline, Online, prioritise
from mzprobe.training.learner import LOSSES, Learner
from mzprobe.training.reanalyse import Reanalyser
from mzprobe.training.recorded import Feed
from mzprobe.training.replay import Replay
from mzprobe.training.resume import load_resume, remove_older_states, save_resume

RECENT = 20  # self-play episodes in the running mean return


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, for whoever shows it."""

    step: int  # training steps done
    steps: int  # training steps in all
    environment_steps: int
    recent_return: float | None  # mean of the last self-play episodes, exploration included
    evaluation: float | None  # mean return of the last evaluation
    reanalysed: float | None  # share of the targets so far that were made from stored positions
    losses: dict[str, float]  # of the last training step


class Trainer:
    """One agent in training.

    Args:
        config: of the run.
        seed: of the agent.
        run: name of the run; with the seed, the folder of the agent under `out`.
        out: folder of all checkpoints.
        command: that a reader can type to make this agent.
        device: of the network.
        any_version: whether to go on from a state that other versions of packages have saved.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        seed: int,
        run: str,
        out: Path,
        command: str,
        device: str = "cpu",
        any_version: bool = False,
    ) -> None:
        self.config = config
        self.any_version = any_version
        self.seed = seed
        self.run_name = run
        self.folder = agent_folder(out, run, seed)
        self.command = command
        training = config.training
        self.environment = envs.make(config.environment.name, **config.environment.options)
        spec = self.environment.spec
        if training.replay_capacity <= spec.time_limit:
            raise UsageError(
                f"training.replay_capacity={training.replay_capacity} does not hold an episode of {spec.time_limit} "
                f"steps and its last state: set it to {spec.time_limit + 1} or more"
            )
        self.network = networks.build(config.network, spec, torch_generator(seed, "network")).to(device)
        self.learner = Learner(self.network, training, device=device)
        self.average = WeightAverage(self.network, decay=training.average_decay) if training.average_decay else None
        model = partial(LearnedModel, num_actions=spec.num_actions, gamma=spec.gamma, device=device)
        self.model = model(self._network_for("play"))
        self.evaluated = model(self._network_for("checkpoints"))
        self.clock = Clock()
        searched = self._network_for("reanalyse")
        self.reanalyser = Reanalyser(
            config, model(searched), searched, generator=numpy_generator(seed, "reanalyse"), device=device
        )
        self.feed: Feed | None = None  # of recorded episodes, where the configuration names some
        self.experience = self._experience()
        self.step = 0
        self.environment_steps = 0
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.evaluations: list[dict[str, float]] = []
        self.last_losses: dict[str, float] = {}
        self.beyond = Beyond(support=self.network.support)
        self.stop = False  # set by whoever wants the run to stop at the next whole step

    def train(self, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        """Trains to the last step, from the saved state if there is one.

        Raises:
            TrainingDiverged: if a loss, a gradient or a weight stops being finite.
            Interrupted: if `stop` was set; the state is saved.
            UsageError: if the folder holds a run of another configuration.
            CheckpointError: if the state to go on from is damaged, or does not fit.
            InUse: if another command trains this agent.
            DatasetError: if the run began with another dataset.
        """
        training = self.config.training
        self.stop = False
        with held(self.folder), limited_threads(training.threads):
            resumed = self._resume()
            for folder in (self.folder, self.folder / "resume"):
                remove_leftovers(folder)
            remove_older_states(self.folder)
            if not resumed:
                self.experience.begin()
                self._at_step()
            while self.step < training.steps:
                if self.stop:
                    self.save()
                    raise Interrupted(
                        f"stopped at step {self.step} of {training.steps}: run the same command again to resume"
                    )
                if self.experience.may_train(self.environment_steps, self.step):
                    self._train_step()
                    self.beyond.tell(self._reach() if self.step == 1 else None)
                    self._at_step()
                else:
                    self.recent.extend(self.experience.play_step(self.step))
                    self.environment_steps += training.environments
                on_progress(self.progress())
        on_progress(self.progress())

    def progress(self) -> Progress:
        """Where the run stands."""
        return Progress(
            step=self.step,
            steps=self.config.training.steps,
            environment_steps=self.environment_steps,
            recent_return=float(np.mean(self.recent)) if self.recent else None,
            evaluation=self.evaluations[-1]["mean_return"] if self.evaluations else None,
            reanalysed=self.experience.counts.fraction,
            losses=self.last_losses,
        )

    def evaluate(self, episodes: int) -> dict[str, float]:
        """Return of pi^MuZero without root noise, at the temperature of this training step."""
        temperature = self.config.training.temperature(self.step)
        policy = BehaviourPolicy(
            environment=self.environment, model=self.evaluated, config=self.config.search, temperature=temperature
        )
        generator = numpy_generator(self.seed, "evaluation", self.step)
        limit = self.environment.spec.time_limit
        seeds, uniforms = draw_episode_numbers(generator, episodes, limit)
        returns = play_episodes(self.environment, policy, seeds=seeds, uniforms=uniforms).returns
        return {
            "step": self.step,
            "environment_steps": self.environment_steps,
            "temperature": temperature,
            "episodes": episodes,
            "mean_return": float(returns.mean()),
            "min_return": float(returns.min()),
        }

    def save(self) -> None:
        """Writes the state to resume from."""
        parts, kept = self.experience.state()
        if self.average is not None:
            parts["average"] = self.average.state()
        arrays = {
            f"{part}/{name}": array
            for part, found in {**parts, "learner": self.learner.state()}.items()
            for name, array in found.items()
        }
        record = {
            "run": self.run_name,
            "seed": self.seed,
            "versions": versions(self.environment.spec.name),
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "environment_steps": self.environment_steps,
            "recent": list(self.recent),
            "evaluations": self.evaluations,
            "last_losses": self.last_losses,
            "beyond_support": self.beyond.state(),
            "experience": kept,
        }
        self.clock.write(self.folder)
        save_resume(
            self.folder,
            step=self.step,
            environment_steps=self.environment_steps,
            arrays=arrays,
            record=record,
        )

    def _resume(self) -> bool:
        loaded = load_resume(self.folder)
        if loaded is None:
            if steps_of(self.folder):
                # Killed between the first checkpoint and the first state: the same bytes are written again.
                first = read_checkpoint(steps_of(self.folder)[0])
                self._refuse_agent(first.run, first.seed)
                self._refuse_other(first.config, first.dataset)
            return False
        arrays, record = loaded
        self._refuse_agent(record.run, record.seed)
        fed = record.experience.get("feed")
        self._refuse_other(of_record(record.config, str(self.folder)), fed if isinstance(fed, dict) else {})
        self._refuse_versions(record.versions)
        try:
            self._restore(arrays, record)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as reason:
            said = one_line(str(reason))[:200]
            raise CheckpointError(
                f"{self.folder} holds a state of training that does not fit ({said}): remove it to start over"
            ) from None
        self.clock.read(self.folder, self.step)
        return True

    def _restore(self, arrays: dict[str, NDArray[Any]], record: StateRecord) -> None:
        """Takes back a state; what does not fit raises whatever the part that it is of does."""

        def part(name: str) -> dict[str, Any]:
            return {key.partition("/")[2]: a for key, a in arrays.items() if key.startswith(f"{name}/")}

        self.step, self.environment_steps = record.step, record.environment_steps
        self.recent = deque(record.recent, maxlen=RECENT)
        self.evaluations = [one.model_dump() for one in record.evaluations]
        self.last_losses = record.last_losses
        if record.last_losses and not {*LOSSES} <= {*record.last_losses}:
            raise ValueError("it does not say all losses")
        self.beyond.restore(record.beyond_support.model_dump())
        parts = {name: part(name) for name in ("play", "replay", "recorded", "target")}
        self.experience.restore(parts, record.experience)
        self.learner.restore(part("learner"))
        if self.average is not None:
            self.average.restore(part("average"))

    def _refuse_agent(self, run: str, seed: int) -> None:
        """What was copied from another agent's folder would go on under the wrong name."""
        if (run, seed) != (self.run_name, self.seed):
            raise UsageError(
                f"{self.folder} holds an agent of run {run}, seed {seed}: give it a folder of that name again, or "
                "remove it"
            )

    def _refuse_versions(self, saved: Mapping[str, str]) -> None:
        """The same bits are promised with the same packages alone."""
        here = versions(self.environment.spec.name)
        unlike = sorted(name for name in {*saved, *here} if saved.get(name) != here.get(name))
        if unlike and not self.any_version:
            then = ", ".join(f"{name} {saved.get(name, 'none')}" for name in unlike)
            now = ", ".join(f"{name} {here.get(name, 'none')}" for name in unlike)
            raise UsageError(
                f"{self.folder} was trained with {then}, and here is {now}: install what it had, or go on all the same "
                "with mzprobe train's --any-version"
            )

    def _refuse_other(self, before: RunConfig, fed: Mapping[str, Any]) -> None:
        """A run may be taken further, and its dataset moved; with another configuration or dataset it never goes on.

        Args:
            before: configuration that it began with.
            fed: the dataset's SHA-256 as `sha256`, where it is known.
        """
        mine, theirs = self.config.model_dump(mode="json"), before.model_dump(mode="json")
        free = {("training", "steps")}
        if self.feed is not None and fed.get("sha256") == self.feed.dataset.sha256:
            free.add(("dataset", "path"))
        differing = [
            f"{section}.{key}"
            for section in mine
            for key in mine[section]
            if (section, key) not in free and theirs[section][key] != mine[section][key]
        ]
        if differing:
            raise UsageError(
                f"{self.folder} holds an agent of another configuration ({', '.join(differing)}): "
                "choose another --name or --out, or remove that folder"
            )
        if self.feed is not None and "sha256" in fed:
            self.feed.refuse_other(fed["sha256"])

    def _network_for(self, user: Literal["play", "reanalyse", "checkpoints"]) -> TrainableNetwork:
        """The averaged weights where they are used, else the latest."""
        averaged = self.average is not None and user in self.config.training.averaged
        return self.average.network if self.average is not None and averaged else self.network

    def _experience(self) -> Experience:
        config, seed = self.config, self.seed
        spec = self.environment.spec
        replay = partial(
            Replay, observation_shape=spec.observation_shape, num_actions=spec.num_actions, gamma=spec.gamma
        )
        if config.dataset.path is not None:
            from mzprobe.datasets import open_dataset  # an extra, needed only here

            self.feed = Feed(
                open_dataset(config.dataset.path, spec),
                # A ring, also where the best are kept: the feed chooses those.
                replay(config.training.model_copy(update={"keep_best": None})),
                seed=seed,
                best=config.training.keep_best if config.offline else None,
            )
            if config.offline:
                return Offline(config, reanalyser=self.reanalyser, seed=seed, clock=self.clock, feed=self.feed)
        return Online(
            config,
            self.environment,
            model=self.model,
            replay=replay(config.training),
            reanalyser=self.reanalyser,
            seed=seed,
            clock=self.clock,
            demonstrations=self.feed,
        )

    def _train_step(self) -> None:
        drawn, batch = self.experience.sample(self.step)
        with self.clock.part("learn"):
            losses, root_values = self.learner.step(batch, self.step)
        if not all(map(math.isfinite, losses.values())):
            said = ", ".join(f"{name} {value}" for name, value in losses.items())
            raise TrainingDiverged(
                f"training step {self.step + 1} gave a number that is not finite ({said}): the last checkpoint is "
                "intact; lower training.learning_rate or training.gradient_clip and train again under another --name"
            )
        prioritise(drawn, np.abs(root_values - batch.values[0]))
        self.beyond.add(batch)
        self.step += 1
        self.last_losses = losses
        if self.average is not None:
            self.average.update(self.step)

    def _reach(self) -> Reach | None:
        """What the warm-up lets expect of an environment that no shipped preset was made for."""
        foreign = ":" in self.config.environment.name
        return reach(self.experience.replay, self.environment.spec) if foreign else None

    def _at_step(self) -> None:
        """Evaluates, writes the checkpoint and saves the state, whichever are due."""
        training = self.config.training
        self.reanalyser.at_step(self.step)
        # An evaluation plays, and offline the environment is never stepped.
        if training.evaluation_episodes and self.step % training.evaluation_interval == 0 and not self.config.offline:
            with self.clock.part("evaluate"):
                self.evaluations.append(self.evaluate(training.evaluation_episodes))
        if training.is_checkpoint(self.step):
            self._write_checkpoint()
        if self.step % training.resume_interval == 0 or training.is_checkpoint(self.step):
            self.save()

    def _write_checkpoint(self) -> None:
        counts = vars(self.experience.counts)
        self.clock.mark(training_step=self.step, environment_steps=self.environment_steps, **counts)
        network = self._network_for("checkpoints")
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise TrainingDiverged(
                f"the weights are not finite at training step {self.step}: the last checkpoint is intact; "
                "lower training.learning_rate and train again under another --name"
            )
        write_checkpoint(
            self.folder,
            run=self.run_name,
            seed=self.seed,
            training_step=self.step,
            environment_steps=self.environment_steps,
            config=self.config,
            environment=self.environment,
            metrics={
                "evaluations": self.evaluations,
                "recent_return": float(np.mean(self.recent)) if self.recent else None,
                "losses": self.last_losses,
                "targets": vars(self.experience.counts),
                "beyond_support": self.beyond.record(),
                **({} if self.feed is None else {"dataset": self.feed.record()}),
            },
            command=self.command,
            weights=weights,
            targets=self.experience.stored_targets(self.step),
            device=str(self.learner.device),
        )
