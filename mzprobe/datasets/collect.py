"""Collects a dataset: an agent, its policy network alone, or random play acts in episodes that are recorded."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe import envs
from mzprobe.behaviour import Policy, RandomPolicy, draw_episode_numbers, play_episodes, steps_of_episodes
from mzprobe.checkpoints import Checkpoint, agents_at, read_checkpoint, steps_of
from mzprobe.compute import Compute
from mzprobe.config import load_preset
from mzprobe.datasets.core import Float64, Int64, Recorded
from mzprobe.datasets.layout import RECORD, require_minari
from mzprobe.datasets.reading import open_dataset
from mzprobe.datasets.writing import DatasetWriter, new_dataset, refuse_existing
from mzprobe.envs import Environment
from mzprobe.errors import UsageError
from mzprobe.files import canonical_json, read_object
from mzprobe.lines import unsayable
from mzprobe.locks import held, tidy
from mzprobe.records.versions import versions
from mzprobe.seeding import numpy_generator
from mzprobe.settings import PolicyName
from mzprobe.sources.own import load_agent
from mzprobe.system.threads import limited_threads

SIDE_BY_SIDE = 64  # episodes played and held in memory at a time


@dataclass(frozen=True, kw_only=True)
class Player:
    """A policy, and the environment that it plays in."""

    environment: Environment
    policy: Policy
    name: PolicyName
    temperature: float | None  # T of the policy; None for random play
    checkpoint: Checkpoint | None  # checkpoint of the agent; None for random play

    @property
    def algorithm(self) -> str:
        """Name of the policy in a few words, for people."""
        if self.checkpoint is None:
            return "random policy"
        what = "MuZero" if self.name == "behaviour" else "MuZero, policy network alone"
        return f"{what}, T = {self.temperature:g}"

    @property
    def seed(self) -> int:
        """Seed of the agent; 0 at random, so that random play is the same however its environment was named."""
        return 0 if self.checkpoint is None else self.checkpoint.seed


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Summary of a dataset that was written."""

    path: Path
    steps: int
    returns: Float64  # [episodes], undiscounted, environment units
    before: bool = False  # whether an earlier, identical request wrote it


def load_player(
    source: str,
    name: PolicyName,
    *,
    temperature: float | None = None,
    device: str = "cpu",
    allow: Sequence[str] = (),
) -> Player:
    """Loads the policy that is to play, with its environment.

    Args:
        source: folder of a checkpoint; at random also a preset, whose environment is played.
        name: `behaviour` acts by search, `prior` by the policy network alone, `random` uniformly.
        temperature: T; by default the checkpoint's own for `behaviour`, and 1 for `prior`.
        device: device of the network.
        allow: modules whose code the source may name.

    Raises:
        UsageError: if the temperature or the source does not fit the policy, or code is not allowed.
        CheckpointError: if the checkpoint cannot be read.
    """
    if temperature is not None and (name == "random" or not (isfinite(temperature) and temperature >= 0)):
        said = "policy random has none" if name == "random" else f"it must be 0 or a positive number, not {temperature}"
        raise UsageError(f"--temperature cannot be used so: {said}")
    if name == "random":
        environment = _environment_of(source, allow)
        policy = RandomPolicy(environment=environment)
        return Player(environment=environment, policy=policy, name=name, temperature=None, checkpoint=None)
    if not Path(source).exists():
        raise UsageError(
            f"{source} does not exist: give the folder of a checkpoint, such as "
            "checkpoints/cartpole/seed-0/step-0001000, or a preset and --policy random"
        )
    own = steps_of(Path(source)) or [step for agent in agents_at(Path(source)) for step in steps_of(agent)]
    if own:
        raise UsageError(f"{source} holds {len(own)} checkpoints: give one of them, such as {own[-1]}")
    checkpoint = read_checkpoint(Path(source), allow=allow)
    agent = load_agent(checkpoint, compute=Compute(device=device))
    if name == "behaviour":
        T = agent.policy.temperature if temperature is None else temperature
        chosen: Policy = replace(agent.policy, temperature=T)
    else:
        T = 1.0 if temperature is None else temperature
        chosen = replace(agent.prior, temperature=T)
    return Player(environment=agent.environment, policy=chosen, name=name, temperature=T, checkpoint=checkpoint)


