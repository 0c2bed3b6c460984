"""Averaged weights, evaluations and checkpoints of an agent in training."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mzprobe.behaviour import BehaviourPolicy, draw_episode_numbers, play_episodes
from mzprobe.checkpoints import write_checkpoint
from mzprobe.compute import Compute
from mzprobe.config import RunConfig
from mzprobe.envs.core import Environment
from mzprobe.errors import TrainingDiverged
from mzprobe.networks import TrainableNetwork
from mzprobe.records.stored import StoredTargets
from mzprobe.search.models import PlanningModel, planning_in
from mzprobe.seeding import numpy_generator
from mzprobe.training.averaging import WeightAverage

User = Literal["play", "reanalyse", "checkpoints"]


class Snapshots:
    """Weights for self-play, reanalyse and checkpoints, averaged or the latest, and evaluations of them.

    Args:
        config: configuration of the run.
        environment: environment of evaluations.
        network: network that is trained.
        seed: seed of the agent.
        compute: how the network runs.
    """

    def __init__(
        self, config: RunConfig, environment: Environment, network: TrainableNetwork, *, seed: int, compute: Compute
    ) -> None:
        self.config = config
        self.environment = environment
        self.network = network
        self.seed = seed
        self.compute = compute
        decay = config.training.average_decay
        self.average = WeightAverage(network, decay=decay) if decay else None
        self.evaluations: list[dict[str, float]] = []

    def network_for(self, user: User) -> TrainableNetwork:
        """Returns the averaged network, if there is one and `training.averaged` lists the use; else the trained one."""
        averaged = self.average is not None and user in self.config.training.averaged
        return self.average.network if self.average is not None and averaged else self.network

    def model_for(self, user: User) -> PlanningModel:
        """Returns a model to search in with that network: the learned model, or the environment itself."""
        plan_in = self.config.training.plan_in
        return planning_in(plan_in, self.environment, self.network_for(user), compute=self.compute)

    def follow(self, step: int) -> None:
        """Updates the average with the weights after training step `step`."""
        if self.average is not None:
            self.average.update(step)

    def evaluate(self, step: int, environment_steps: int) -> None:
        """Evaluates the behaviour policy without root noise at this step's temperature, and records the returns."""
        training = self.config.training
        episodes, temperature = training.evaluation_episodes, training.temperature(step)
        policy = BehaviourPolicy(
            environment=self.environment,
            model=self.model_for("checkpoints"),
            config=self.config.search,
            temperature=temperature,
        )
        generator = numpy_generator(self.seed, "evaluation", step)
        seeds, uniforms = draw_episode_numbers(generator, episodes, self.environment.spec.time_limit)
        returns = play_episodes(self.environment, policy, seeds=seeds, uniforms=uniforms).returns
        self.evaluations.append(
            {
                "step": step,
                "environment_steps": environment_steps,
                "temperature": temperature,
                "episodes": episodes,
                "mean_return": float(returns.mean()),
                "min_return": float(returns.min()),
            }
        )

    def write(
        self,
        folder: Path,
        *,
        run: str,
        step: int,
        environment_steps: int,
        metrics: dict[str, Any],
        command: str,
        targets: StoredTargets | None,
    ) -> None:
        """Writes a checkpoint into an agent's folder.

        Raises:
            TrainingDiverged: if a weight is not finite.
        """
        network = self.network_for("checkpoints")
        weights = network.weight_arrays()
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise TrainingDiverged(
                f"the weights are not finite at training step {step}: the last checkpoint is intact; "
                "lower training.learning_rate and train another run"
            )
        write_checkpoint(
            folder,
            run=run,
            seed=self.seed,
            training_step=step,
            environment_steps=environment_steps,
            config=self.config,
            environment=self.environment,
            metrics={"evaluations": self.evaluations, **metrics},
            command=command,
            weights=weights,
            targets=targets,
            device=self.compute.device,
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns the averaged weights, as arrays; none if nothing is averaged."""
        return {} if self.average is None else self.average.state()

    def restore(self, arrays: dict[str, NDArray[Any]], evaluations: list[dict[str, float]]) -> None:
        """Restores the result of `state` and the evaluations so far."""
        self.evaluations = evaluations
        if self.average is not None:
            self.average.restore(arrays)
