"""A probe's table goes on where it stopped, to the same bytes, and is not mixed with what was made otherwise."""

import dataclasses
import re
import shutil

import pytest
from agents import forged

import mzprobe
from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.compute import Compute
from mzprobe.errors import MzprobeError, UsageError
from mzprobe.probes.horizon import UNITS, measure_horizon
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import ProbeRun, remaining_cost, run_probe
from mzprobe.records.digests import code
from mzprobe.settings import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    ImprovementConfig,
    InspectConfig,
    OnlineConfig,
    OperatorsConfig,
    PlanningConfig,
    SearchErrorConfig,
    SequencesConfig,
)
from mzprobe.tables import read_table

SMALL = HorizonConfig(states=6, episodes=2, horizon=3)
CONFIGS = {
    "online": OnlineConfig(episodes=3),
    "horizon": SMALL,
    "sequences": SequencesConfig(states=3, episodes=1, length=3),
    "cross": CrossConfig(states=3, episodes=1, horizon=2),
    "search_error": SearchErrorConfig(states=3, episodes=1, simulations=(2,), horizon=2),
    "planning": PlanningConfig(episodes=2, simulations=(2,), leaf="value"),
    "equivalence": EquivalenceConfig(states=3, episodes=1, horizon=2),
    "improvement": ImprovementConfig(states=3, episodes=1, simulations=(2,), horizon=2, steps=5),
    "inspect": InspectConfig(states=3, episodes=1, horizon=2, rollouts=2, steps=5),
    "operators": OperatorsConfig(episodes=2, states=2, simulations=(2,), steps=5),
}
WITH_STORED = {"targets"}  # needs what the tiny agent has not kept; tests of its own


def test_all_questions_are_among_these():
    assert {*CONFIGS, *WITH_STORED} == {*PROBES}


SAMPLED_CROSS = CrossConfig(states=3, episodes=1, horizon=3, enumerate_up_to=0, sequences=5)
EVERY_PROBE = pytest.mark.parametrize("name", CONFIGS)
STEPS = (0, 20, 40)


def asked(agent, out, probe=PROBES["horizon"], config=SMALL, *, steps=(), **options):
    return ProbeRun(probe=probe, agent=agent, config=config, analyses=out, steps=steps, **options)


def probed(agent, out, probe=PROBES["horizon"], config=SMALL, *, on_progress=lambda _done, _total: None, **options):
    return run_probe(asked(agent, out, probe, config, **options), on_progress=on_progress)


@pytest.fixture
def probe_calls():
    """The horizon probe, and the training steps that it has measured."""
    calls = []

    def measure(agent, config, *, on_progress):
        calls.append(agent.origin.training_step)
        return measure_horizon(agent, config, on_progress=on_progress)

    return dataclasses.replace(PROBES["horizon"], measure=measure), calls


# Going on


@EVERY_PROBE
def test_every_probe_names_its_table_and_gives_every_column_a_unit(agent, tmp_path, name):
    probe = PROBES[name]
    path = probed(agent, tmp_path, probe, CONFIGS[name], steps=(0, 40))
    assert path == tmp_path / "tiny" / probe.table(CONFIGS[name]) / "seed-0.parquet"
    table = read_table(path)
    always = {column: unit for column, unit in probe.units.items() if column not in probe.optional}
    assert list(table.frame.columns) == list(always)
    assert table.units == always
    assert table.frame["training_step"].drop_duplicates().tolist() == [0, 40]


def test_a_probe_measures_every_checkpoint_once(agent, tmp_path, probe_calls):
    probe, calls = probe_calls
    told = []
    path = probed(agent, tmp_path, probe, on_progress=lambda done, total: told.append((done, total)))
    assert path == tmp_path / "tiny" / "horizon" / "seed-0.parquet"
    assert calls == [0, 20, 40]
    assert {total for _, total in told} == {3}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {0, 1, 2, 3} <= {done for done, _ in told}
    before = path.stat().st_mtime_ns
    probed(agent, tmp_path, probe)
    assert calls == [0, 20, 40]
    assert path.stat().st_mtime_ns == before


