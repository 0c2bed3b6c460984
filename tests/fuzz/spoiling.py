"""What spoils files and values, for all fuzz tests, and how often it is done.

`MZPROBE_FUZZ=10000` takes so many inputs in all instead of a few; `-s` shows what became of them.
"""

import json
import os
from collections import Counter

import numpy as np

from mzprobe.files import sealed

NUMBERS = [-1, 0, 1, 2, 3, 4, 5, 255, 2**31, 2**40, 10**20, -(2**63), 1.5, 1e308, float("nan"), float("inf")]
NUMBERS_IN_BYTES = [0, 1, 2, 3, 127, 255, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
VALUES = [*NUMBERS, True, None, "", "x", "hdf5", "arrow", "parquet", "Box", "Discrete", "Tuple", [], {}, [[]], "\ud800"]
VALUES += ["cartpole", "tabular", "mlp", "os:getcwd", "gym:os:getcwd", "gym:Nowhere-v0", ".a:b", "[/x]", "a\nb", "/"]


def inputs(few, share):
    """How many inputs a test takes: a few, or its share of all that are asked for."""
    asked = os.environ.get("MZPROBE_FUZZ")
    return few if asked is None else round(int(asked) * share)


def tried(kind, count, try_one):
    """Tries so many inputs of a kind, each with its own generator, and shows what became of them.

    Args:
        kind: their name; it seeds them too.
        count: inputs.
        try_one: takes a generator and the number of the input; gives what it did and what became of it.
    """
    seen = Counter()
    for seed in range(count):
        try:
            seen[try_one(np.random.default_rng([seed, *kind.encode()]), seed)] += 1
        except BaseException as reason:
            reason.add_note(f"{kind}, seed {seed}")
            raise
    print(f"\n{kind}: " + ", ".join(f"{' '.join(what)} {number}" for what, number in sorted(seen.items())))
    return {what for _, what in seen}


def is_a_sentence(reason):
    """An error of mzprobe's says what to do, in one line that can be read."""
    said = str(reason)
    assert "\n" not in said
    assert len(said) > 20
    assert len(said) < 3000
    return "refused"


# What is done to files; each takes a generator, and the files that there are


def bits(generator, files):
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    for _ in range(generator.integers(1, 9)):
        data[generator.integers(len(data))] ^= 1 << generator.integers(8)
    path.write_bytes(data)


def number(generator, files):
    """Overwrites 1, 4 or 8 bytes with a number that some length or offset may be."""
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    size = int(generator.choice([1, 4, 8]))
    value = int(NUMBERS_IN_BYTES[generator.integers(len(NUMBERS_IN_BYTES))])
    place = int(generator.integers(max(1, len(data) - size)))
    data[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    path.write_bytes(data)


def cut(generator, files):
    path = generator.choice(files)
    data = path.read_bytes()
    path.write_bytes(data[: generator.integers(len(data))])


def longer(generator, files):
    path = generator.choice(files)
    path.write_bytes(path.read_bytes() + generator.bytes(generator.integers(1, 200)))


def moved(generator, files):
    """Puts a piece of a file in another place of it."""
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    size = int(generator.integers(1, 1 + len(data) // 4))
    one, other = generator.integers(len(data) - size, size=2)
    data[one : one + size] = data[other : other + size]
    path.write_bytes(data)


def zeroed(generator, files):
    path = generator.choice(files)
    data = bytearray(path.read_bytes())
    first = int(generator.integers(len(data)))
    size = int(generator.integers(1, 64))
    data[first : first + size] = bytes(len(data[first : first + size]))
    path.write_bytes(data)


def swapped(generator, files):
    one, other = generator.choice(files, 2, replace=False)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def gone(generator, files):
    generator.choice(files).unlink()


def changed(generator, value):
    if isinstance(value, str) and value.startswith("{"):
        return json.dumps(changed(generator, json.loads(value)))
    if isinstance(value, (dict, list)) and value and generator.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[generator.integers(len(keys))]
        if generator.random() < 0.2:
            del value[key]
        else:
            value[key] = changed(generator, value[key])
        return value
    if isinstance(value, int) and generator.random() < 0.3:
        return value + int(generator.integers(-2, 3))
    picked = VALUES[generator.integers(len(VALUES))]
    for _ in range(int(generator.choice([0, 0, 0, 1, 400]))):
        picked = [picked]
    return picked


BYTES = (bits, number, cut, longer, moved, zeroed, swapped, gone)


def resealed(generator, path):
    """Changes, drops or doubles a value somewhere in a record, and seals it as if it were mzprobe's own."""
    record = json.loads(path.read_bytes())
    del record["record_sha256"]
    record = changed(generator, record)
    try:
        path.write_bytes(sealed(record))
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # no record can hold that, so as JSON without a seal
        path.write_text(json.dumps(record, default=str), "utf-8")
