"""Files for systemd: the shipped ones fitted to an installation, and those on disk that are ours to change.

A file of ours begins with a line that has the SHA-256 of the rest: one that was edited by hand is seen.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

_MARK = "# Written by fetchd daemon install; what is local belongs into a drop-in. sha256:"
_PLAIN = re.compile(r"[\w/.+@~,-]+")


class UnitError(Exception):
    """The files cannot be written or removed as asked for; the message says why and what to do."""


def shipped(name: str) -> str:
    """The text of a shipped file."""
    return files("fetchd.systemd").joinpath(name).read_text(encoding="utf-8")


def fitted(text: str, values: Mapping[str, str]) -> str:
    """A unit with other values for some of the keys that it has, each of them once."""
    for key, value in values.items():
        before, found, rest = f"\n{text}".partition(f"\n{key}=")
        assert found, f"there is no {key}"
        text = f"{before}{found}{value}\n{rest.partition(chr(10))[2]}".removeprefix("\n")
    return text


def plain(path: Path) -> str:
    """A path as a unit takes it without quoting, or `UnitError`."""
    if not _PLAIN.fullmatch(str(path)):
        raise UnitError(f"{str(path)!r} has characters that cannot be in a unit's paths: use another place")
    return str(path)


def marked(text: str) -> str:
    """The text as it is written."""
    return f"{_MARK}{_digest(text)}\n{text}"


def is_ours(path: Path) -> bool:
    """Whether what is at this path was written by us, and by nobody since. Raises OSError."""
    if path.is_symlink() or not path.is_file():
        return False
    first, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    return first == _MARK + _digest(rest)


def write(path: Path, text: str) -> None:
    """Put a file in its place, whole, readable for everybody."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(prefix=".fetchd-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