@EVERY_PROBE
def test_progress_goes_from_nothing_to_all_within_every_checkpoint(agent, tmp_path, name):
    told = []
    probed(
        agent,
        tmp_path,
        PROBES[name],
        CONFIGS[name],
        steps=STEPS,
        compute=Compute(memory=1),
        on_progress=lambda done, total: told.append((done, total)),
    )
    shares = [done for done, _ in told]
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)
    assert shares == sorted(shares)
    assert any(0 < share < 1 for share in shares)


@pytest.mark.parametrize("stop", [0.0, 0.4, 1.0, 2.0, 2.5])
@EVERY_PROBE
def test_an_interrupted_probe_goes_on_to_the_bytes_of_an_unbroken_one(agent, tmp_path, name, stop, unbroken):
    def interrupt(done, _total):
        if done >= stop:
            raise KeyboardInterrupt

    options = {"probe": PROBES[name], "config": CONFIGS[name], "steps": STEPS, "compute": Compute(memory=1)}
    with pytest.raises(KeyboardInterrupt):
        probed(agent, tmp_path, on_progress=interrupt, **options)
    path = asked(agent, tmp_path, **options).path()
    done = sorted(set(read_table(path).frame["training_step"])) if path.exists() else []
    assert done == [step for step in STEPS if step / 20 + 1 <= stop]
    left, _ = remaining_cost(asked(agent, tmp_path, **options))
    assert left == 3 - len(done)
    assert probed(agent, tmp_path, **options).read_bytes() == unbroken(name)
    assert [p.name for p in path.parent.iterdir()] == ["seed-0.parquet"]


@pytest.fixture(scope="module")
def unbroken(agent, tmp_path_factory):
    """The bytes of a probe's table of all checkpoints, made at once."""
    made = {}

    def read(name):
        if name not in made:
            out = tmp_path_factory.mktemp(name)
            made[name] = probed(agent, out, PROBES[name], CONFIGS[name], steps=STEPS).read_bytes()
        return made[name]

    return read


@pytest.mark.parametrize("order", [(0, 20, 40), (40, 0, 20)])
@EVERY_PROBE
def test_steps_asked_for_one_by_one_give_the_bytes_of_those_asked_together(agent, tmp_path, name, order, unbroken):
    for step in order:
        probed(agent, tmp_path, PROBES[name], CONFIGS[name], steps=(step,))
    assert probed(agent, tmp_path, PROBES[name], CONFIGS[name], steps=STEPS).read_bytes() == unbroken(name)