def check_request(path: Path, *, episodes: int | None, steps: int | None, command: str) -> None:
    """Refuses what `collect` would refuse, before an agent is loaded for it.

    Raises:
        UsageError: if something is at `path` that another command made, no dataset can have that name, not exactly one
            of `episodes` and `steps` is given, `command` cannot be recorded, or Minari is not installed.
    """
    if (episodes is None) == (steps is None):
        raise UsageError("give how many --episodes to record, or how many --steps, and not both")
    if read_object(path / RECORD).get("command") != command:
        refuse_existing(path)
    if unsayable(command):
        raise UsageError(f"{command!r} cannot be kept in a record: use names of letters that can be printed")
    require_minari()


def collect(
    player: Player,
    path: Path,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    command: str = "mzprobe collect",
    side_by_side: int = SIDE_BY_SIDE,
    on_progress: Callable[[int, int], None] = lambda _episodes, _steps: None,
) -> Collected:
    """Plays whole episodes and writes them; the dataset appears at `path` when it is complete.

    If an identical request has already written it, it is verified and left as it is. An episode depends on the player,
    the seed and its own number alone, not on which episodes are played side by side.

    Args:
        player: policy and environment.
        path: folder of the dataset; nothing else may be there.
        episodes: number of episodes to play.
        steps: instead of `episodes`, the number of steps to reach; the last episode is played to its end.
        seed: seed of the starts and of the actions.
        command: command line, for the record.
        side_by_side: number of episodes played and held in memory at a time.
        on_progress: called with the episodes and steps written so far.

    Raises:
        UsageError: if something else is at `path`, or not exactly one of `episodes` and `steps` is given.
        InUse: if another command is writing there.
        DatasetError: if what an identical request wrote is damaged.
        MzprobeError: if the environment returns what cannot be recorded, or the disk is full.
    """
    check_request(path, episodes=episodes, steps=steps, command=command)
    checkpoint = player.checkpoint
    threads = 1 if checkpoint is None else checkpoint.config.training.threads
    record = {"command": command, **made_by(player, seed=seed)}
    asked: dict[str, Any] = {"episodes": episodes, "steps": steps, "seed": seed, "command": command}
    there = collected_before(player, path, **asked)
    if there is not None:
        return there
    with ExitStack() as stack:
        stack.enter_context(held(path))
        there = collected_before(player, path, **asked)  # another command may have written it meanwhile
        if there is not None:
            return there
        stack.enter_context(limited_threads(threads))
        spec, by = player.environment.spec, player.algorithm
        writer = stack.enter_context(new_dataset(path, spec, algorithm=by, record=record, locked=True))
        while len(writer.returns) < episodes if episodes is not None else writer.steps < (steps or 0):
            first = len(writer.returns)
            left = episodes - first if episodes is not None else _expected(writer, steps or 0)
            seeds, uniforms = _numbers(player, seed, first, min(side_by_side, left))
            played = record_episodes(player.environment, player.policy, seeds=seeds, uniforms=uniforms)
            if steps is not None:
                before = writer.steps + np.cumsum([0, *(len(episode.actions) for episode in played[:-1])])
                played = played[: int((before < steps).sum())]
            writer.append(played, seeds=seeds[: len(played)])
            on_progress(len(writer.returns), writer.steps)
    return Collected(path=path, steps=writer.steps, returns=np.array(writer.returns))


def collected_before(
    player: Player, path: Path, *, episodes: int | None, steps: int | None, seed: int, command: str
) -> Collected | None:
    """Verifies what is at `path`, if `collect` would write the same bytes there, as after a kill at its very end.

    What the killed command left beside it is removed. Arguments are those of `collect`.

    Returns:
        Its summary, or None if nothing is there.

    Raises:
        UsageError: if `collect` would write other bytes.
        DatasetError: if what is there is damaged.
    """
    if not path.exists():
        return None
    spec = player.environment.spec
    wanted = {
        "command": command,
        **made_by(player, seed=seed),
        "environment": asdict(spec),
        "versions": versions(spec.name),
    }
    found = read_object(path / RECORD)
    if {key: found.get(key) for key in wanted} != json.loads(canonical_json(wanted)):
        refuse_existing(path)
    dataset = open_dataset(str(path), spec)
    ends = np.cumsum([0, *dataset.lengths])
    if len(dataset) != episodes if steps is None else not ends[-2] < steps <= ends[-1]:
        refuse_existing(path)
    tidy(path)
    return Collected(path=path, steps=int(ends[-1]), returns=dataset.returns, before=True)


