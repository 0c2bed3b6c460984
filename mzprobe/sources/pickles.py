"""Reads a pickle without running anything that it names.

A pickle is a program whose instructions call what it names. Here a name stands for one of the few harmless functions in
`MAKERS`, or for an `Inert` record of what would have been made. Nothing is imported, and no code of the file's choice
runs. Instructions that could fill the memory or reach objects of this process are refused before the first one runs.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from mzprobe.errors import CheckpointError

LARGEST = 1 << 26  # bytes of a pickle without its arrays; published ones have some thousands
_REFUSED = ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")  # they refer to objects outside of the file
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET")
_SCALARS = "biufc?"  # kinds of numpy types that are numbers
_CONTAINERS = (dict, list, tuple, set, frozenset)
_TUPLES = 10_000  # tuples nested in a tuple: hashing it takes as many calls, which may be as deep
_PARTS = 10_000_000  # parts of a container, nested ones included; published files have some thousands
_DEPTH = 100  # levels of nested containers; published files have about ten

Maker = Callable[..., Any]


class Inert:
    """Record of an object that was not made.

    Attributes:
        arguments: arguments that its class would have been called with.
        fields: its attributes by name, if the pickle states them.
        items: items that would have been put in it.
    """

    what: ClassVar[str] = ""  # module and class

    def __new__(cls, *arguments: Any, **_: Any) -> "Inert":
        """Makes a record; positional arguments are kept and not used."""
        made = super().__new__(cls)
        made.arguments = arguments
        made.fields = {}
        made.items = []
        return made

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.fields: dict[str, Any]
        self.items: list[Any]

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.fields.update({str(name): value for name, value in part.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        """Keeps an item of a list, or of a set."""
        self.items.append(item)

    add = append

    def __repr__(self) -> str:
        return f"<{self.what}, not made>"


class _Maker:
    """A harmless function as the pickle sees it. Unlike a function, it has no attributes that a pickle could change."""

    __slots__ = ("_function",)

    def __init__(self, function: Maker) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_function" or hasattr(self, "_function"):
            raise pickle.UnpicklingError(f"it sets {name} of what is no record")
        super().__setattr__(name, value)


def load(data: bytes, *, source: object, makers: Mapping[str, Maker] | None = None, store: Maker | None = None) -> Any:
    """Returns what a pickle holds: containers, numbers, texts, numpy scalars, and `Inert` records of the rest.

    Args:
        data: the pickle, with nothing after it.
        source: the file, for errors.
        makers: functions in the place of named ones, by `module name`, in addition to `MAKERS`.
        store: returns an object outside of the pickle by its persistent id; by default such references are refused.

    Raises:
        CheckpointError: if it is damaged, too large, followed by other bytes, or does what no checkpoint needs.
    """
    stream = io.BytesIO(data)
    found = load_from(stream, source=source, makers=makers, store=store)
    if stream.tell() < len(data):
        raise damaged(source, "more bytes follow its pickle")
    return found


def load_from(
    stream: io.BytesIO, *, source: object, makers: Mapping[str, Maker] | None = None, store: Maker | None = None
) -> Any:
    """Reads a pickle from a stream that may continue after it, as `load` does; leaves the stream at its end."""
    begin = stream.tell()
    _look_through(stream, source)
    end = stream.tell()
    stream.seek(begin)
    try:
        found = _Reader(stream, {**MAKERS, **(makers or {})}, store).load()
        _refuse_endless(found)
        stream.seek(end)  # a last frame may be longer
        return found
    except CheckpointError:
        raise
    except MemoryError:
        raise
    except Exception as reason:  # whatever the file's instructions make the reader raise
        raise damaged(source, str(reason) or type(reason).__name__) from None


def damaged(source: object, reason: str) -> CheckpointError:
    """Returns the error for a file that cannot be read."""
    return CheckpointError(f"{source} is damaged or not a checkpoint ({reason}): copy it again, or give another file")


def _look_through(stream: io.BytesIO, source: object) -> None:
    """Refuses instructions that reach outside of the file or ask for memory that it does not fill.

    Call it before anything is built.
    """
    begin, count = stream.tell(), 0
    try:
        for operation, argument, position in pickletools.genops(stream):
            count += 1
            if position is not None and position - begin > LARGEST:
                raise damaged(source, f"its pickle is larger than {LARGEST:,} bytes")
            if operation.name in _REFUSED:
                raise damaged(source, f"its pickle has the instruction {operation.name}")
            if operation.name == "FRAME" and int(argument or 0) > stream.getbuffer().nbytes - (position or 0):
                raise damaged(source, "its pickle has a frame that is cut off")
            if operation.name in _MEMO and argument is not None and int(argument) > count:
                raise damaged(source, "its pickle numbers more objects than it can hold")
    except (CheckpointError, MemoryError):
        raise
    except Exception as reason:  # genops raises errors of many classes on other bytes
        raise damaged(source, str(reason) or type(reason).__name__) from None


class _Reader(pickle._Unpickler):
    """Unpickler that resolves names to makers or `Inert` classes, which belong to this load alone.

    It is the one written in Python, which allows every tuple to be checked when it is made. A tuple that serves as a
    key or a member is hashed at once, by code that has no limit to its depth and visits shared parts every time.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**pickle._Unpickler.dispatch}
    stack: list[Any]

    def __init__(self, stream: io.BytesIO, makers: Mapping[str, Maker], store: Maker | None) -> None:
        super().__init__(stream)
        self._weights: dict[int, tuple[Any, int]] = {}  # by id, of tuples that hold tuples; keeps them alive
        self._makers = {name: _Maker(maker) for name, maker in makers.items()}
        self._inert: dict[str, type[Inert]] = {}
        self._store = store

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Returns the maker of that name, or a class of records; nothing is imported."""
        name = f"{module_name} {global_name}"
        if name in self._makers:
            return self._makers[name]
        if name not in self._inert:
            self._inert[name] = type("Inert", (Inert,), {"what": f"{module_name}.{global_name}"})
        return self._inert[name]

    def _weigh(self) -> None:
        """Refuses the tuple that has just been made if it holds too many, each counted as often as it occurs."""
        made = self.stack[-1]
        inside = [self._weights.get(id(part), (part, 1))[1] for part in made if isinstance(part, tuple)]
        if inside:
            weight = 1 + sum(inside)
            if weight > _TUPLES:
                raise pickle.UnpicklingError("its tuples hold each other too often")
            self._weights[id(made)] = made, weight

    def persistent_load(self, pid: Any, /) -> Any:
        """Returns an object of the archive around the pickle, by its persistent id."""
        if self._store is None:
            raise pickle.UnpicklingError("it refers to another file")
        return self._store(pid)


def _weighed(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wraps an instruction that makes a tuple, so that the tuple is then weighed."""

    def loaded(reader: Any) -> None:
        load(reader)
        reader._weigh()

    return loaded


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Reader.dispatch[_code[0]] = _weighed(_Reader.dispatch[_code[0]])


