"""Spoilt checkpoints of other code: each is an agent that can be asked, or refused in one sentence; nothing of it runs.

They have no seal: a number that was changed may be believed. `MZPROBE_FOREIGN` is a folder of further files, such as
published ones, which are spoilt too.
"""

import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import foreign_composed
import foreign_networks
import mujax_checkpoints
import numpy as np
import pytest
import torch
from spoiling import BYTES, changed, inputs, is_a_sentence, swapped, tried

from mzprobe.envs import ArrayStates, Outcome
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import MzprobeError
from mzprobe.networks.engine import engine_for
from mzprobe.sources import find_source, open_agent
from mzprobe.sources.archives import read_archive
from mzprobe.sources.looking import described
from mzprobe.sources.pickles import Inert

RUN = []  # what a malicious file would have called
KNOWN = [*foreign_networks.OBSERVED, "legacy", "mujax", "lightzero-0.0"]  # layouts that one environment fits
THEIRS = sorted(path for path in Path(os.environ.get("MZPROBE_FOREIGN", "/nowhere")).glob("*/*") if path.is_file())
KINDS = list(dict.fromkeys([*KNOWN, *foreign_composed.SOURCES, *(path.name for path in THEIRS)]))
FAST = ("muzero-general", "mujax")
# How many of the inputs a kind gets, of as many as there are kinds: networks of images take a second each.
_SHARE = 0.5  # of all inputs; the other half are of other files
SHARES = {kind: 0.1 if len(foreign_composed.SHAPES.get(kind, [()])[0]) == 3 else 1.0 for kind in KINDS}


@dataclass(frozen=True)
class Moments(ArrayStates):
    """Steps gone."""

    gone: np.ndarray


@dataclass(frozen=True)
class Planes:
    """An environment that shows zeros of any shape."""

    shape: tuple[int, ...]
    actions: int

    @property
    def spec(self):
        meanings = tuple(map(str, range(self.actions)))
        return EnvironmentSpec(
            name="planes",
            observation_shape=tuple(self.shape),
            num_actions=self.actions,
            gamma=0.997,
            time_limit=10,
            action_meanings=meanings,
            source="nothing",
        )

    def reset(self, seeds):
        return Moments(np.zeros(len(seeds), np.int64))

    def observe(self, states):
        return np.zeros((len(states), *self.shape), np.float32)

    def terminal(self, states):
        return np.zeros(len(states), np.bool_)

    def step(self, states, actions):
        return Moments(states.gone + 1), Outcome(np.zeros(len(actions)), self.terminal(states))


def called(*arguments):
    RUN.append(arguments)


# What is done to a file


