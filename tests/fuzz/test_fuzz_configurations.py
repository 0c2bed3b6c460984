"""Presets, studies and `--set` words with anything in them: a configuration that can be recorded, or one sentence."""

import json
from importlib import resources

from spoiling import NUMBERS, inputs, is_a_sentence, tried

from mzprobe.config import RunConfig, keys, load_preset
from mzprobe.errors import MzprobeError
from mzprobe.files import canonical_json
from mzprobe.settings import StudyConfig, load_study, study_runs
from mzprobe.toml import shipped

TEXTS = ["", "x", "a b", "[/x]", "\n", "\t", "\u202e", "nul\0", "\udcff", ".a:b", ":b", "a:", "json:loads", "gym:"]
TEXTS += ["é" * 300, "cartpole", "mlp", "offline"]
LONG = ["9" * 5000, "-" + "9" * 5000, "1e400", "-1e400", "1e-300", "inf", "nan", "Infinity", "NaN", "-0.0", "1_000"]
DEEP = ["[" * n + "]" * n for n in (30, 400, 3000)] + ['{"a":' * n + "1" + "}" * n for n in (30, 400, 3000)]
ODD = ["true", "false", "null", "''", '"x"', "[]", "{}", "[true]", "[1, [2]]", '{"a": 1, "a": 2}', "1979-05-27", "0x10"]
ODD += ["x" * 100_000, "[[0, 1.0]]", "[[0, true]]"]
LITERALS = [*map(str, NUMBERS), *LONG, *DEEP, *ODD, *(json.dumps(text) for text in TEXTS)]
KEYS = [key for key, _ in keys(RunConfig)]
ODD_KEYS = ["", ".", "..", "a", "training", "training.", "training..steps", ".".join("a" * 1200), "[/x].y", "a\nb"]
ODD_KEYS += ["environment.options." + end for end in ("x.y", "", "a." * 300 + "b")] + ["environment.name.x", "\udcff"]


def recordable(config):
    """What is taken is what a record gives back."""
    recorded = json.loads(canonical_json(config.model_dump(mode="json")).encode())
    assert type(config).model_validate(recorded) == config
    return "taken"


def one_of(generator, things):
    return things[generator.integers(len(things))]


def test_words_of_set():
    def word(generator):
        key = one_of(generator, KEYS if generator.random() < 0.7 else ODD_KEYS)
        return f"{key}={one_of(generator, [*LITERALS, *TEXTS])}"

    def set_words(generator, seed):
        words = [word(generator) for _ in range(generator.integers(1, 4))]
        try:
            return "set", recordable(load_preset("cartpole", words))
        except MzprobeError as reason:
            return "set", is_a_sentence(reason)

    assert tried("words", inputs(200, 0.1), set_words) == {"taken", "refused"}


# Files


def other_value(generator, lines):
    place = one_of(generator, [i for i, line in enumerate(lines) if "=" in line])
    lines[place] = lines[place].partition("=")[0] + "= " + one_of(generator, LITERALS)


def other_key(generator, lines):
    place = one_of(generator, [i for i, line in enumerate(lines) if "=" in line])
    key = one_of(generator, [*ODD_KEYS, *TEXTS])
    lines[place] = (key if generator.random() < 0.5 else json.dumps(key)) + " =" + lines[place].partition("=")[2]


def another_line(generator, lines):
    value = one_of(generator, LITERALS)
    made = [f"{one_of(generator, KEYS)} = {value}", f"[{one_of(generator, ODD_KEYS)}]", value, "a." * 1200 + "b = 1"]
    made += [
        "[environment]",
        "[environment.options]\n" + "a." * 600 + "b = 1",
        "environment = 3",
        "[[training]]",
        "\0",
    ]
    lines.insert(generator.integers(len(lines) + 1), one_of(generator, made))


def doubled(generator, lines):
    lines.insert(generator.integers(len(lines) + 1), one_of(generator, lines))


def gone(generator, lines):
    del lines[generator.integers(len(lines))]


def spoilt_bytes(generator, lines):
    data = bytearray("\n".join(lines).encode("utf-8", "surrogateescape"))
    for _ in range(generator.integers(1, 9)):
        data[generator.integers(len(data))] = generator.integers(256)
    lines[:] = [data.decode("utf-8", "surrogateescape")]


CHANGES = (other_value, other_value, other_key, another_line, doubled, gone, spoilt_bytes)


def spoil(generator, path, text):
    """Writes a text changed once or thrice; gives the name of the first change."""
    lines, done = text.splitlines(), []
    for _ in range(generator.choice([1, 1, 3])):
        if lines:
            done.append(one_of(generator, CHANGES))
            done[-1](generator, lines)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    return done[0].__name__


def texts_of(kind):
    return [resources.files("mzprobe").joinpath(kind, f"{name}.toml").read_text("utf-8") for name in shipped(kind)]


def test_presets(tmp_path):
    path, texts = tmp_path / "a.toml", texts_of("presets")

    def preset(generator, _seed):
        what = spoil(generator, path, one_of(generator, texts))
        try:
            return what, recordable(load_preset(str(path)))
        except MzprobeError as reason:
            return what, is_a_sentence(reason)

    assert tried("presets", inputs(120, 0.05), preset) == {"taken", "refused"}


def test_studies(tmp_path):
    path, texts = tmp_path / "a.toml", texts_of("presets/studies")

    def study(generator, _seed):
        what = spoil(generator, path, one_of(generator, texts))
        try:
            settings, config = load_study(str(path))
            for run in study_runs(str(path), settings):
                recordable(run.config)
            assert isinstance(settings, StudyConfig)
            return what, recordable(config)
        except MzprobeError as reason:
            return what, is_a_sentence(reason)

    assert tried("studies", inputs(80, 0.02), study) == {"taken", "refused"}
