"""Agents that other code trained: a layout knows where their checkpoints lie, and an adapter what is in them.

What a file does not hold, such as the discount, is taken from the configuration that its authors published, and marked
as such. A user who knows better can give it (`--agent KEY=VALUE`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe import envs
from mzprobe.agents import Agent, Origin
from mzprobe.checkpoints import spec_record
from mzprobe.compute import Compute
from mzprobe.config import MOST, Config, EnvironmentConfig, NonNegative, NonNegativeInt, SearchConfig, with_overrides
from mzprobe.envs import Environment
from mzprobe.envs.history import HistoryEnvironment
from mzprobe.errors import CheckFailed, CheckpointError, MzprobeError, UsageError
from mzprobe.names import GYM, check_name
from mzprobe.networks import MuZeroNetwork, check_network
from mzprobe.networks.engine import place_on_device
from mzprobe.networks.fully_connected import Chain
from mzprobe.sources.archives import refuse_cut_off
from mzprobe.sources.core import GIVEN, NAMING
from mzprobe.sources.layouts import ARCHIVES, Layout
from mzprobe.system.threads import limited_threads
from mzprobe.trust import modules_of, refuse_code

_BATCH_SIZE = 256  # rows of a call of a network in a search
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
DISPERSED = "its own lander's engines were dispersed by chance, here they are not"


class Facts(Config):
    """Facts about an agent besides its weights."""

    environment: EnvironmentConfig = EnvironmentConfig(name="")
    """Environment that it is probed in, with discount and time limit among its options; no name if not known."""
    history: NonNegativeInt = 0
    """Number of observations that it sees at a time, each with the action before it; 0 if only the latest."""
    search: SearchConfig = SearchConfig()
    """Settings of its search; it is probed without root noise."""
    temperature: NonNegative | None = None
    """T of pi^MuZero."""
    unroll: NonNegativeInt | None = None
    """K, the number of steps that its model was unrolled in training."""
    training_step: NonNegativeInt | None = None
    """Number of optimiser updates."""
    environment_steps: NonNegativeInt | None = None
    """Number of steps taken in the environment."""
    run: str = ""
    """Name of its run, and of the folder of its tables; if empty, one is made from source and file."""
    seed: NonNegativeInt = 0
    """Number of the agent in its run: files with one run and different seeds are agents of that run."""


class Described(NamedTuple):
    """An agent as its file and its authors describe it."""

    facts: Facts
    sources: dict[str, str]  # source of each fact that is not in the file, by key
    differences: tuple[str, ...] = ()  # differences between how it was trained and `facts`
    returned: float | None = None  # undiscounted return in environment units, as stated by the file or its authors
    returned_where: str = ""  # where that return is stated


class Adapter(Protocol):
    """Understands the checkpoints of one code base by their content: as a rule containers, numbers and arrays."""

    @property
    def name(self) -> str:
        """Name of the source."""
        ...

    @property
    def of(self) -> str:
        """Name of the code base, for people."""
        ...

    @property
    def verified(self) -> str:
        """Reference that its numbers were compared against."""
        ...

    def recognises(self, tree: Any) -> bool:
        """Whether a tree is a checkpoint of this code base."""
        ...

    def describe(self, tree: Any, *, source: object) -> Described:
        """Returns what is known of the agent.

        Raises:
            CheckpointError: if the file is incomplete.
        """
        ...

    def network(self, tree: Any, *, source: object) -> MuZeroNetwork:
        """Returns the network with its weights, in environment units.

        Raises:
            CheckpointError: if the weights are not those of a network that this adapter knows.
        """
        ...


@dataclass(frozen=True)
class FileSource:
    """Source of an adapter's checkpoints: a single one, or a folder with one agent's at several training steps."""

    adapter: Adapter
    given: tuple[str, ...] = ()  # KEY=VALUE, facts from the user, which take precedence
    layout: Layout = ARCHIVES
    allow: tuple[str, ...] = ()  # modules whose code a file, or its adapter, may name

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self.adapter.name

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return bool(self._files(path))

    def agents(self, path: Path) -> list[Path]:
        """See `Source.agents`; there is one agent at a path."""
        if not self._files(path):
            refuse_cut_off(path)
            raise UsageError(f"{path} holds no checkpoint of {self.adapter.of}: give another path, or another --source")
        return [path]

    def checkpoints(self, agent: Path) -> dict[int, Path]:
        """See `Source.checkpoints`.

        Raises:
            UsageError: if a file does not state its training step, or two state the same one.
        """
        found: dict[int, Path] = {}
        for file in self._files(agent):
            step = self.described(file).facts.training_step
            if step is None:
                raise UsageError(f"{file} does not say its training step: give it with --agent training_step=N")
            if step in found:
                raise UsageError(f"{file} and {found[step]} are both of training step {step}: give one of them")
            found[step] = file
        return dict(sorted(found.items()))

    def origin(self, checkpoint: Path) -> Origin:
        """See `Source.origin`."""
        return self._origin(checkpoint, self.described(checkpoint))

    def _origin(self, checkpoint: Path, described: Described) -> Origin:
        facts = described.facts
        by_checkpoint = {"training_step", "environment_steps", "temperature", *NAMING}
        given = [one for one in self.given if one.partition("=")[0] not in NAMING]
        return Origin(
            source=self.name,
            run=facts.run or self._run(checkpoint, facts.training_step),
            seed=facts.seed,
            training_step=facts.training_step,
            environment_steps=facts.environment_steps,
            environment=spec_record(_environment(facts)),
            network=self.name,
            weights_sha256=self.layout.digest(checkpoint),
            config={**facts.model_dump(mode="json", exclude=by_checkpoint), "given": given},
            facts=described.sources,
            returned=described.returned,
            returned_where=described.returned_where,
            differences=described.differences,
        )

    def load(self, checkpoint: Path, *, compute: Compute, allow: Sequence[str] = ()) -> Agent:
        """See `Source.load`; of the code that a file names, only what its user allows or names too is run."""
        tree = self.layout.read(checkpoint)
        described = self._described(tree, checkpoint, allow)
        facts, environment = described.facts, _environment(described.facts)
        try:
            network = self.adapter.network(tree, source=checkpoint)
        except ValueError as reason:  # from an invalid support, such as one of a single atom
            raise CheckpointError(f"{checkpoint} holds no network that can be used: {reason}") from None
        if isinstance(network, torch.nn.Module):
            place_on_device(network.eval().requires_grad_(False), compute)
        with limited_threads(compute.threads):  # for small products, threads cost more than they save
            _refuse_other_shape(network, environment, checkpoint, compute.device)
        fixed = None if getattr(network, "cpu_batch_size", None) else _BATCH_SIZE  # some networks choose their own
        return Agent(
            environment=environment,
            network=network,
            search=facts.search,
            temperature=facts.temperature or 0.0,
            unroll=facts.unroll,
            origin=self._origin(checkpoint, described),
            compute=replace(compute, batch_size=fixed),
        )

    def described(self, checkpoint: Path) -> Described:
        """Returns what is known of a checkpoint's agent; facts that the user gave take precedence.

        Raises:
            MzprobeError: if the file cannot be read, is not one of the adapter's, or lacks a fact that must be known.
        """
        return self._described(self.layout.read(checkpoint), checkpoint)

    def _described(self, tree: Any, checkpoint: Path, allow: Sequence[str] = ()) -> Described:
        if not self.adapter.recognises(tree):
            raise CheckpointError(f"{checkpoint} is no checkpoint of {self.adapter.of}: give another file")
        try:
            described = self.adapter.describe(tree, source=checkpoint)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise CheckpointError(f"{checkpoint} says of its agent what is none: give another file") from None
        facts = with_overrides(described.facts, self.given, option="--agent")
        if facts.run:
            check_name(facts.run, "a run", "give another name with --agent run=NAME")
        refuse_code(facts.model_dump(), allow=[*self.allow, *allow, *_own_word(self.given)], source=checkpoint)
        for key, value in (("environment.name", facts.environment.name), ("temperature", facts.temperature)):
            if value in ("", None):
                raise UsageError(f"{checkpoint} does not say its {key}, nor do its authors: give --agent {key}=VALUE")
        said = {given.partition("=")[0]: GIVEN for given in self.given}
        return described._replace(facts=facts, sources={**described.sources, **said})

    def _files(self, path: Path) -> list[Path]:
        return [file for file in self.layout.found(path) if self._is_one(file)]

    def _is_one(self, file: Path) -> bool:
        try:
            return self.adapter.recognises(self.layout.read(file))
        except (OSError, MzprobeError):
            return False

    def _run(self, checkpoint: Path, step: int | None) -> str:
        """Returns a name for the agent's run, and so for the folder of its tables."""
        return _UNFIT.sub("-", f"{self.name}-{self.layout.agent_of(checkpoint, step)}").strip("-.")


