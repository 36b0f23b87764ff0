"""Oldest versions that do: for the start of a daemon, and for the doctor, which may lack packages."""

import os
import sqlite3
import sys
from collections.abc import Iterator

FLOORS = {
    "pyzmq": (26,), "msgpack": (1, 2, 3), "msgspec": (0, 19), "requests": (2, 32, 4), "urllib3": (2, 8, 0),
    "psutil": (5, 9), "click": (8, 1), "rich": (13,),
}  # fmt: skip
"""Packages; setup.cfg has the same, checked by a test."""

OF_CLIENTS = frozenset({"click", "rich"})

OLDEST_PYTHON, OLDEST_SQLITE, OLDEST_ZMQ = (3, 11), (3, 37, 0), (4, 3, 5)

Version = tuple[int, ...]


def too_old() -> Iterator[str]:
    """What a daemon cannot do with, in words.

    Versions are read from the names of metadata directories, since importlib.metadata takes 25 ms. A package
    without one is left to whoever imports it.
    """
    import zmq

    libraries = {"SQLite": sqlite3.sqlite_version_info, "libzmq": zmq.zmq_version_info()}
    needed = {"SQLite": OLDEST_SQLITE, "libzmq": OLDEST_ZMQ} | FLOORS
    for name, found in {**libraries, **installed(FLOORS.keys() - OF_CLIENTS)}.items():
        if found < needed[name]:
            yield f"{name} is {dotted(found)}, and {dotted(needed[name])} or newer is needed"


def installed(names: set[str]) -> dict[str, Version]:
    """The versions of these packages as far as they have metadata; the first on `sys.path` counts."""
    found: dict[str, Version] = {}
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")
        except OSError:
            continue
        here: dict[str, Version] = {}
        for entry in entries:
            name, _, rest = entry.lower().partition("-")
            version = numbers(rest) if name in names and rest.endswith(("dist-info", "egg-info")) else ()
            if version:
                # what an upgrade has left lying about is not in use
                here[name] = max(here.get(name, ()), version)
        found = here | found
    return found


def numbers(text: str) -> Version:
    """The leading numbers of a version: `2.8.0rc1` is (2, 8, 0)."""
    found: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    return tuple(found)


def dotted(version: Version) -> str:
    return ".".join(map(str, version))
