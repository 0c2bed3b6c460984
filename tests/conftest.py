"""A configuration small enough to train in a second, an agent trained on it, and ways to run the command line."""

import os
import signal
import sys
from contextlib import nullcontext

import gymnasium
import pytest
from forks import Forks, everything
from hypothesis import settings
from killed import CASES, begin, copied

from mzprobe import cli
from mzprobe.config import load_preset
from mzprobe.errors import Interrupted
from mzprobe.system.threads import limited_threads
from mzprobe.training.trainer import Trainer

for _name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "RAY_ADDRESS"):
    os.environ.pop(_name, None)  # before rich and ray read them: what is said is compared
settings.register_profile("mzprobe", deadline=None)  # a shared machine may take a second for what takes a moment
settings.load_profile("mzprobe")

SECONDS = 60  # before a command is taken to hang
TINY = {
    "network.hidden": 16,
    "network.latent": 8,
    "search.simulations": 8,
    "training.batch_size": 16,
    "training.unroll_steps": 3,
    "training.n_step": 5,
    "training.environments": 4,
    "training.warmup_environment_steps": 100,
    "training.replay_capacity": 2000,
    "training.evaluation_episodes": 2,
    "training.evaluation_interval": 20,
    "training.checkpoint_interval": 20,
    "training.resume_interval": 10,
    "training.steps": 40,
}


@pytest.fixture(scope="session", autouse=True)
def compiled_without_a_word():
    """What commands say is compared here, and must not hang on what a cache of kernels holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mzprobe._kernel.compiling_told", lambda _: nullcontext())
        yield


@pytest.fixture
def in_time():
    """Fails a test whose command waits for something that never comes, from when it is called."""

    def hangs(_number, _frame):
        pytest.fail(f"it takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def one_thread():
    """Bits repeat for an equal number of threads; training uses one."""
    with limited_threads(1):
        yield


@pytest.fixture(scope="session")
def tiny_keys():
    """Dotted keys and values of the tiny configuration, on top of the preset `cartpole`."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny_config():
    """Makes the tiny configuration, with further `key=value` overrides."""

    def make(*overrides):
        return load_preset("cartpole", [*(f"{key}={value}" for key, value in TINY.items()), *overrides])

    return make


@pytest.fixture(scope="session")
def tiny_arguments():
    """Makes the `--set` arguments of the tiny configuration, with other values where asked."""

    def make(**changes):
        values = TINY | {key.replace("__", "."): value for key, value in changes.items()}
        return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]

    return make


@pytest.fixture(scope="session")
def make_trainer():
    """Makes a trainer whose records hold the same run name and command wherever it writes."""

    def make(config, out, *, seed=0):
        return Trainer(config, seed=seed, run="tiny", out=out, command="mzprobe train tiny")

    return make


@pytest.fixture(scope="session")
def train_in_pieces(make_trainer):
    """Trains an agent that is stopped after so many turns of the loop, again and again, and then goes on to the end."""

    def train(config, out, *, turns):
        for stop in turns:
            trainer, calls = make_trainer(config, out), []

            def on_progress(_, trainer=trainer, calls=calls, stop=stop):
                calls.append(None)
                trainer.stop = len(calls) >= stop

            with pytest.raises(Interrupted):
                trainer.train(on_progress)
        trainer = make_trainer(config, out)
        trainer.train()
        return trainer

    return train


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_config, make_trainer):
    """Folder of all checkpoints, with one agent trained to the end without interruption. Only for reading."""
    root = tmp_path_factory.mktemp("trained")
    make_trainer(tiny_config(), root).train()
    return root


@pytest.fixture(scope="session")
def agent(trained):
    """That agent's folder. Only for reading."""
    return trained / "tiny" / "seed-0"


@pytest.fixture(scope="session")
def contents():
    """Reads the bytes of every file of an agent's checkpoints, and of the states from which it goes on if asked for."""

    def read(folder, *, states=False):
        kept = sorted([*folder.glob("step-*/*"), *(folder.glob("resume/*/*") if states else ())])
        return {str(path.relative_to(folder)): path.read_bytes() for path in kept}

    return read


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Runs the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mzprobe", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        output = capsys.readouterr()
        return exit_info.value.code, output.out, output.err

    return run


@pytest.fixture
def minaris_place(tmp_path, monkeypatch):
    """Minari's own place, empty, in a working directory that is empty too."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place))
    monkeypatch.chdir(tmp_path)
    return place


@pytest.fixture
def registered():
    """Registers a class, or a function that makes an environment, with Gymnasium for one test; its id."""
    ids = []

    def register(env, **options):
        ids.append(f"mzprobe/{env.__name__}-v0")
        gymnasium.register(ids[-1], env, **({"max_episode_steps": 30} | options))
        return ids[-1]

    yield register
    for id in ids:
        del gymnasium.registry[id]


@pytest.fixture(scope="session")
def forks():
    """The process from which commands are forked that are killed, or meet each other."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def start(forks, tmp_path_factory):
    """A folder with all that a case of `killed` needs. Only for reading."""
    return begin(tmp_path_factory.mktemp("start") / "start", forks)


@pytest.fixture(scope="session")
def undisturbed(forks, start, tmp_path_factory):
    """Runs such a case to its end, once: what lies there then, and the operations on files that it took."""
    known = {}

    def run(name):
        if name not in known:
            folder = copied(CASES[name], start, tmp_path_factory.mktemp(name) / "whole")
            (ended,) = forks.run(folder, CASES[name].arguments)
            assert ended.code == 0, ended.said
            known[name] = everything(folder), ended.operations
        return known[name]

    return run
