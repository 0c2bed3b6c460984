"""`mzprobe config`: all keys of a configuration, as a file that says the same when it is read again."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mzprobe.config import EnvironmentConfig, RunConfig, keys, load_preset, of_record
from mzprobe.config.writing import as_toml
from mzprobe.errors import UsageError
from mzprobe.toml import shipped


@pytest.mark.parametrize("name", shipped())
def test_what_is_printed_is_the_preset_with_all_its_keys(name, run_cli, tmp_path):
    code, out, _ = run_cli("config", name)
    assert code == 0
    path = tmp_path / "mine.toml"
    path.write_text(out, "utf-8")
    assert load_preset(str(path)) == load_preset(name)
    read = tomllib.loads(out)
    for key, _ in keys(RunConfig):
        section, leaf = key.split(".")
        value = getattr(getattr(load_preset(name), section), leaf, None)  # a network of another kind lacks some
        assert (leaf in read[section]) == (value is not None)


def test_every_key_is_under_its_documentation_and_its_choices():
    said = as_toml(load_preset("cartpole")).splitlines()
    assert said[said.index("steps = 20000") - 1] == "# Training steps (optimiser updates) at which the run is complete."
    assert said[said.index('learning_rate_schedule = "exponential"') - 1].endswith("exponential, constant, cosine.")
    assert "# keep_best = (nothing)" in said
    for before, line in zip(["", *said], said, strict=False):
        assert len(line) <= 110 or "=" in line
        assert " = " not in line or line.startswith("#") or before.startswith("#")


json = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


@given(options=st.dictionaries(st.text(), json, max_size=4))
def test_options_of_any_kind_are_read_back(options):
    config = RunConfig(environment=EnvironmentConfig(name="my_module:make", options=options))
    assert of_record(tomllib.loads(as_toml(config)), "it") == config


def test_an_option_that_is_null_is_refused():
    config = RunConfig(environment=EnvironmentConfig(options={"wall": [1, None]}))
    with pytest.raises(UsageError, match=r"environment\.options\.wall holds null, which no TOML file can say"):
        as_toml(config)


def test_of_an_agent_it_is_what_it_was_trained_with(run_cli, agent, tiny_keys):
    for path in (agent, agent / "step-0000000", agent.parent):
        code, out, _ = run_cli("config", path, "--set", "search.c1=3")
        assert code == 0
        read = tomllib.loads(out)
        assert read["search"]["c1"] == 3
        for key, value in tiny_keys.items():
            section, leaf = key.split(".")
            assert read[section][leaf] == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cartpol",), "there is no preset cartpol: did you mean cartpole?"),
        (("cartpole", "--set", "training.stepz=3"), "did you mean training.steps?"),
        (("nothing",), "nothing holds no checkpoints"),
        (("names.toml",), "names code to run, 'my_module:make'"),
        (("dotted.toml",), "training.steps is written as a key of a section: [training], and below it steps"),
        (("empty.toml",), "empty.toml is empty: write a section such as"),
        (("study.toml",), "is a study of agents, not a preset: run it with mzprobe study study.toml"),
    ],
)
def test_what_is_no_configuration_is_said_in_a_sentence(arguments, said, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "names.toml").write_text('[environment]\nname = "my_module:make"\n', "utf-8")
    (tmp_path / "dotted.toml").write_text('"training.steps" = 3\n', "utf-8")
    (tmp_path / "empty.toml").write_text("# nothing\n", "utf-8")
    (tmp_path / "study.toml").write_text('preset = "cartpole"\nseeds = [0]\n', "utf-8")
    code, out, error = run_cli("config", *arguments)
    assert (code, out) == (2, "")
    assert said in error
    assert len(error.splitlines()) == 1
