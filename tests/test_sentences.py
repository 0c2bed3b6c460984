"""One sentence, always: odd names, values, files and factories of one's own."""

import os
import sys

import pytest
from rich.progress import Progress

from mzprobe import envs, networks
from mzprobe.config import RunConfig, load_preset, validated
from mzprobe.console import console, errors, progress_bars
from mzprobe.envs import CartPole
from mzprobe.errors import CheckpointError, MzprobeError, UsageError, said_of_unexpected
from mzprobe.files import read_bytes
from mzprobe.lines import one_line
from mzprobe.settings import load_study, study_runs

FACTORIES = """
import mzprobe
import torch
from mzprobe.networks import MLPNetwork, Support
def none(*arguments, **options): pass
def number(*arguments, **options): return 3
def spec_of_nothing(**options):
    made = mzprobe.envs.CartPole()
    class Bare:
        spec, reset, step, observe, terminal = None, made.reset, made.step, made.observe, made.terminal
    return Bare()
def module(config, spec, generator): return torch.nn.Linear(2, 2)
def breaks(*arguments, **options): raise LookupError("of its own,\\nin two lines")
def takes_nothing(): return mzprobe.envs.CartPole()
def before(config, spec, generator):
    class Before(MLPNetwork):
        def reward_logits(self, next_latents): return self.reward_head(next_latents)
    support = Support(minimum=-10, maximum=10, atoms=21)
    return Before(observation_size=4, num_actions=2, support=support, generator=torch.Generator())
def halved(config, spec, generator):
    support = Support(minimum=-10, maximum=10, atoms=21)
    network = MLPNetwork(observation_size=4, num_actions=2, support=support, generator=torch.Generator())
    network.value_head.bfloat16()
    return network
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """A module `odd` of factories, to be named in configurations."""
    (tmp_path / "odd.py").write_text(FACTORIES)
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "breaks.py").write_text("raise OSError(5, 'of its own')\n")
    (tmp_path / "garbled.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("odd", None)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("odd:none", {}, "gave None, which does not keep the protocol mzprobe.Environment (it lacks spec, reset,"),
        (
            "odd:number",
            {},
            "gave int, which does not keep the protocol mzprobe.Environment (it lacks spec, reset,",
        ),
        ("odd:spec_of_nothing", {}, "(its spec is None, not an EnvironmentSpec)"),
        ("odd:breaks", {}, "cannot be made with its defaults: it raised LookupError: of its own,"),
        ("odd:breaks", {"a b": 1}, "cannot be made with a b=1: it raised LookupError"),
        ("odd:takes_nothing", {"a b": 1}, "has no option 'a b'"),
        ("cartpole", {"": 1}, "has no option ''"),
        ("minatar-breakout", {"strike": "no"}, "takes true or false for 'strike', not 'no'"),
        ("minatar-breakout", {"strike": 0}, "takes true or false for 'strike', not 0"),
        ("cartpole", {"name": 1}, "has no option 'name'"),
        ("cartpole", {"time_limit": "x"}, "cannot be made with time_limit='x'"),
        (".a:b", {}, "'.a' is relative to nothing: name the module as it is imported"),
        (":b", {}, "cannot import ''"),
        ("odd:", {}, "has no callable ''"),
        ("leaves:a", {}, "(it raised SystemExit: 3)"),
        ("breaks:a", {}, "(it raised OSError: [Errno 5] of its own)"),
        ("garbled:a", {}, "(it raised SyntaxError: "),
    ],
)
def test_an_environment_that_cannot_be_made_is_one_sentence(factories, name, options, said):
    with pytest.raises(UsageError) as reason:
        envs.make(name, **options)
    assert said in str(reason.value)
    assert str(reason.value).isprintable()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("odd:none", "gave None, which is no mzprobe.TrainableNetwork (it lacks represent, transition"),
        ("odd:module", "gave Linear, which is no mzprobe.TrainableNetwork (it lacks represent, transition"),
        ("odd:breaks", "cannot be made (it raised LookupError: of its own,"),
        ("odd:takes_nothing", "its factory takes (config, spec, generator)"),
        ("odd:before", "has a reward_logits that does not take a whole step: give it (latents, actions, next_latents)"),
        ("odd:halved", "holds value_head.w1 as bfloat16, which no checkpoint can: make it float32"),
        (".a:b", "'.a' is relative to nothing"),
    ],
)
def test_a_network_that_cannot_be_made_is_one_sentence(factories, kind, said):
    config = RunConfig().network.model_copy(update={"kind": kind})
    with pytest.raises(UsageError) as reason:
        networks.build(config, CartPole().spec, None)
    assert said in str(reason.value)
    assert str(reason.value).isprintable()


# Configurations


def number_keys(*kinds):
    """Dotted keys that take a number of these kinds, or numbers; of all by default."""
    values = RunConfig().model_dump()
    kinds = kinds or (int, float, tuple)
    return [
        f"{section}.{key}"
        for section, given in values.items()
        for key, value in given.items()
        if isinstance(value, kinds) and not isinstance(value, bool)
    ]


@pytest.mark.parametrize("key", [*number_keys(), "training.keep_best"])
def test_a_boolean_is_no_number(key):
    for value in ("true", "[true]", "[[0, true]]"):
        with pytest.raises(UsageError, match=f"{key} is not valid"):
            load_preset("cartpole", [f"{key}={value}"])


@pytest.mark.parametrize("key", number_keys(int))
def test_a_count_that_nobody_means_is_refused(key):
    for value in (10**30, -(10**30)):
        with pytest.raises(UsageError, match=f"{key} is not valid"):
            load_preset("cartpole", [f"{key}={value}"])


@pytest.mark.parametrize("ratio", [1e-300, 1e-7, 1001, 1e308])
def test_a_ratio_by_which_no_step_comes_or_only_steps_is_refused(ratio):
    with pytest.raises(UsageError, match=r"training\.training_ratio is not valid: Input should be (less|greater) than"):
        load_preset("cartpole", [f"training.training_ratio={ratio}"])
    for taken in (1e-6, 1000):
        assert load_preset("cartpole", [f"training.training_ratio={taken}"]).training.training_ratio == taken


@pytest.mark.parametrize("key", ["network.support_minimum", "network.support_maximum", "training.learning_rate"])
def test_a_number_that_float32_does_not_hold_is_refused(key):
    for value in (1e300, -1e300):
        with pytest.raises(UsageError, match=f"{key} is not valid"):
            load_preset("cartpole", [f"{key}={value}"])


@pytest.mark.parametrize("key", ["training.priority_alpha", "training.priority_beta"])
def test_an_exponent_whose_weights_may_be_infinite_is_refused(key):
    for value in (2.5, 8, 11):
        with pytest.raises(UsageError, match=f"{key} is not valid: Input should be less than or equal to 2"):
            load_preset("cartpole", [f"{key}={value}"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"a": float("nan")}, "nan is no finite number"),
        ({"a": [2**63]}, "more than 64 bits"),
        ({"a": {"b": "\udcff"}}, "bytes that are no text"),
        ({"\udcff": 1}, "bytes that are no text"),
        ({"a": {1: 2}}, "1 is no text, as keys are"),
        ({"a": {1, 2}}, "a set is no text"),
    ],
)
def test_an_option_that_no_record_holds_is_refused(options, said):
    with pytest.raises(UsageError) as reason:
        validated(RunConfig, {"environment": {"options": options}}, "here")
    assert said in str(reason.value)


@pytest.mark.parametrize("deep", ["[" * n + "]" * n for n in (30, 400, 5000)])
def test_deep_nesting_is_one_sentence(tmp_path, deep):
    with pytest.raises(UsageError, match="nested"):
        load_preset("cartpole", [f"environment.options={deep}"])
    (tmp_path / "a.toml").write_text(f"[environment.options]\na = {deep}")
    (tmp_path / "b.toml").write_text("[environment.options]\n" + "a." * len(deep) + "b = 1")
    for name in ("a.toml", "b.toml"):
        with pytest.raises(UsageError, match=r"toml is not valid TOML: it is nested"):
            load_preset(str(tmp_path / name))


def test_a_number_of_thousands_of_digits_is_one_sentence(tmp_path):
    digits = "9" * 5000
    (tmp_path / "a.toml").write_text(f"[training]\nsteps = {digits}")
    for preset, words in ((str(tmp_path / "a.toml"), []), ("cartpole", [f"training.steps={digits}"])):
        with pytest.raises(UsageError) as reason:
            load_preset(preset, words)
        assert len(str(reason.value)) < 400


@pytest.mark.parametrize("content", ["environment = 3", "[environment]\nname = 3", "training = [1]", "network = true"])
def test_a_section_that_is_none_is_one_sentence(tmp_path, content):
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(UsageError, match=r"a\.toml: .* is not valid"):
        load_preset(str(tmp_path / "a.toml"))


def test_bytes_that_are_no_text_are_no_toml(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"[training]\nsteps = 3 # \xff")
    with pytest.raises(UsageError, match=r"a\.toml is not valid TOML"):
        load_preset(str(tmp_path / "a.toml"))


@pytest.mark.parametrize(("stem", "variant"), [("a", "b" * 200), ("a" * 201, ""), (" .a".strip(), "")])
def test_a_study_whose_runs_no_folder_can_be_named_by_is_refused(tmp_path, stem, variant):
    path = tmp_path / f"{stem}.toml"
    path.write_text('preset = "cartpole"\nseeds = [0]\n' + (f"[variants.{variant}]\n" if variant else ""))
    settings, _ = load_study(str(path))
    with pytest.raises(UsageError, match="a run cannot be named"):
        study_runs(str(path), settings)


# Files


def odd_file(folder, kind):
    path = folder / "odd"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to({"a device": "/dev/zero", "a broken link": "nowhere", "a loop": "odd"}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a pipe", "is not a file: copy it"),
        ("a device", "is not a file: copy it"),
        ("a folder", "is not a file: copy it"),
        ("a broken link", "does not exist: copy it"),
        ("a loop", "cannot be read (Too many levels of symbolic links): copy it"),
    ],
)
def test_what_is_no_file_is_not_read(tmp_path, kind, said):
    path = odd_file(tmp_path, kind)
    with pytest.raises(CheckpointError) as reason:
        read_bytes(path, error=CheckpointError, remedy="copy it")
    assert str(reason.value) == f"{path} {said}"


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
@pytest.mark.parametrize("command", ["verify", "seal"])
def test_a_pipe_is_nothing_to_look_at(tmp_path, run_cli, kind, command):
    code, _, said = run_cli(command, odd_file(tmp_path, kind))
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_place_that_the_system_refuses_is_one_sentence(tmp_path, run_cli):
    name = "x" * 5000
    for words in (["eval-online", name], ["verify", name], ["study", f"{name}.toml"], ["figures", "a", "--out", name]):
        code, _, said = run_cli(*words)
        assert code in (1, 2)
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert "an unexpected" not in said


# What is shown


@pytest.mark.parametrize("text", ["[/x]", "[bold]x[/bold]", ":smile:", "[link=x]"])
def test_names_are_shown_as_they_are(capsys, text, monkeypatch):
    for out in (console, errors):
        with out.capture() as shown:
            out.print(text)
        assert shown.get() == f"{text}\n"
    bars = progress_bars()
    assert isinstance(bars, Progress)
    bars.add_task(text, note=text, total=1)
    (task,) = bars.tasks
    rendered = [column.render(task) for column in bars.columns]
    assert [str(one) for one in rendered if str(one) == text] == [text, text]


def test_a_line_is_one_line():
    assert one_line("a\nb\t\x1b[31m\udcff\u2028c é [x]") == "a\\nb\\t\\x1b[31m\\udcff\\u2028c é [x]"
    long = one_line("begin" + "x" * 10**6 + ": do this")
    assert long.startswith("begin")
    assert long.endswith(": do this")
    assert len(long) < 2100
    assert str(MzprobeError("a\nb")) == "a\\nb"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        ValueError("array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size."),
    ],
)
def test_short_memory_is_said_as_that(error):
    assert said_of_unexpected(error).startswith("there is not enough memory for this: ask for less at a time")
    assert "an unexpected ValueError (x)" in said_of_unexpected(ValueError("x"))


def test_short_memory_is_no_damage(tmp_path, agent, monkeypatch):
    from mzprobe.checkpoints import read_checkpoint, steps_of

    def short(*_arguments, **_options):
        raise MemoryError

    for inside in ("mzprobe.checkpoints.load_arrays", "mzprobe.checkpoints.json.loads"):
        with monkeypatch.context() as patch:
            patch.setattr(inside, short)
            with pytest.raises(MemoryError):
                read_checkpoint(steps_of(agent)[0])
