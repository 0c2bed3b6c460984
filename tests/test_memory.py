"""Sizes that cannot fit: refused with what they would take, before any of it is taken; damage is never supposed."""

import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from agents import made_agent
from models import random_network
from stored_tables import store

from mzprobe.behaviour import draw_episode_numbers
from mzprobe.config import TrainingConfig, load_preset
from mzprobe.envs import CartPole
from mzprobe.envs.core import bytes_of
from mzprobe.envs.history import HistoryEnvironment
from mzprobe.errors import UsageError
from mzprobe.search.tree import new_forest
from mzprobe.system import cgroups, memory
from mzprobe.system.memory import refuse_more_than_fits, size_of, spelled
from mzprobe.tables import look_at, read_table, table_path
from mzprobe.training.replay import Replay

GIB = 2**30


@pytest.fixture(autouse=True)
def _four_gib(monkeypatch):
    """A machine with 4 GiB, whatever this one has."""
    monkeypatch.setattr(memory, "memory", lambda: 4 * GIB)


def test_the_sentence_says_what_it_would_take_and_what_there_is():
    refuse_more_than_fits(4 * GIB, what="it")
    with pytest.raises(UsageError, match=r"^it would take 4 GiB of memory, and there are 4 GiB: lower it$"):
        refuse_more_than_fits(4 * GIB + 1, what="it")


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (2048, "2 KiB"), (GIB * 3 // 2, "1.5 GiB"), (10**15, "909 TiB")],
)
def test_bytes_are_said_in_the_unit_that_leaves_few_digits(size, said):
    assert spelled(size) == said


def test_even_numbers_that_no_machine_word_holds_are_said():
    assert spelled(10**400).endswith(" EiB")


MANY = 10**9
SIZES = [
    ("training.batch_size", "training.batch_size=1000000000 with training.unroll_steps="),
    ("training.replay_capacity", "training.replay_capacity=1000000000 with observations of [4] float32 would take"),
    ("training.environments", "training.environments=1000000000 with episodes of up to 64 steps so far would take"),
    ("search.simulations", "search trees of 1,000,000,000 simulations would take"),
    ("training.evaluation_episodes", "playing 1,000,000,000 episodes of 500 steps would take"),
]


@pytest.mark.parametrize(("key", "said"), SIZES)
def test_a_configuration_that_cannot_fit_is_refused(tmp_path, make_trainer, key, said):
    config = load_preset("cartpole", [f"{key}={MANY}"])
    with pytest.raises(UsageError) as refused:
        make_trainer(config, tmp_path).train()
    assert said in str(refused.value)
    assert str(refused.value).endswith("of memory, and there are 4 GiB: lower it")


def test_a_network_that_cannot_fit_is_refused(tmp_path, make_trainer):
    config = load_preset("cartpole", [f"network.{key}=65536" for key in ("latent", "hidden", "atoms")])
    said = "network.latent=65536 with network.hidden=65536 and network.atoms=65536 would take "
    with pytest.raises(UsageError, match=said):
        make_trainer(config, tmp_path)


FEW = ["training.unroll_steps", *(f"network.{name}" for name in ("latent", "hidden", "atoms"))]


@pytest.mark.parametrize("key", [*(key for key, _ in SIZES), *FEW, "training.n_step", "training.threads"])
def test_numbers_beyond_what_kernels_count_in_are_no_values(key):
    with pytest.raises(UsageError, match=rf"{key} is not valid: "):
        load_preset("cartpole", [f"{key}=100000000000000000000"])


@pytest.mark.parametrize(
    "use",
    [
        lambda: draw_episode_numbers(None, 10**12, 500),
        lambda: new_forest(10**6, 10**6, 18),
        lambda: Replay(
            TrainingConfig(replay_capacity=300_000), observation_shape=(96, 96, 3), num_actions=2, gamma=0.99
        ),
    ],
)
def test_the_library_refuses_too(use):
    with pytest.raises(UsageError, match="of memory, and there are 4 GiB: lower it"):
        use()


def test_what_a_card_has_is_asked_for_where_a_network_is_on_one():
    refuse_more_than_fits(2**40, what="a batch", there=2**40)
    with pytest.raises(UsageError, match="a batch would take 1 TiB of memory, and there are 80 GiB: lower it"):
        refuse_more_than_fits(2**40, what="a batch", there=80 * 2**30)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """The folder of the control group of a batch job that this process is said to be in."""
    monkeypatch.undo()
    monkeypatch.setattr(cgroups, "_ROOTS", (str(tmp_path), str(tmp_path / "none")))
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("0::/slurm/job_7/step_0\n")
    folder = tmp_path / "slurm" / "job_7"
    folder.mkdir(parents=True)
    return folder