def _own_word(given: Sequence[str]) -> tuple[str, ...]:
    """Returns the modules that a user names in the given facts."""
    return modules_of(with_overrides(Facts(environment=EnvironmentConfig(name=GYM)), given))


def _environment(facts: Facts) -> Environment:
    made = envs.make(facts.environment.name, **facts.environment.options)
    if not facts.history:
        return made
    try:
        return HistoryEnvironment(made, facts.history)
    except ValueError as reason:
        raise UsageError(
            f"{made.spec.name} cannot be shown to an agent that sees several observations at a time: {reason}; name "
            "its environment with --agent environment.name=NAME, or give another --agent history=N"
        ) from None


def _refuse_other_shape(network: MuZeroNetwork, environment: Environment, source: Path, device: str) -> None:
    """Calls a network once, to check that it fits its environment."""
    spec = environment.spec
    try:
        check_network(network, spec, device=device)
    except (CheckFailed, RuntimeError, IndexError) as reason:
        said = f" ({reason})" if isinstance(reason, CheckFailed) else ""
        raise UsageError(
            f"{source} is no network for {spec.name}, which shows {spec.observation_shape} and takes "
            f"{spec.num_actions} actions{said}: name its environment with --agent environment.name=NAME"
        ) from None


def chain_of(weights: dict[str, NDArray[Any]], *names: str, source: object) -> Chain:
    """Returns linear layers by their names, such as `value_net.0`: weight and bias of each.

    Raises:
        CheckpointError: if none is named, one is missing or no layer, or one does not fit the one before it.
    """
    layers = []
    if not names:
        raise CheckpointError(f"{source} lacks layers of its network: it is of another network than this source's")
    for name in names:
        parts = [weights.get(f"{name}.{part}") for part in ("weight", "bias")]
        if parts[0] is None or parts[1] is None or parts[0].ndim != 2 or parts[1].shape != parts[0].shape[:1]:
            raise CheckpointError(f"{source} has no linear layer {name}: it is of another network than this source's")
        layers.append(tuple(torch.from_numpy(np.array(part, np.float32)) for part in parts))
    for (weight, _), (following, _) in pairwise(layers):
        if following.shape[1] != weight.shape[0]:
            raise CheckpointError(f"{source} has layers {', '.join(names)} that do not fit each other")
    return [(weight, bias) for weight, bias in layers]


def facts_of(said: dict[str, Any], *, source: object) -> Facts:
    """Returns the facts that a checkpoint states.

    Raises:
        CheckpointError: if one is not what it should be.
    """
    try:
        return Facts(**said)
    except ValueError:
        raise CheckpointError(f"{source} has invalid settings: give another checkpoint") from None


def count(tree: dict[str, Any], key: str, *, source: object) -> int:
    """Returns a counter in a checkpoint.

    Raises:
        CheckpointError: if it is missing or no count.
    """
    value = tree.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
        raise CheckpointError(f"{source} is damaged or not a checkpoint (its {key} is no count): give another file")
    return value


def layer_names(weights: dict[str, NDArray[Any]], prefix: str) -> list[str]:
    """Returns the names of the layers in a `Sequential`, in order."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d{{1,4}})\.weight")
    found = sorted(int(matched[1]) for matched in map(pattern.fullmatch, weights) if matched)
    return [f"{prefix}.{place}" for place in found]
