import collections
import io
import os
import pickle
import pickletools
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mzprobe.errors import CheckpointError
from mzprobe.sources import archives
from mzprobe.sources.archives import is_archive, read_archive
from mzprobe.sources.pickles import Inert, load

RUN = []  # what a malicious pickle would have called


def called(*arguments):
    RUN.append(arguments)


class Reduced:
    def __reduce__(self):
        return called, ("reduce",)


class Built:
    """Its state is set by a method of the class's own."""

    def __setstate__(self, state):
        called("build", state)

    def __getstate__(self):
        return {"a": 1}


class Settings:
    def __init__(self):
        self.discount, self.actors = 0.997, [1.0, 0.5]


@pytest.fixture(autouse=True)
def nothing_runs():
    RUN.clear()
    yield
    assert not RUN


def read(value, protocol=2, **options):
    return load(pickle.dumps(value, protocol), source="here", **options)


def program(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def saved(path, value, *, legacy=False):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.integers(0, 5))
def test_containers_numbers_and_texts_are_read_as_they_are(value, protocol):
    assert read(value, protocol) == value


def test_numbers_of_numpy_and_counters_are_read():
    value = {"a": np.float64(3.5), "b": np.int32(-7), "c": collections.Counter("aab"), "d": np.bool_(True)}
    for protocol in range(6):
        assert read(value, protocol) == {"a": 3.5, "b": -7, "c": {"a": 2, "b": 1}, "d": True}


def test_an_object_becomes_a_record_of_its_fields():
    for protocol in (2, 4, 5):
        found = read({"config": Settings()}, protocol)["config"]
        assert isinstance(found, Inert)
        assert found.what == f"{__name__}.Settings"
        assert found.fields == {"discount": 0.997, "actors": [1.0, 0.5]}
        assert "not made" in repr(found)


@pytest.mark.parametrize("value", [Reduced(), Built(), [Reduced()], {"a": Built()}, collections.defaultdict(called)])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_what_would_run_becomes_a_record(value, protocol):
    read(value, protocol)


def test_a_name_of_the_system_is_not_imported(tmp_path):
    class Shell:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    found = read(Shell())
    assert found.what == "posix.system"
    assert not list(tmp_path.iterdir())


OLD_INSTANCE = b"(S'touch /tmp/ran'\nios\nsystem\n."


@pytest.mark.parametrize("data", [OLD_INSTANCE, pickle.dumps(called, 0), pickle.dumps(Settings, 2)])
def test_old_instructions_make_records_too(data):
    found = load(data, source="here")
    assert isinstance(found, Inert) or issubclass(found, Inert)


def test_records_of_one_file_are_not_those_of_another():
    first, second = (read(Settings()) for _ in range(2))
    assert type(first) is not type(second)


MAKER = b"ccollections\nOrderedDict\n"
SCALAR = b"cnumpy.core.multiarray\nscalar\n"
REFUSED = {
    "attributes of a maker": program(MAKER, b"N}", b"U\x0c__defaults__", b"N", b"s", b"\x86", b"b"),
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a persistent id": b"Psomewhere\n.",
    "a memo beyond everything": program(b"Nr\xff\xff\xff\x7f"),
    "a text larger than the file": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"abc.",
    "a frame larger than the file": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "a stack without anything": b"\x80\x020.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "bytes after its end": program(b"N") + b"N.",
    "bytes after its end in its frame": b"\x80\x04\x95" + struct.pack("<Q", 3) + b"N.N",
    "bytes in another encoding": program(
        b"c_codecs\nencode\n", b"X\x01\x00\x00\x00a", b"X\x05\x00\x00\x00utf-8", b"\x86R"
    ),
    "a type of numpy that is no number": program(
        SCALAR, b"cnumpy\ndtype\n", b"X\x02\x00\x00\x00O8", b"\x85R", b"C\x08" + bytes(8), b"\x86R"
    ),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_no_checkpoint_does_is_refused_in_one_sentence(data):
    with pytest.raises(CheckpointError) as caught:
        load(data, source="here")
    assert str(caught.value).startswith("here is damaged or not a checkpoint (")
    assert "\n" not in str(caught.value)


def test_nested_lists_in_place_of_a_name_are_not_written_out():
    twice = (b"]q%c" % i + 2 * (b"h%ca" % (i - 1)) for i in range(1, 60))  # each holds the one before, twice
    nested = b"]q\x00" + b"".join(twice)
    with pytest.raises(CheckpointError, match="a name of numpy that is no text"):
        load(program(nested, b"cnumpy\ndtype\n", b"h;\x85R"), source="here")


def test_makers_cannot_be_changed_from_a_pickle():
    attempt = program(MAKER, b"N", b"}", b"U\x09_functionK\x01s", b"\x86", b"b")
    with pytest.raises(CheckpointError):
        load(attempt, source="here")
    assert read(collections.OrderedDict(a=1)) == {"a": 1}


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_read_as_torch_reads_them(tmp_path, legacy):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 5, generator=generator)
    value = {
        "plain": base,
        "transposed": base.T,
        "part": base[1:4, 2],
        "shared": base[2:],
        "parameter": torch.nn.Parameter(base[:2]),
        "empty": torch.zeros(0, 3),
        "single": torch.tensor(4.25),
        **{str(kind): base.to(kind) for kind in (torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8)},
        "bool": base > 0,
        "size": base.shape,
    }
    path = saved(tmp_path / "file", value, legacy=legacy)
    assert is_archive(path.read_bytes()[:64])
    found = read_archive(path)
    assert found.keys() == value.keys()
    for name, tensor in value.items():
        if name == "size":
            assert found[name] == (6, 5)
            continue
        assert found[name].shape == tuple(tensor.shape)
        assert (found[name] == tensor.detach().numpy()).all()