def _refuse_endless(found: Any) -> None:
    """Refuses containers that hold each other too often, too deep or in a circle.

    What is shared counts as often as it occurs, since printing or comparing it would visit it every time.
    """
    sizes: dict[int, int] = {}  # of containers by id, 0 while their parts are counted; a record counts as one
    roots = [found]
    while roots:
        todo, depth = [(roots.pop(), False)], 0
        while todo:
            one, counted = todo.pop()
            if isinstance(one, Inert):
                roots += [] if id(one) in sizes else [one.arguments, one.fields, one.items]
                sizes[id(one)] = 1
            elif counted:
                depth -= 1
                sizes[id(one)] = 1 + sum(sizes.get(id(part), 1) for part in _parts(one))
                if sizes[id(one)] > _PARTS:
                    raise pickle.UnpicklingError("its containers hold each other too often")
            elif isinstance(one, _CONTAINERS) and not sizes.get(id(one)):
                depth += 1
                if id(one) in sizes or depth > _DEPTH:
                    raise pickle.UnpicklingError("its containers hold each other without end")
                sizes[id(one)] = 0
                todo.append((one, True))
                todo += [(part, False) for part in _parts(one) if isinstance(part, (*_CONTAINERS, Inert))]


def _parts(container: Any) -> list[Any]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else list(container)


class _Dtype:
    """A numpy type while the pickle builds it: first `dtype('f8', ...)`, then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def made(self) -> np.dtype[Any]:
        found = np.dtype(self.code)
        if found.kind not in _SCALARS or found.subdtype is not None:
            raise pickle.UnpicklingError(f"numpy's type {self.code} is no number")
        return found.newbyteorder(">") if self.order == ">" else found


def _text(value: Any) -> str:
    """Returns a text, and refuses others: `str` of nested containers could exceed any memory."""
    if not isinstance(value, str):
        raise pickle.UnpicklingError("a name of numpy that is no text")
    return value


def _scalar(kind: _Dtype, data: Any) -> Any:
    return np.frombuffer(_bytes(data), kind.made(), count=1)[0].item()


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("numbers of numpy that are no bytes")
    return data


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Returns bytes from the text that old protocols keep them as."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")


def _counted(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


MAKERS: dict[str, Maker] = {
    "collections OrderedDict": OrderedDict,
    "collections Counter": _counted,
    "collections defaultdict": lambda *_: {},
    "builtins set": lambda items=(): set(items),
    "builtins frozenset": lambda items=(): frozenset(items),
    "__builtin__ set": lambda items=(): set(items),
    "__builtin__ frozenset": lambda items=(): frozenset(items),
    "__builtin__ bytes": lambda: b"",  # how old protocols write empty bytes
    "_codecs encode": _encoded,
    "numpy.core.multiarray scalar": _scalar,
    "numpy._core.multiarray scalar": _scalar,
    "numpy dtype": _Dtype,
}