def test_the_tightest_limit_counts(job):
    there = memory.memory()
    (job.parents[1] / "memory.max").write_text("123456\n")
    assert memory.memory() == 123456
    (job / "memory.max").write_text("12345\n")
    assert memory.memory() == 12345
    (job / "memory.max").unlink()
    (job.parents[1] / "memory.max").write_text("max\n")
    assert memory.memory() == there > 2**28


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_a_containers_share_of_time_counts_too(job, monkeypatch, files, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (job / name).write_text(text)
    assert cgroups.usable_cores() == cores


def test_out_of_memory_is_not_taken_for_damage(tmp_path, monkeypatch):
    import pandas as pd
    import pyarrow as pa

    store(tmp_path, pd.DataFrame({"seed": [0], "training_step": [0], "error": [1.0]}))
    path = table_path(tmp_path, "made", "horizon", 0)
    for reason in (MemoryError, pa.ArrowMemoryError):

        def refuse(*_, reason=reason, **__):
            raise reason("no room")

        monkeypatch.setattr("mzprobe.tables.pq.ParquetFile", refuse)
        with pytest.raises(MemoryError):
            look_at(path)
    monkeypatch.undo()
    assert len(read_table(path).frame) == 1


TIGHT = """
import resource, sys
from pathlib import Path
from mzprobe.tables import read_table
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 64 * 2**20,) * 2)
try:
    print(len(read_table(Path(sys.argv[1])).frame))
except MemoryError:
    print("no memory")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on the address space")
def test_under_a_tight_limit_reading_a_table_ends(tmp_path):
    import numpy as np
    import pandas as pd

    rows = np.random.default_rng(0).standard_normal(200_000)
    store(tmp_path, pd.DataFrame({"seed": 0, "training_step": 0, "error": rows, "more": rows[::-1]}))
    path = table_path(tmp_path, "made", "horizon", 0)
    done = subprocess.run([sys.executable, "-c", TIGHT, path], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() in ("200000", "no memory"), done.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("1KiB", 1024), ("1.5 GB", 1.5e9), ("512MiB", 512 << 20), ("2g", 2e9), ("3 B", 3)],
)
def test_an_amount_of_memory_is_read(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1.5.5M", "1e400", "9999999TiB", "12 parsecs", "nan"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(UsageError, match="is no amount of memory"):
        size_of(text)


def test_states_say_how_large_they_are():
    states = CartPole().reset([0, 1, 2])
    assert bytes_of(states) == states.position.nbytes + states.done.nbytes
    assert bytes_of(HistoryEnvironment(CartPole(), 2).reset([0])) == 33 + 2 * 5 * 4
    assert bytes_of(SimpleNamespace(nbytes=7)) == 7
    assert bytes_of((b"abc", [b"d"], 5)) == 4


@dataclass(slots=True)
class Slotted:
    kept: object
    more: object = 0.5


class Lower(Slotted):
    __slots__ = ("__late",)

    def __init__(self, kept, late):
        super().__init__(kept)
        self.__late = late


class Unset:
    __slots__ = "kept"


def test_states_that_keep_their_arrays_in_slots_or_in_a_dict_say_how_large_they_are():
    array = np.zeros(3)
    assert bytes_of(Slotted(array)) == bytes_of({"kept": array, "more": [{}]}) == 24
    assert bytes_of(Lower([np.zeros(2)], {"late": b"abc"})) == 19
    assert bytes_of(SimpleNamespace(inside=Slotted({"deep": array}), kind=np.float32, called=made_agent)) == 24
    assert bytes_of(Unset()) == 0


def test_what_states_hold_twice_or_in_a_circle_is_counted_once():
    array = np.zeros(3)
    circle = SimpleNamespace(array=array, again=array)
    circle.own = [circle]
    assert bytes_of(circle) == 24


def test_an_agent_holds_what_its_memory_allows():
    agent = made_agent(CartPole(), random_network(0, observation_size=4, num_actions=2), memory=10**6)
    assert agent.position_bytes == 33 + 4 * agent.network.latent
    assert agent.sequences_at_once == 10**6 // (8 * (agent.position_bytes + 96))
    assert agent.trees(9) == 10**6 // (10 * (agent.position_bytes + 80))
    assert agent.policy.trees == agent.trees(8)
    little = made_agent(CartPole(), agent.network, memory=1)
    assert (little.sequences_at_once, little.trees(50)) == (1, 1)
