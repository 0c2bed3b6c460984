"""What records state about the code that made an output, and what they omit: where files lie on a disk."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mzprobe

SHORT = 12  # digits of a digest that is shown to the user
OWN = "sources "  # prefix of the digest of a user's own code, which stands in place of a version
_INSIDE = re.compile(r"(?:seed|step)-\d+")  # folders whose names need that of their parent


@cache
def code() -> str:
    """Returns the SHA-256 of the package's Python files and presets, by name and content.

    It identifies the code that made an output: the same commit has the same digest everywhere, installed or not.
    """
    root = Path(mzprobe.__file__).parent
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.suffix in (".py", ".toml")}
    return _digest_of(found)


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns a section of a recorded configuration; empty if it is missing or no section, as in other code's."""
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def own_code(modules: Iterable[str]) -> dict[str, str]:
    """Returns what takes the place of versions for a user's own modules: a digest of the sources of each.

    Modules whose sources are not found are left out, and so are those of mzprobe, which have `code`.

    Args:
        modules: names as they are imported. For a module in a package, all sources of the top-level package count.
    """
    names = dict.fromkeys(module.partition(".")[0] for module in modules)
    found = {name: _sources_of(name) for name in names if name != mzprobe.__name__}
    return {name: f"{OWN}{digest[:SHORT]}" for name, digest in found.items() if digest}


@cache
def _sources_of(module: str) -> str:
    """Returns the SHA-256 of the Python files of a top-level module or package, or "" if there are none to read.

    The result is that of the first call in this process. Nothing is imported.
    """
    try:
        spec = find_spec(module)  # imports nothing, since the name has no dots
    except ValueError:  # a module that was loaded without a spec
        return ""
    if spec is None or not (spec.submodule_search_locations or spec.has_location):
        return ""
    try:
        if spec.submodule_search_locations:
            roots = [Path(place) for place in spec.submodule_search_locations]
            found = [(root, path) for root in roots for path in root.rglob("*.py") if path.is_file()]
            return _digest_of({path.relative_to(root).as_posix(): path for root, path in found})
        return _digest_of({module: Path(str(spec.origin))})
    except OSError:  # for example, inside an archive
        return ""


def _digest_of(files: Mapping[str, Path]) -> str:
    """Returns the SHA-256 of files by name and content, regardless of the style of line endings."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        data = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def portable(text: str) -> str:
    """Returns a word of a command or configuration as records keep it: an absolute path is cut to its last parts.

    These are the name and, for a folder `seed-*` or `step-*`, also the folders that it lies in.
    """
    option, sign, value = text.partition("=") if text.startswith("--") else ("", "", text)
    path = Path(value)
    if not path.is_absolute() or len(path.parts) < 2:
        return text
    first = len(path.parts) - 1
    while first > 1 and _INSIDE.fullmatch(path.parts[first]):
        first -= 1
    return f"{option}{sign}{'/'.join(path.parts[first:])}"


def without_places(values: Any) -> Any:
    """Returns nested values with absolute paths cut by `portable`, since the place of a file affects no result."""
    if isinstance(values, dict):
        return {key: without_places(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_places(value) for value in values]
    return portable(values) if isinstance(values, str) else values


def codes_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the digests of the code that made tables, each once; records of older versions have none."""
    return list(dict.fromkeys(one for record in records for one in record.get("code", {}).values()))
