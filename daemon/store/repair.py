"""A damaged database is put aside, never deleted, and the newest good backup takes its place.

Everything can be broken off at any instruction and done again. The copy of the backup is complete as
`fetchd.db.new` before the first file is moved; as long as that exists, `fetchd.db` is the damaged one.
"""

import contextlib
import logging
import os
import secrets
import shutil
import sqlite3
import time
from pathlib import Path

import msgspec

from fetchd.daemon.service import report

from . import backup, damage
from .schema import DamagedError, SchemaError, migrate

logger = logging.getLogger("fetchd")

LEAP = 1 << 32
"""What a restore adds to the revision: no change since the backup can have had a number beyond."""

FILES = ("", "-wal", "-shm", "-journal")
"""What belongs to one database."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A restore that took place. Times are µs of the wall clock; `backup` None: there was none to go on from.

    What was submitted after `backup_time` is not known any more. `damaged` is the directory of what was put
    aside, `revision_before` the newest revision of the backup.
    """

    when: int
    reason: str
    damaged: str
    backup: str | None
    backup_time: int | None
    revision_before: int
    lineage: str

    def __str__(self) -> str:
        if self.backup is None or self.backup_time is None:
            lost = "there is no good backup: it begins anew, and earlier jobs are not in it"
        else:
            since = backup.stamp(self.backup_time)
            lost = f"it goes on from {self.backup}: jobs submitted after {since} are not in it"
        return f"the database was damaged ({self.reason}) and lies in {self.damaged}; {lost}"


def restore(state: Path, reason: str) -> None:
    """Put the database aside and the newest good backup, or an empty one, in its place. It is not open."""
    when = time.time_ns() // 1000
    good = next((one for one in reversed(backup.found(state)) if _is_good(one)), None)
    copy = state / "fetchd.db.part"
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if good is not None:
        shutil.copyfile(good.path, copy)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        migrate(connection)
        if good is None:
            _salvage(state / "fetchd.db", connection)
        _begin_lineage(connection, when, reason, good, state)
    backup.sync(copy)
    os.rename(copy, state / "fetchd.db.new")
    backup.sync(state)
    finish(state)
    damage.clear(state)


def finish(state: Path) -> None:
    """Go on with a restore that was broken off, if one was."""
    fresh = state / "fetchd.db.new"
    if not fresh.exists():
        return
    with contextlib.closing(backup.opened(fresh, alone=True)) as connection:
        restored = of(connection)
    assert restored is not None, "it is complete before it has its name"
    aside(state, "fetchd.db", Path(restored.damaged))
    os.rename(fresh, state / "fetchd.db")
    backup.sync(state)


def aside(state: Path, name: str, place: Path) -> None:
    """Move a database with all that belongs to it, as far as it has not been moved yet."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for suffix in FILES:
        with contextlib.suppress(FileNotFoundError):
            os.rename(state / f"{name}{suffix}", place / f"{name}{suffix}")
    for directory in (place, place.parent, state):
        backup.sync(directory)


def damaged(state: Path, when: int) -> Path:
    """Where what is found damaged at a time is put."""
    return state / "damaged" / backup.stamp(when)


def of(connection: sqlite3.Connection) -> Restored | None:
    """The restore that a database has behind it and that nobody has dealt with yet."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'restored'").fetchone()
    try:
        return None if row is None else msgspec.json.decode(row[0], type=Restored)
    except (msgspec.MsgspecError, TypeError) as error:
        raise DamagedError(str(error)) from None


def tell(state: Path, restored: Restored) -> None:
    """Say it in the log, and keep it for `doctor`."""
    logger.error("%s", restored)
    with contextlib.suppress(OSError):
        report.note(state, "database", {**msgspec.to_builtins(restored), "message": str(restored)})


def _is_good(one: backup.Backup) -> bool:
    try:
        backup.check(one.path)
    except (sqlite3.Error, SchemaError, OSError, UnicodeDecodeError) as error:
        logger.warning("the backup %s is not used: %s", one.path.name, error)
        return False
    return True


def _begin_lineage(
    connection: sqlite3.Connection, when: int, reason: str, good: backup.Backup | None, state: Path
) -> None:
    lineage = secrets.token_bytes(8)
    (before,) = connection.execute("SELECT coalesce(max(revision), 0) FROM events").fetchone()
    restored = Restored(
        when=when,
        reason=reason[:500],
        damaged=str(damaged(state, when)),
        backup=None if good is None else good.path.name,
        backup_time=None if good is None else good.time,
        revision_before=before,
        lineage=lineage.hex(),
    )
    connection.execute("BEGIN")
    # one event of nobody's: it holds the revision, and makes every earlier one too old for a replay
    connection.execute("DELETE FROM events")
    connection.execute("INSERT INTO events VALUES (?, '', '', 'restored', ?, x'')", (before + LEAP, when))
    for key, value in (("lineage", lineage), ("restored", msgspec.json.encode(restored))):
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
    connection.execute("COMMIT")


def _salvage(path: Path, into: sqlite3.Connection) -> None:
    """What a database without a backup may still tell of itself: where its workspaces lie."""
    try:
        with contextlib.closing(backup.opened(path)) as broken:
            meta = broken.execute(
                "SELECT key, value FROM meta WHERE key IN ('instance', 'hash_key')"
            ).fetchall()
            areas = broken.execute("SELECT path, time, mount FROM areas").fetchall()
        into.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)
        into.executemany("INSERT OR REPLACE INTO areas VALUES (?, ?, ?)", areas)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        logger.debug("nothing can be read of the damaged database: %s", error)