def mean_return(player: Player, *, episodes: int, seed: int = 0) -> float:
    """Returns the mean undiscounted return of the episodes that `collect` would write with the same arguments."""
    checkpoint = player.checkpoint
    returns: list[float] = []
    with limited_threads(1 if checkpoint is None else checkpoint.config.training.threads):
        while len(returns) < episodes:
            seeds, uniforms = _numbers(player, seed, len(returns), min(SIDE_BY_SIDE, episodes - len(returns)))
            played = play_episodes(player.environment, player.policy, seeds=seeds, uniforms=uniforms)
            returns += played.returns.tolist()
    return float(np.mean(returns))


def made_by(player: Player, *, seed: int) -> dict[str, Any]:
    """Returns what made the episodes of a dataset, as JSON."""
    checkpoint = player.checkpoint
    made: dict[str, Any] = {"seed": seed, "policy": player.name, "temperature": player.temperature}
    if checkpoint is not None:
        made["checkpoint"] = {
            "run": checkpoint.run,
            "seed": checkpoint.seed,
            "training_step": checkpoint.training_step,
            "weights_sha256": checkpoint.weights_sha256,
            "search": checkpoint.config.search.model_dump(mode="json"),
        }
    return made


def _expected(writer: DatasetWriter, steps: int) -> int:
    """Estimates how many episodes are missing to reach `steps`; at first, takes all to last to the time limit."""
    length = writer.steps / len(writer.returns) if writer.returns else writer.spec.time_limit
    return ceil((steps - writer.steps) / length)


def record_episodes(environment: Environment, policy: Policy, *, seeds: Int64, uniforms: Float64) -> list[Recorded]:
    """Plays one episode per seed as `behaviour.play_episodes` does, and keeps observations, actions and rewards.

    Args:
        environment: environment to play in.
        policy: policy that acts.
        seeds: `[E]`, seeds of the starts.
        uniforms: `[E, time limit]` numbers in [0, 1), one per action.
    """
    E, starts = len(seeds), environment.reset(seeds)
    terminated = np.zeros(E, np.bool_)
    seen, seen_by = [environment.observe(starts)], [np.arange(E)]  # by time step, with the episodes' indices
    acted: list[Int64] = []
    rewarded: list[Float64] = []
    acted_by: list[Int64] = []
    for step in steps_of_episodes(environment, policy, starts, uniforms[:, : environment.spec.time_limit]):
        acted.append(step.actions)
        rewarded.append(step.outcome.reward)
        acted_by.append(step.alive)
        seen.append(environment.observe(step.following))
        seen_by.append(step.alive)
        terminated[step.alive] = step.outcome.terminated
    columns = (_by_episode(seen, seen_by), _by_episode(acted, acted_by), _by_episode(rewarded, acted_by))
    return [
        Recorded(observations=observations, actions=actions, rewards=rewards, terminated=bool(ended))
        for observations, actions, rewards, ended in zip(*columns, terminated, strict=True)
    ]


def _by_episode(rows: Sequence[NDArray[Any]], whose: Sequence[Int64]) -> list[NDArray[Any]]:
    """Splits rows, which are in order of time, by the episode that they belong to."""
    owners = np.concatenate(whose)
    order = np.argsort(owners, kind="stable")
    return np.split(np.concatenate(rows)[order], np.cumsum(np.bincount(owners))[:-1])


def _numbers(player: Player, seed: int, first: int, count: int) -> tuple[Int64, Float64]:
    """Draws start seeds `[count]` and action numbers `[count, time limit]`, each episode's from its own generator."""
    limit = player.environment.spec.time_limit
    drawn = [
        draw_episode_numbers(numpy_generator(player.seed, "collect", seed, episode), 1, limit)
        for episode in range(first, first + count)
    ]
    seeds, uniforms = zip(*drawn, strict=True)
    return np.concatenate(seeds), np.concatenate(uniforms)


def _environment_of(source: str, allow: Sequence[str]) -> Environment:
    """Makes the environment of a checkpoint or of a preset."""
    if Path(source).is_dir():
        return read_checkpoint(Path(source), allow=allow).make_environment()
    if Path(source).name != source and not source.endswith(".toml"):
        raise UsageError(f"{source} does not exist: give the folder of a checkpoint, or a preset such as cartpole")
    config = load_preset(source, allow=allow).environment
    return envs.make(config.name, **config.options)
