"""Checkpoints of mujax (okayapinar), Gumbel MuZero on mctx: a run's folder with `best` and `latest`.

Formulas are those of its `algorithms/muzero.py` and `algorithms/gmz.py`. Settings lie beside the weights of `best`, as
JSON; `latest`, which has none, is of the same run.
"""

import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mzprobe.config import MOST
from mzprobe.errors import CheckpointError
from mzprobe.files import read_bytes
from mzprobe.names import GYM
from mzprobe.networks.normed import NormedChain, NormedFullyConnected
from mzprobe.networks.support import SymlogSupport
from mzprobe.sources.archives import arrays_of
from mzprobe.sources.foreign import DISPERSED, Described, chain_of, count, facts_of
from mzprobe.sources.orbax import digest, read_arrays
from mzprobe.sources.pickles import damaged

_BEST, _LATEST = "best", "latest"
_SAID, _ARRAYS = "metadata.json", "pytree"
_LARGEST = 1 << 20  # bytes of metadata; its own have about a thousand
_NAME = re.compile(r"(?:params\.)?((?:representation|dynamics|prediction)\..+?)(?:\.value)?")
_CHAINS = {
    "representation": "representation.net.head",
    "dynamics": "dynamics.embedding.head",
    "reward": "dynamics.reward",
    "policy": "prediction.policy",
    "value": "prediction.value",
}
_GAMES: dict[str, dict[str, Any]] = {  # time limits are Gymnasium's
    "CartPole-v0": {"name": "cartpole", "options": {"time_limit": 200}},
    "CartPole-v1": {"name": "cartpole", "options": {"time_limit": 500}},
    "LunarLander-v2": {"name": "lunarlander", "options": {"time_limit": 1000}},
    "LunarLander-v3": {"name": "lunarlander", "options": {"time_limit": 1000}},
}


@dataclass(frozen=True)
class Saved:
    """A checkpoint before its weights are read: its metadata, and the folder of its arrays."""

    metadata: dict[str, Any]
    folder: Path

    def weights(self) -> dict[str, NDArray[Any]]:
        """Reads the network's arrays by their names in `best`, without the optimiser's."""

        def named(name: str) -> str | None:
            matched = _NAME.fullmatch(name)
            return matched and matched[1]

        return read_arrays(self.folder, named=named)


class RunFolders:
    """Layout of a run's folder, or of one checkpoint's folder in it."""

    def found(self, path: Path) -> list[Path]:
        """See `Layout.found`; only the best one if the latest is of the same step."""
        if _is_saved(path):
            return [path]
        both = [path / name for name in (_BEST, _LATEST) if _is_saved(path / name)]
        with suppress(CheckpointError):
            steps = [_said(one).get("step") for one in both]
            if len(steps) == 2 and steps[0] == steps[1]:
                return both[:1]
        return both

    def read(self, checkpoint: Path) -> Saved:
        """See `Layout.read`; `latest` takes its settings from `best`."""
        said = _said(checkpoint)
        if "algo" not in said and checkpoint.absolute().name == _LATEST:
            run = _said(checkpoint.absolute().parent / _BEST)
            said = {**{key: value for key, value in run.items() if key != "score"}, **said}
        return Saved(said, checkpoint / _ARRAYS)

    def digest(self, checkpoint: Path) -> str:
        """See `Layout.digest`."""
        return digest(checkpoint / _ARRAYS)

    def agent_of(self, checkpoint: Path, step: int | None) -> str:  # noqa: ARG002
        """See `Layout.agent_of`; the name of the run's folder."""
        place = checkpoint.absolute()
        return (place.parent if place.name in (_BEST, _LATEST) else place).name


