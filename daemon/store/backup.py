"""Backups of `fetchd.db`: made, found, checked and kept within bounds. Secrets are never in one.

A backup is made over a reading-only connection, in a process of its own while the daemon runs. It is whole,
checked and synced before it has its name: `backups/fetchd-<utc time>-<schema>.db`.
"""

import contextlib
import os
import re
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from fetchd.daemon.service import child

from . import damage
from .schema import MIGRATIONS, SchemaError, check_version

KEEP = 3
"""Backups that are kept of the present schema; of every other one the newest."""

NICE = 10
FAILED = 3
"""Exit status of the process where it could not do its work; `TROUBLE` says why."""

TROUBLE = "trouble"
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"fetchd-(\d{8}T\d{6}\.\d{6}Z)-(\d+)\.db")

Task = Literal["check", "backup"]


class Backup(NamedTuple):
    """One that has its name: when it was made (wall clock, µs), and of which schema it is."""

    time: int
    schema: int
    path: Path


def stamp(wall: int) -> str:
    """A time (µs) as it is in names."""
    return datetime.fromtimestamp(wall / 1e6, UTC).strftime(_STAMP)


def directory(state: Path) -> Path:
    """Where they lie."""
    return state / "backups"


def found(state: Path) -> list[Backup]:
    """All backups, the oldest first."""
    backups = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in directory(state).iterdir():
            if (match := _NAME.fullmatch(path.name)) is not None:
                with contextlib.suppress(ValueError):
                    when = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
                    backups.append(Backup(round(when.timestamp() * 1e6), int(match[2]), path))
    return sorted(backups)


def opened(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """A reading-only connection. `alone`: nobody else has the file open, and nothing is made beside it."""
    how = "immutable=1" if alone else "mode=ro"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def check(path: Path) -> None:
    """Raise `sqlite3.Error` or `SchemaError` where a backup is not one to go on from."""
    with contextlib.closing(opened(path, alone=True)) as copy:
        damage.check(copy, thorough=True)


def make(state: Path, *, of_old: bool = False) -> Path:
    """Make a backup and forget the oldest ones; `sqlite3.Error` or OSError where that does not work.

    `of_old`: its time is that of the last event in it, where later ones are known to be lost.
    """
    place = directory(state)
    place.mkdir(mode=0o700, exist_ok=True)
    unfinished = place / "unfinished"
    try:
        _clear(place)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(opened(state / "fetchd.db")) as source:
            schema = check_version(source)
            # every page is read and understood on the way, which a copy of the file would not do
            source.execute("VACUUM INTO ?", (str(unfinished),))
            (last,) = source.execute("SELECT coalesce(max(time), 0) FROM events").fetchone()
        check(unfinished)
        sync(unfinished)
        # never older than another, whatever the clock does
        now = time.time_ns() // 1000
        when = max(last if of_old else now, *(backup.time + 1 for backup in found(state)), 0)
        path = place / f"fetchd-{stamp(when)}-{schema}.db"
        os.rename(unfinished, path)
        sync(place)
    finally:
        _clear(place)
    _forget(state)
    return path


def sync(path: Path) -> None:
    """fsync of a file or directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _clear(place: Path) -> None:
    for name in ("unfinished", "unfinished-journal"):
        (place / name).unlink(missing_ok=True)


def _forget(state: Path) -> None:
    kept: dict[int, int] = {}
    for backup in reversed(found(state)):
        kept[backup.schema] = kept.get(backup.schema, 0) + 1
        if kept[backup.schema] > (KEEP if backup.schema == len(MIGRATIONS) else 1):
            backup.path.unlink(missing_ok=True)


def main(state: str, task: Task, parent: int, workers_lock: str) -> None:
    """The process: a check or a backup of the database. Damage leaves a mark, other trouble a word."""
    child.settle(parent, Path(workers_lock), "fetchd-backup")
    with contextlib.suppress(PermissionError):  # a service manager may forbid it
        os.nice(NICE)
    place = Path(state)
    trouble = directory(place) / TROUBLE
    try:
        if task == "backup":
            make(place)
        else:
            with contextlib.closing(opened(place / "fetchd.db")) as connection:
                connection.execute("BEGIN")
                damage.check(connection, thorough=False)
        trouble.unlink(missing_ok=True)
    except (sqlite3.Error, SchemaError, OSError, UnicodeDecodeError) as error:
        if damage.is_damage(error):
            damage.mark(place, f"{task}: {error}")
        else:
            with contextlib.suppress(OSError):
                trouble.write_text(f"{error}\n", encoding="utf-8", errors="replace")
        sys.exit(FAILED)
