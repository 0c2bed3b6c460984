"""The machine is named where bits can depend on it, and nowhere else."""

import pytest

import mzprobe
from mzprobe.provenance import machine
from mzprobe.recording import code, portable, without_places


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