def pickled(generator, path, spoil):
    """Changes the pickle of a zip, and leaves the zip whole."""
    if not zipfile.is_zipfile(path):
        path.write_bytes(spoil(generator, path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, spoil(generator, data) if name.endswith("/data.pkl") else data)


def inner(generator, path):
    """A few bytes of the pickle, or a number in it."""

    def spoil(generator, data):
        piece = path.with_name("piece")
        piece.write_bytes(data)
        BYTES[generator.integers(6)](generator, [piece])  # of those that leave a file
        return piece.read_bytes()

    pickled(generator, path, spoil)


def malicious(generator, path):
    """Calls before, and goes on as if nothing were."""
    reduce = b"ctest_fuzz_foreign\ncalled\n)R0"
    build = b"ctest_fuzz_foreign\ncalled\n)\x81}b0"
    call = (reduce, build)[generator.integers(2)]
    pickled(generator, path, lambda _, data: data[:2] + call + data[2:])


def edited(generator, path):
    """Another value somewhere in the tree, saved as torch does."""
    if path.is_dir():
        said = path / "metadata.json"
        said.write_text(json.dumps(changed(generator, json.loads(said.read_text()))))
    else:
        torch.save(as_saved(other(generator, read_archive(path))), path)


def other(generator, value):
    """A tree with something changed or gone; more often near its top."""
    if isinstance(value, Inert):
        fields = other(generator, dict(value.fields))
        if isinstance(fields, dict):
            value.fields.clear()
            value.fields.update(fields)
        return value
    if isinstance(value, np.ndarray):
        return other_array(generator, value)
    if not isinstance(value, dict) or not value or generator.random() < 0.05:
        return changed(generator, value)
    key = list(value)[generator.integers(len(value))]
    if generator.random() < 0.15:
        del value[key]
    else:
        value[key] = other(generator, value[key])
    return value


def other_array(generator, array):
    flat = array.reshape(-1)
    rows = [array[:-1], np.repeat(array, 2, axis=0)] if array.ndim else [flat]
    made = [*rows, array.T, flat, array[None], array * np.nan]
    made += [array.astype(np.float64), array.astype(np.int64), array * 1e30, np.zeros_like(array), 3, "x", None]
    return made[generator.integers(len(made))]


def as_saved(value):
    """The tree with tensors and objects, as the original code saves it."""
    if isinstance(value, dict):
        return {key: as_saved(one) for key, one in value.items()}
    if isinstance(value, Inert):
        return foreign_networks.Config(**{str(key): as_saved(one) for key, one in value.fields.items()})
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


CHANGES = (*BYTES, inner, inner, edited, edited, edited, malicious, mislabelled := "mislabelled")
OF_FOLDERS = (*BYTES, edited, edited)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A checkpoint of each kind."""
    root = tmp_path_factory.mktemp("foreign")
    found = {name: foreign_networks.write(root / name, name) for name in foreign_networks.OBSERVED}
    found["legacy"] = root / "legacy"
    tree = torch.load(found["muzero-general"], weights_only=False)
    torch.save(tree, found["legacy"], _use_new_zipfile_serialization=False)
    for layout in foreign_composed.SOURCES:
        found[layout] = foreign_networks.save(root / f"{layout}-5.pth.tar", foreign_composed.tree(layout))
    return {**found, **{path.name: path for path in THEIRS}}


def asked(path, kind, source):
    """Reads a checkpoint and asks its network once."""
    given = []
    if kind in foreign_composed.SOURCES:
        shape, actions = foreign_composed.SHAPES[kind]
        options = json.dumps({"shape": shape, "actions": actions})
        given = [f"environment.name={Planes.__module__}:Planes", f"environment.options={options}", "temperature=1"]
    agent = open_agent(path, source=source, given=given)
    assert list(described(agent))
    engine, states = engine_for(agent.network, agent.compute), agent.environment.reset([0, 1])
    z, _ = engine.dynamics(engine.represent(agent.environment.observe(states)), np.zeros(2, np.int64))
    engine.predict(z)
    return "taken"


def spoil(generator, seed, path, whole, others):
    """Puts a spoilt copy of a checkpoint at a path; gives what was done."""
    if whole.is_dir():
        shutil.copytree(whole, path)
        change = OF_FOLDERS[seed % len(OF_FOLDERS)]
        change(generator, path if change is edited else sorted(file for file in path.rglob("*") if file.is_file()))
        return change.__name__
    change, another = CHANGES[seed % len(CHANGES)], others[generator.integers(len(others))]
    shutil.copyfile(another if change == mislabelled else whole, path)
    if change == mislabelled:
        return mislabelled
    if change is swapped:
        change(generator, [path, shutil.copyfile(another, path.with_name("another"))])
    else:
        change(generator, [path] if change in BYTES else path)
    return change.__name__


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind in FAST else pytest.mark.slow) for kind in KINDS])
def test_a_spoilt_checkpoint_is_refused_or_can_be_asked(originals, tmp_path, kind):
    if kind == "jimohman" or "lunarlander" in kind.lower():
        pytest.importorskip("Box2D")
    if kind == "mujax":
        pytest.importorskip("tensorstore")
        originals = {**originals, kind: mujax_checkpoints.write(tmp_path / "whole" / "best")}
    whole, folder = originals[kind], tmp_path / "spoilt"
    source = foreign_composed.SOURCES.get(kind) or find_source(whole).name
    others = [path for path in originals.values() if path != whole and path.is_file()]
    assert asked(whole, kind, source) == "taken"

    def spoilt(generator, seed):
        folder.mkdir()
        path = folder / whole.name
        what = spoil(generator, seed, path, whole, others)
        try:
            became = asked(path, kind, source if seed % 3 else None)  # of others it is seen whose they are
        except MzprobeError as reason:
            became = is_a_sentence(reason)
        assert not RUN
        shutil.rmtree(folder)
        return what, became

    count = inputs(len(CHANGES), _SHARE * SHARES[kind] / sum(SHARES.values()))
    assert "refused" in tried(kind, max(len(CHANGES), count), spoilt)
