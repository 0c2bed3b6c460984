"""What records say of the code that made something, and what they leave out: where files lie on somebody's disk."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mzprobe

SHORT = 12  # digits of a digest that people are shown
OWN = "sources "  # before the digest of a user's own code, where versions of packages have their number
_INSIDE = re.compile(r"(?:seed|step)-\d+")  # folders that say little without the one that they lie in


@cache
def code() -> str:
    """SHA-256 of the package's sources, Python and presets, by name and content: which code made something.

    The same commit has the same one wherever it lies, installed or not.
    """
    root = Path(mzprobe.__file__).parent
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.suffix in (".py", ".toml")}
    return _digest_of(found)


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a recorded configuration; empty where other code's has none, or another thing of that name."""
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def own_code(modules: Iterable[str]) -> dict[str, str]:
    """What a record's versions say of code of a user's own: of each module the digest of its sources.

    Args:
        modules: names as they are imported. Of a package all its sources count; modules of mzprobe have `code`.
    """
    names = dict.fromkeys(module.partition(".")[0] for module in modules)
    found = {name: _sources_of(name) for name in names if name != mzprobe.__name__}
    return {name: f"{OWN}{digest[:SHORT]}" for name, digest in found.items() if digest}


@cache
def _sources_of(module: str) -> str:
    """SHA-256 of a module's or a package's Python files, as this process found them; nothing is run to find them."""
    try:
        spec = find_spec(module)  # of a name without dots; it imports nothing
    except ValueError:  # a module that was loaded without one
        return ""
    if spec is None or not (spec.submodule_search_locations or spec.has_location):
        return ""
    try:
        if spec.submodule_search_locations:
            roots = [Path(place) for place in spec.submodule_search_locations]
            found = [(root, path) for root in roots for path in root.rglob("*.py") if path.is_file()]
            return _digest_of({path.relative_to(root).as_posix(): path for root, path in found})
        return _digest_of({module: Path(str(spec.origin))})
    except OSError:  # such as in an archive
        return ""


def _digest_of(files: Mapping[str, Path]) -> str:
    """SHA-256 of files by name and content; ends of lines are no difference."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        data = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def portable(text: str) -> str:
    """A word of a command or a configuration as records keep it: of an absolute path only the end that names it."""
    option, sign, value = text.partition("=") if text.startswith("--") else ("", "", text)
    path = Path(value)
    if not path.is_absolute() or len(path.parts) < 2:
        return text
    first = len(path.parts) - 1
    while first > 1 and _INSIDE.fullmatch(path.parts[first]):
        first -= 1
    return f"{option}{sign}{'/'.join(path.parts[first:])}"


def without_places(values: Any) -> Any:
    """Nested values without absolute paths: where somebody keeps files decides no number."""
    if isinstance(values, dict):
        return {key: without_places(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_places(value) for value in values]
    return portable(values) if isinstance(values, str) else values


def codes_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The digests of the code that made tables, each once; none where an older mzprobe did, which kept none."""
    return list(dict.fromkeys(one for record in records for one in record.get("code", {}).values()))