@dataclass(frozen=True)
class Mujax:
    """Adapter for checkpoints of mujax."""

    name: str = "mujax"
    of: str = "mujax"
    verified: str = "its gmz.py (0.1.3) in double precision, and with its search at 300 positions"

    def recognises(self, tree: Any) -> bool:
        """See `Adapter.recognises`."""
        said = tree.metadata if isinstance(tree, Saved) else {}
        return said.get("algo") in ("gmz", "smz") and isinstance(said.get("config"), dict)

    def describe(self, tree: Saved, *, source: object) -> Described:
        """See `Adapter.describe`; actors scale Gumbel noise by `gumbel_scale`, which samples at that temperature."""
        said, config = tree.metadata, tree.metadata["config"]
        if said["algo"] != "gmz":
            raise CheckpointError(f"{source} is of Stochastic MuZero, whose model draws lots: give one of mujax's gmz")
        score = said.get("score")
        environment, differences = _environment(said, 1 - 1 / _number(config, "effective_horizon", 1, math.inf, source))
        facts = {
            "environment": environment,
            "search": {
                "rule": "gumbel",
                "simulations": config.get("num_simulations"),
                "considered": config.get("max_num_considered_actions"),
                "c_visit": config.get("maxvisit_init"),
                "c_scale": config.get("value_scale"),
                "normalisation_floor": 1e-8,
                "ties": "lowest",
            },
            "temperature": config.get("gumbel_scale"),
            "unroll": config.get("num_unroll_steps"),
            "training_step": count(said, "step", source=source),
        }
        if config.get("max_depth") is not None:
            depth = _number(config, "max_depth", 1, MOST, source)
            differences = (*differences, f"its search went no deeper than {depth:g}, this one has no limit")
        limited = ("environment.options.time_limit",) if "time_limit" in environment["options"] else ()
        return Described(
            facts=facts_of(facts, source=source),
            sources={
                **dict.fromkeys(limited, "Gymnasium"),
                **dict.fromkeys(("search.normalisation_floor", "search.ties"), "mctx"),
            },
            differences=differences,
            returned=score if isinstance(score, float) and math.isfinite(score) else None,
            returned_where="a moving average of its evaluations, by its metadata",
        )

    def network(self, tree: Saved, *, source: object) -> NormedFullyConnected:
        """See `Adapter.network`."""
        config = tree.metadata["config"]
        weights = arrays_of(tree.weights(), source=source, what="weights")
        chains = {part: _chain(weights, f"{prefix}.layers.layers", source) for part, prefix in _CHAINS.items()}
        low, high = (_number(config, f"support_{end}", -1e3, 1e3, source) for end in ("min", "max"))
        atoms = {len(chains[part].layers[-1][1]) for part in ("reward", "value")}
        if [*atoms] != [config.get("num_bins")] or not low < high or min(atoms) < 2:
            raise CheckpointError(f"{source} has heads of another size than its support: give another checkpoint")
        support = SymlogSupport(minimum=low, maximum=high, atoms=min(atoms))
        return NormedFullyConnected(chains, support=support, uniform=_number(config, "policy_unimix", 0, 1, source))


def _is_saved(path: Path) -> bool:
    with suppress(OSError):
        return (path / _SAID).is_file() and (path / _ARRAYS).is_dir()
    return False


def _said(checkpoint: Path) -> dict[str, Any]:
    """Reads a checkpoint's metadata."""
    file = checkpoint / _SAID
    data = read_bytes(file, error=CheckpointError, remedy="give the folder of a checkpoint")
    try:
        found = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(file, "it is no JSON of a checkpoint")
    return found


def _environment(said: dict[str, Any], gamma: float) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns its environment, by the name that its command line keeps, and how ours differs."""
    extra = said.get("extra")
    named = extra.get("env_id") if isinstance(extra, dict) else None
    if not isinstance(named, str):
        return {"name": "", "options": {"gamma": gamma}}, ()
    known = _GAMES.get(named, {"name": f"{GYM}{named}", "options": {}})
    return (
        {"name": known["name"], "options": {"gamma": gamma, **known["options"]}},
        (DISPERSED,) if known["name"] == "lunarlander" else (),
    )


def _number(config: dict[str, Any], key: str, low: float, high: float, source: object) -> float:
    value = config.get(key)
    with suppress(OverflowError):  # from an integer that is too large for a float
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= float(value) <= high:
            return float(value)
    raise CheckpointError(f"{source} has invalid settings ({key}): give another checkpoint")


def _chain(weights: dict[str, NDArray[Any]], prefix: str, source: object) -> NormedChain:
    """Returns a chain of linear, norm and SiLU, three places each in the `Sequential`, and a last linear layer."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d{{1,4}})\.kernel")
    last = max((int(matched[1]) for matched in map(pattern.fullmatch, weights) if matched), default=-1)
    names = [f"{prefix}.{place}" for place in range(0, last + 1, 3)]
    named = {key.replace(".kernel", ".weight"): array.T for key, array in weights.items()}
    layers = chain_of(named, *names, source=source)
    norms = []
    for place, (_, bias) in zip(range(1, last, 3), layers, strict=False):
        pair = [weights.get(f"{prefix}.{place}.{part}") for part in ("scale", "bias")]
        if any(one is None or one.shape != bias.shape for one in pair):
            raise CheckpointError(f"{source} has no norm {prefix}.{place}: it is of another network than this source's")
        norms.append(tuple(torch.from_numpy(np.array(one, np.float32)) for one in pair))
    return NormedChain(layers, [(scale, bias) for scale, bias in norms])
