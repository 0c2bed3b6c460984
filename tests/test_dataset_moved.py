"""A dataset is what it holds, wherever it lies: runs go on, and tables belong together, by its digest."""

import json
import shutil

import pytest
from agents import forged
from recordings import made, written

from mzprobe.checkpoints import RECORD, read_checkpoint, steps_of
from mzprobe.envs import CartPole
from mzprobe.errors import DatasetError, UsageError
from mzprobe.files import sealed
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, run_probe
from mzprobe.settings import OnlineConfig
from mzprobe.study.timing import write_timing
from mzprobe.tables import differing, read_run, read_table

pytest.importorskip("minari")

SPEC = CartPole().spec  # as the preset has it
LENGTHS = [12, 30, 9, 25, 40]


def dataset(path, *, seed=0):
    return written(path, made(LENGTHS, spec=SPEC, seed=seed), spec=SPEC)


@pytest.fixture
def places(tmp_path):
    """The same episodes in two places, and others in a third one."""
    found = [dataset(tmp_path / name / "a-v0") for name in ("here", "there")]
    return [*found, dataset(tmp_path / "elsewhere" / "a-v0", seed=1)]


KINDS = {
    "offline": ["reanalyse.fraction=1"],
    "cloned": ["reanalyse.fraction=0"],
    "streamed": ["reanalyse.fraction=0", "training.replay_capacity=60", "environment.options.time_limit=50"],
    "demonstrations": ["dataset.use=demonstrations"],
}


@pytest.fixture
def configured(tiny_config):
    """The configuration of a run that learns from a dataset."""

    def make(path, kind, *overrides):
        return tiny_config(f"dataset.path={json.dumps(str(path))}", *KINDS[kind], *overrides)

    return make


def weights(folder):
    return [(read_checkpoint(step).training_step, read_checkpoint(step).weights_sha256) for step in steps_of(folder)]


# Resuming


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_to_the_same_weights_with_a_dataset_that_was_moved(
    tmp_path, places, configured, make_trainer, kind
):
    here, there, _ = places
    whole = make_trainer(configured(here, kind), tmp_path / "whole")
    whole.train()
    begun = make_trainer(configured(here, kind, "training.steps=20"), tmp_path / "moved")
    begun.train()
    shutil.rmtree(here)
    resumed = make_trainer(configured(there, kind), tmp_path / "moved")
    resumed.train()
    assert weights(resumed.folder) == weights(whole.folder)
    last = read_checkpoint(steps_of(resumed.folder)[-1])
    assert last.config.dataset.path == str(there)
    assert last.dataset == read_checkpoint(steps_of(whole.folder)[0]).dataset


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["saved", "none yet"])
def test_no_run_goes_on_with_another_dataset(tmp_path, places, configured, make_trainer, kind, state):
    here, there, elsewhere = places
    begun = make_trainer(configured(here, kind, "training.steps=0"), tmp_path)
    begun.train()
    if state == "none yet":  # killed between the first checkpoint and the first state
        shutil.rmtree(begun.folder / "resume")
    before = weights(begun.folder)
    with pytest.raises(UsageError, match=r"of another configuration \(dataset\.path\)"):
        make_trainer(configured(elsewhere, kind), tmp_path).train()
    shutil.rmtree(here)
    shutil.copytree(elsewhere, here)
    with pytest.raises(DatasetError, match=r"is not the dataset that this run began with \(another sha256\)"):
        make_trainer(configured(here, kind), tmp_path).train()
    with pytest.raises(UsageError, match=r"of another configuration \(training\.batch_size\)"):
        make_trainer(configured(there, kind, "training.batch_size=8"), tmp_path).train()
    assert weights(begun.folder) == before
    make_trainer(configured(there, kind, "training.steps=2"), tmp_path).train()


def without_digest(step):
    """A checkpoint as of an mzprobe that did not keep the digest."""
    record = json.loads((step / RECORD).read_text())
    del record["metrics"]["dataset"], record["record_sha256"]
    (step / RECORD).write_bytes(sealed(record))


def test_without_a_digest_paths_are_compared(tmp_path, places, configured, make_trainer):
    here, there, _ = places
    begun = make_trainer(configured(here, "cloned", "training.steps=0"), tmp_path)
    begun.train()
    shutil.rmtree(begun.folder / "resume")
    (step,) = steps_of(begun.folder)
    without_digest(step)
    assert read_checkpoint(step).dataset == {}
    with pytest.raises(UsageError, match=r"\(dataset\.path\)"):
        make_trainer(configured(there, "cloned"), tmp_path).train()
    make_trainer(configured(here, "cloned", "training.steps=1"), tmp_path).train()


# Tables


@pytest.fixture
def agents(tmp_path, agent, places, configured):
    """Makes the checkpoint of an agent that learned from a dataset, as far as its record says; gives its folder."""

    def make(path, *, seed, digest, step=0):
        folder = tmp_path / "checkpoints" / "tiny" / f"seed-{seed}"
        metrics = {} if digest is None else {"dataset": {"path": str(path), "sha256": digest}}
        config = configured(path, "cloned")
        forged(
            folder, read_checkpoint(steps_of(agent)[0]), seed=seed, training_step=step, config=config, metrics=metrics
        )
        return folder

    return make


