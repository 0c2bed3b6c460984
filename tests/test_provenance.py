"""The machine is named where bits can depend on it, and nowhere else."""

import sys

import pytest

import mzprobe
from mzprobe.records import digests
from mzprobe.records.digests import code, own_code, portable, without_places
from mzprobe.records.versions import machine


def test_our_own_kernels_in_an_environment_of_ours_name_no_machine():
    assert machine("cartpole", network="mlp") == {}


@pytest.mark.parametrize("environment", ["lunarlander", "gym:MountainCar-v0", "tabular"])
def test_an_engine_that_others_compiled_names_the_processor(environment):
    found = machine(environment, network="mlp")
    assert set(found) == {"processor", "libc"}
    assert found["processor"]


def test_a_network_that_torch_runs_names_its_kernels_too():
    found = machine("cartpole", network="my_module:make_network")
    assert set(found) == {"device", "torch_kernels", "blas_kernels", "threads", "processor", "libc"}
    assert (found["device"], found["threads"]) == ("cpu", "1")
    assert machine("cartpole", network="resnet", threads=3)["threads"] == "3"


def test_the_code_is_known_by_its_content(tmp_path, monkeypatch):
    package = tmp_path / "elsewhere" / "mzprobe"
    (package / "config").mkdir(parents=True)
    (package / "__init__.py").write_text("one = 1\n")
    (package / "config" / "preset.toml").write_text("steps = 3\n")
    monkeypatch.setattr(mzprobe, "__file__", str(package / "__init__.py"))
    first = code.__wrapped__()
    (package / "page.html").write_text("no number comes from here")
    assert code.__wrapped__() == first
    for name in ("__init__.py", "config/preset.toml"):
        before = (package / name).read_text()
        (package / name).write_text(before + "two = 2\n")
        assert code.__wrapped__() != first
        (package / name).write_text(before)
    moved = package.rename(tmp_path / "mzprobe")
    monkeypatch.setattr(mzprobe, "__file__", str(moved / "__init__.py"))
    assert code.__wrapped__() == first


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/home/somebody/studies/mine.toml", "mine.toml"),
        ("/srv/checkpoints/mine/seed-3/step-0002000", "mine/seed-3/step-0002000"),
        ("--out=/home/somebody/tables", "--out=tables"),
        ("studies/mine.toml", "studies/mine.toml"),
        ("--set", "--set"),
        ("a / b", "a / b"),
        ("/", "/"),
    ],
)
def test_of_an_absolute_path_only_its_end_is_kept(given, kept):
    assert portable(given) == kept
    assert without_places({"path": [given], "n": 1}) == {"path": [kept], "n": 1}


OWN = "from mzprobe.envs import CartPole\n\n\ndef make():\n    return CartPole(time_limit=20)\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module of a user's own, as a process that starts then finds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(text, name="hallway.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        digests._sources_of.cache_clear()

    yield write
    digests._sources_of.cache_clear()
    sys.modules.pop("hallway", None)  # the next test's lies elsewhere


def test_code_of_ones_own_is_known_by_its_sources(own):
    own(OWN)
    first = own_code(["hallway", "mzprobe.envs", "nowhere", "sys"])
    assert [*first] == ["hallway"]
    own(OWN + "# more\n")
    assert own_code(["hallway"]) != first
    own(OWN)
    assert own_code(["hallway"]) == first
    own("", "pack/__init__.py")
    own("one = 1\n", "pack/part.py")
    whole = own_code(["pack.part"])
    assert [*whole] == ["pack"]
    own("two = 2\n", "pack/other.py")
    assert own_code(["pack"]) != whole
    assert "pack" not in sys.modules  # nothing was run to look


def test_nothing_goes_on_where_code_of_ones_own_has_changed(own, run_cli, tiny_arguments):
    own(OWN)
    train = ["train", "cartpole", *tiny_arguments(environment__name="hallway:make", training__steps=20)]
    assert run_cli(*train)[0] == 0
    ask = ["eval-online", "checkpoints/cartpole", "--allow", "hallway", "--episodes", 1]
    assert run_cli(*ask, "--step", 0)[0] == 0
    own(OWN + "# more\n")
    code, _, said = run_cli(*ask, "--step", 20)
    assert (code, "was made with other versions (hallway): " in said) == (2, True)
    code, _, said = run_cli(*train, "--steps", 30)
    assert (code, "was trained with hallway sources " in said) == (2, True)
    assert run_cli(*train, "--steps", 30, "--any-version")[0] == 0
    assert run_cli(*ask, "--overwrite")[0] == 0