@pytest.mark.parametrize("config", [CONFIGS["cross"], SAMPLED_CROSS], ids=["enumerated", "sampled"])
def test_a_step_that_is_added_later_adds_its_row_and_its_column(agent, tmp_path, config):
    cross = PROBES["cross"]
    path = probed(agent, tmp_path / "parts", cross, config, steps=(40, 20))
    pairs = read_table(path).frame[["training_step", "policy_step"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [[20, 20], [20, 40], [40, 20], [40, 40]]
    probed(agent, tmp_path / "parts", cross, config, steps=(0, 40))
    whole = probed(agent, tmp_path / "whole", cross, config)
    assert probed(agent, tmp_path / "parts", cross, config).read_bytes() == whole.read_bytes()
    assert len(read_table(whole).frame) == 3 * 3 * 3


def test_only_the_columns_that_a_row_lacks_are_measured(agent, tmp_path):
    calls = []

    def measure(own, config, others, **options):
        calls.append((own.origin.training_step, [other.origin.training_step for other in others]))
        return PROBES["cross"].measure(own, config, others, **options)

    cross = dataclasses.replace(PROBES["cross"], measure=measure)
    probed(agent, tmp_path, cross, CONFIGS["cross"], steps=(0, 40))
    probed(agent, tmp_path, cross, CONFIGS["cross"])
    assert calls == [(0, [0, 40]), (40, [0, 40]), (0, [20]), (20, [0, 20, 40]), (40, [20])]


# What made a table


def test_a_table_says_what_made_it(agent, tmp_path):
    table = read_table(probed(agent, tmp_path))
    record = table.record
    assert table.units == UNITS
    assert set(table.frame.columns) == set(UNITS)
    command = "mzprobe eval-horizon checkpoints/tiny --set states=%d --set episodes=%d --set horizon=%d"
    said = command % (SMALL.states, SMALL.episodes, SMALL.horizon)
    assert record["commands"] == dict.fromkeys(("0", "20", "40"), said)
    assert record["code"] == dict.fromkeys(("0", "20", "40"), code())
    assert record["settings"] == SMALL.model_dump(mode="json")
    assert record["versions"]["mzprobe"] == mzprobe.__version__
    assert record["environment"]["name"] == "cartpole"
    assert record["config"] == read_checkpoint(steps_of(agent)[0]).config.model_dump(mode="json")
    assert record["checkpoints"] == {
        str(read_checkpoint(path).training_step): read_checkpoint(path).weights_sha256 for path in steps_of(agent)
    }


def test_a_row_of_the_cross_matrix_records_the_weights_of_its_columns(agent, tmp_path):
    def interrupt(done, _total):
        if done >= 1:
            raise KeyboardInterrupt

    folder = shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    options = {"probe": PROBES["cross"], "config": CONFIGS["cross"], "steps": (0, 40)}
    with pytest.raises(KeyboardInterrupt):
        probed(folder, tmp_path, on_progress=interrupt, **options)
    record = read_table(tmp_path / "tiny" / "cross" / "seed-0.parquet").record
    assert (set(record["commands"]), set(record["checkpoints"])) == ({"0"}, {"0", "40"})
    last = read_checkpoint(steps_of(agent)[2])
    forged(folder, last, weights={key: array + 1 for key, array in last.weights.items()})
    with pytest.raises(UsageError, match="holds step 40 of other weights"):
        probed(folder, tmp_path, **options)


@EVERY_PROBE
def test_a_table_of_other_settings_is_replaced_only_on_request(agent, tmp_path, name):
    probe, config = PROBES[name], CONFIGS[name]
    path = probed(agent, tmp_path, probe, config, steps=(0,))
    before = path.read_bytes()
    other = config.model_copy(update={"episodes": 4, "seed": 1})
    refusal = re.escape(f"{path} was made with other settings (episodes, seed): choose another folder")
    for ask in (probed, lambda *a, **k: remaining_cost(asked(*a, **k))):
        with pytest.raises(UsageError, match=refusal):
            ask(agent, tmp_path, probe, other, steps=(0,))
    assert path.read_bytes() == before
    probed(agent, tmp_path, probe, other, steps=(0,), overwrite=True)
    replaced = read_table(path)
    assert replaced.record["settings"] == other.model_dump(mode="json")
    assert replaced.frame["episode"].max() <= 3


def test_overwriting_begins_from_nothing_and_goes_on_where_it_was_interrupted(agent, tmp_path, probe_calls):
    probe, calls = probe_calls
    other = SMALL.model_copy(update={"states": 4})
    probed(agent, tmp_path, probe)
    left, _ = remaining_cost(asked(agent, tmp_path, probe, other, overwrite=True))
    assert left == 3

    def interrupt(done, _total):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probed(agent, tmp_path, probe, other, overwrite=True, on_progress=interrupt)
    path = probed(agent, tmp_path, probe, other, overwrite=True)
    assert calls == [0, 20, 40, 0, 20, 40]
    assert path.read_bytes() == probed(agent, tmp_path / "new", probe, other).read_bytes()


def test_a_corrupt_table_is_replaced_only_on_request(agent, tmp_path):
    path = probed(agent, tmp_path, steps=(0,))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(MzprobeError, match="is truncated or not a table of mzprobe: remove it"):
        probed(agent, tmp_path, steps=(0,))
    assert probed(agent, tmp_path, steps=(0,), overwrite=True).read_bytes() == whole


def test_a_table_of_other_versions_is_refused(agent, tmp_path, monkeypatch):
    path = probed(agent, tmp_path, steps=(0,))
    installed = read_table(path).record["versions"]
    monkeypatch.setattr("mzprobe.probes.runner.versions", lambda _: {**installed, "numpy": "1.0"})
    with pytest.raises(UsageError, match=re.escape("was made with other versions (numpy): choose another folder")):
        probed(agent, tmp_path)


@pytest.mark.parametrize("name", ["horizon", "cross"])
def test_a_table_of_other_weights_is_refused(agent, tmp_path, name):
    path = probed(agent, tmp_path / "tables", PROBES[name], CONFIGS[name], steps=(0, 20))
    folder = shutil.copytree(agent, tmp_path / "other" / "tiny" / "seed-0")
    second = read_checkpoint(steps_of(agent)[1])
    forged(folder, second, weights={key: array + 1 for key, array in second.weights.items()})
    with pytest.raises(UsageError, match="holds step 20 of other weights: choose another folder") as reason:
        probed(folder, tmp_path / "tables", PROBES[name], CONFIGS[name])
    assert str(path) in str(reason.value)
    probed(folder, tmp_path / "tables", PROBES[name], CONFIGS[name], steps=(20,), overwrite=True)
    assert set(read_table(path).frame["training_step"]) == {20}


# Checkpoints


def test_a_table_is_named_by_the_recorded_seed_whatever_the_folder_is_called(agent, tmp_path):
    renamed = shutil.copytree(agent, tmp_path / "tiny" / "seed-7")
    assert probed(renamed, tmp_path / "tables", steps=(0,)).name == "seed-0.parquet"


def test_a_step_without_a_checkpoint_lists_those_there_are(agent, tmp_path):
    sentence = "has no checkpoint at step 21: choose with --step among 0, 20, 40"
    for ask in (run_probe, remaining_cost):
        with pytest.raises(UsageError, match=sentence):
            ask(asked(agent, tmp_path, steps=(20, 21)))
        with pytest.raises(UsageError, match="holds no checkpoints: train the agent"):
            ask(asked(tmp_path, tmp_path))


def test_the_search_probe_looks_at_step_2000_unless_told(agent, tmp_path):
    earlier = read_table(probed(agent, tmp_path, PROBES["search_error"], CONFIGS["search_error"]))
    assert set(earlier.frame["training_step"]) == {40}  # which it lacks: the last is looked at
    later = shutil.copytree(agent, tmp_path / "later" / "tiny" / "seed-0")
    forged(later, read_checkpoint(steps_of(agent)[1]), training_step=2000)
    table = read_table(probed(later, tmp_path / "later", PROBES["search_error"], CONFIGS["search_error"]))
    assert set(table.frame["training_step"]) == {2000}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "(other seed)"),
        ({"run": "elsewhere"}, "(other run)"),
        ({"config": "search.simulations"}, "(other config (search.simulations))"),
    ],
)
def test_a_checkpoint_of_another_agent_among_the_others_is_refused(agent, tmp_path, changes, said):
    folder = shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    second = read_checkpoint(steps_of(agent)[1])
    if "config" in changes:
        other_search = second.config.search.model_copy(update={"simulations": 9})
        changes = {"config": second.config.model_copy(update={"search": other_search})}
    path = forged(folder, second, **changes)
    with pytest.raises(UsageError, match=re.escape(f"{path} is of another agent than the first")) as reason:
        probed(folder, tmp_path / "tables")
    assert said in str(reason.value)
    assert not (tmp_path / "tables").exists()
    assert probed(folder, tmp_path / "tables", steps=(0, 40)).exists()


def test_a_checkpoint_that_was_renamed_is_refused(agent, tmp_path):
    folder = shutil.copytree(agent, tmp_path / "tiny" / "seed-0")
    (folder / "step-0000020").rename(folder / "step-0000030")
    with pytest.raises(UsageError, match="step-0000030 holds step 20: rename it to step-0000020"):
        probed(folder, tmp_path / "tables")