def probed(folder, analyses, *, steps=()):
    config = OnlineConfig(episodes=2)
    return run_probe(ProbeRun(probe=PROBES["online"], agent=folder, config=config, analyses=analyses, steps=steps))


def test_tables_of_two_places_belong_together_by_the_digest(tmp_path, agents):
    for seed, path in enumerate(("one", "two")):
        table = read_table(probed(agents(path, seed=seed, digest="a" * 64), tmp_path / "analyses"))
        assert table.record["dataset"] == {"sha256": "a" * 64}
    assert len(read_run(tmp_path / "analyses", "tiny", "online").record["agents"]) == 2
    probed(agents("one", seed=2, digest="b" * 64), tmp_path / "analyses")
    with pytest.raises(UsageError, match=r"were made with other dataset \(sha256\): make them alike"):
        read_run(tmp_path / "analyses", "tiny", "online")


@pytest.mark.parametrize("digests", [(None, None), (None, "a"), ("a", None)])
def test_tables_without_a_digest_are_compared_by_path(tmp_path, agents, digests):
    for seed, digest in enumerate(digests):
        probed(agents("one", seed=seed, digest=digest), tmp_path / "analyses")
    assert len(read_run(tmp_path / "analyses", "tiny", "online").record["agents"]) == 2
    (tmp_path / "analyses" / "tiny" / "online" / "seed-1.parquet").unlink()
    probed(agents("two", seed=1, digest=digests[1]), tmp_path / "analyses")
    with pytest.raises(UsageError, match=r"were made with other config \(dataset\.path\)"):
        read_run(tmp_path / "analyses", "tiny", "online")


def test_a_table_goes_on_with_an_agent_whose_dataset_was_moved(tmp_path, agents):
    folder = agents("one", seed=0, digest="a")
    path = probed(folder, tmp_path / "analyses")
    agents("two", seed=0, digest="a", step=20)
    assert probed(folder, tmp_path / "analyses") == path
    assert set(read_table(path).frame["training_step"]) == {0, 20}
    agents("two", seed=0, digest="b", step=40)
    with pytest.raises(UsageError, match=r"of another agent .* \(other dataset \(sha256\)\)"):
        probed(folder, tmp_path / "analyses")


def test_the_record_of_a_run_without_a_dataset_says_nothing_of_one(tmp_path, agent):
    record = read_table(probed(agent, tmp_path / "analyses", steps=(0,))).record
    assert set(record) == {
        *("probe", "run", "seed", "settings", "source", "config", "environment", "versions", "compute"),
        *("machine", "commands", "code", "checkpoints", "beyond_support"),
    }


def test_the_table_of_times_is_compared_in_the_same_way(tmp_path, configured, make_trainer, places):
    here, there, elsewhere = places
    trainer = make_trainer(configured(here, "cloned", "training.steps=20"), tmp_path)
    trainer.train()
    path = write_timing(trainer.folder, tmp_path / "analyses", command="here")
    assert read_table(path).record["dataset"] == {"sha256": trainer.feed.dataset.sha256}
    make_trainer(configured(there, "cloned"), tmp_path).train()
    write_timing(trainer.folder, tmp_path / "analyses", command="here")
    assert read_table(path).frame["training_step"].max() == 40
    shutil.rmtree(trainer.folder)
    make_trainer(configured(elsewhere, "cloned"), tmp_path).train()
    with pytest.raises(UsageError, match=r"was made with other dataset \(sha256\)"):
        write_timing(trainer.folder, tmp_path / "analyses", command="here")


def test_everything_else_still_counts():
    old = {"config": {"dataset": {"path": "a", "share": 0.5}}, "dataset": {"sha256": "1"}}
    other = {"config": {"dataset": {"path": "b", "share": 0.25}}, "dataset": {"sha256": "1"}}
    assert differing(old, other) == "config (dataset.share)"
    assert differing(old, other | {"config": old["config"], "dataset": {"sha256": "2"}}) == "dataset (sha256)"
    assert differing(old, {"config": {"dataset": {"path": "b", "share": 0.5}}}) == "config (dataset.path)"


def test_numbers_of_two_kinds_of_devices_are_not_mixed():
    on_cpu, on_cuda = ({"compute": {"device": device}} for device in ("cpu", "cuda"))
    assert differing(on_cpu, on_cuda) == "compute (device)"
    assert differing(on_cpu, on_cpu) == differing({}, on_cuda) == differing(on_cpu, {}) == ""


def test_numbers_of_two_precisions_are_not_mixed():
    before, full, rounded = (
        {"compute": {"device": "cuda", **one}} for one in ({}, {"precision": "highest"}, {"precision": "high"})
    )
    assert differing(full, rounded) == differing(before, rounded) == "compute (precision)"
    assert differing(before, full) == ""