def test_half_precision_of_the_brain_kind_is_widened(tmp_path):
    value = torch.tensor([1.0, -2.5, 3.0e8]).to(torch.bfloat16)
    assert (read_archive(saved(tmp_path / "file", [value]))[0] == value.float().numpy()).all()
    with pytest.raises(CheckpointError, match="bfloat16 in torch's old layout"):
        read_archive(saved(tmp_path / "old", [value], legacy=True))


def test_a_whole_module_is_a_record(tmp_path):
    module = torch.nn.Linear(2, 3)
    found = read_archive(saved(tmp_path / "file", module))
    assert isinstance(found, Inert)
    assert (found.fields["_parameters"]["weight"] == module.weight.detach().numpy()).all()


def rezipped(path, change, *, compress=zipfile.ZIP_STORED):
    """The archive with its files changed by a function of their names and contents."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, data in change(parts).items():
            archive.writestr(name, data)
    path.write_bytes(buffer.getvalue())
    return path


def of_name(parts, end):
    (name,) = [name for name in parts if name.endswith(end)]
    return name


def with_pickle(*replaced):
    """Changes bytes of the pickle in an archive."""

    def change(parts):
        name = of_name(parts, "data.pkl")
        data = parts[name]
        for old, new in replaced:
            assert old in data
            data = data.replace(old, new)
        return {**parts, name: data}

    return change


def _pickle(parts):
    return parts[of_name(parts, "data.pkl")]


SHAPE, STRIDES = b"K\x03K\x04\x86", b"K\x04K\x01\x86"
BROKEN = {
    "no pickle": lambda parts: {name: data for name, data in parts.items() if not name.endswith("data.pkl")},
    "a tensor missing": lambda parts: {name: data for name, data in parts.items() if not name.endswith("data/0")},
    "a tensor cut": lambda parts: {**parts, of_name(parts, "data/0"): b"1234"},
    "of a big-endian machine": lambda parts: {**parts, of_name(parts, "byteorder"): b"big"},
    "bytes after the pickle": lambda parts: {**parts, of_name(parts, "data.pkl"): _pickle(parts) + b"more"},
    "two archives": lambda parts: {**parts, "other/data.pkl": b"N."},
    "sizes beyond the storage": with_pickle((SHAPE, b"K\x7fK\x04\x86")),
    "strides beyond the storage": with_pickle((STRIDES, b"K\x7fK\x01\x86")),
    "a tensor expanded": with_pickle((SHAPE, b"K\x7fK\x7f\x86"), (STRIDES, b"K\x00K\x00\x86")),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_broken_archive_is_refused_in_one_sentence(tmp_path, change):
    path = saved(tmp_path / "file", {"a": torch.arange(12.0).reshape(3, 4)})
    before = path.read_bytes()
    assert rezipped(path, change).read_bytes() != before
    with pytest.raises(CheckpointError, match=r"is damaged or not a checkpoint \("):
        read_archive(path)


def test_a_storage_is_not_copied_over_and_over(tmp_path):
    shared = torch.zeros(1 << 16)
    tied = read_archive(saved(tmp_path / "tied", {f"w{i}": shared[:] for i in range(4)}))
    assert [x.shape for x in tied.values()] == [(1 << 16,)] * 4
    with pytest.raises(CheckpointError, match="its tensors show storage 0 more than 8 times"):
        read_archive(saved(tmp_path / "file", {f"w{i}": shared[:] for i in range(300)}))


def test_an_older_archive_lists_its_storages(tmp_path):
    data = saved(tmp_path / "file", {"a": torch.zeros(3)}, legacy=True).read_bytes()
    broken = tmp_path / "broken"
    stream = io.BytesIO(data)
    for _ in range(4):
        list(pickletools.genops(stream))
    broken.write_bytes(data[: stream.tell()] + pickle.dumps(7, protocol=2))
    with pytest.raises(CheckpointError, match="it does not list its storages"):
        read_archive(broken)


def test_what_follows_an_older_archive_is_left_alone_as_torch_does(tmp_path):
    path = saved(tmp_path / "file", {"a": torch.arange(3.0)}, legacy=True)
    path.write_bytes(path.read_bytes() + b"another archive")
    assert read_archive(path)["a"].tolist() == torch.load(path)["a"].tolist() == [0, 1, 2]


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = saved(tmp_path / "file", {"a": torch.zeros(1 << 20)})
    with pytest.raises(CheckpointError, match="compressed"):
        read_archive(rezipped(path, lambda parts: parts, compress=zipfile.ZIP_DEFLATED))


def test_an_archive_in_an_archive_is_no_checkpoint(tmp_path):
    inner = saved(tmp_path / "inner", {"a": torch.zeros(3)}).read_bytes()
    path = rezipped(
        saved(tmp_path / "file", {"a": torch.zeros(3)}), lambda parts: {**parts, of_name(parts, "data.pkl"): inner}
    )
    with pytest.raises(CheckpointError, match="damaged"):
        read_archive(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"nothing of the kind", b"\x80\x02N."])
def test_another_file_is_refused(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        read_archive(tmp_path / "file")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"does not exist|missing"):
        read_archive(Path(tmp_path / "none"))


@pytest.mark.parametrize("legacy", [False, True])
@given(data=st.data())
def test_damage_anywhere_is_read_or_refused_and_nothing_else(tmp_path_factory, legacy, data):
    path = tmp_path_factory.mktemp("damaged") / "file"
    whole = saved(path, {"a": torch.arange(6.0), "b": [1, "two", Settings()]}, legacy=legacy).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    path.write_bytes(whole[:at] if cut else whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    with suppress(CheckpointError):
        read_archive(path)


# Containers in one another


def often(levels, hold):
    """Containers in one another, each twice in the next one: a file of some bytes a level."""
    one = hold(())
    for _ in range(levels):
        one = hold((one, one))
    return one


def deep(levels, hold):
    one = hold(())
    for _ in range(levels):
        one = hold((one,))
    return one


def with_field(value):
    record = Settings()
    record.discount = value
    return record


BY_MEMO = b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))  # each tuple twice in the next one

ENDLESS = {
    "a tuple as a key": b"\x80\x02}" + BY_MEMO[2:] + b"K\x01s.",
    "a tuple in a list": b"\x80\x02]" + BY_MEMO[2:] + b"a.",
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",  # hashed by calls of calls
    "lists": pickle.dumps(often(60, list), 2),
    "deep lists": pickle.dumps(deep(150, list), 2),
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a record's field": pickle.dumps(with_field(often(60, list)), 2),
}


@pytest.mark.parametrize("data", ENDLESS.values(), ids=ENDLESS)
def test_containers_that_nobody_could_follow_are_refused(data):
    with pytest.raises(CheckpointError, match="hold each other"):
        load(data, source="it")


def test_a_shape_is_of_whole_numbers(tmp_path):
    held = torch.Size((2, 3))
    assert read_archive(saved(tmp_path / "file", {"shape": held}))["shape"] == (2, 3)
    nested = b"\x80\x02ctorch\nSize\n((K\x01K\x02\x86t\x85R."  # of a tuple in a tuple
    with pytest.raises(CheckpointError):
        load(nested, source="it", makers=archives._TENSORS)


def test_what_is_shared_is_read():
    shared = (1.0, ("a", (2,)))
    value = {"first": [shared] * 50, "second": deep(60, list), ("a", ("b", 3)): {frozenset({(1, 2)}): shared}}
    assert load(pickle.dumps(value, 2), source="it") == value
