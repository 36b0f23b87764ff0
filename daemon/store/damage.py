"""Damage: which errors may mean it, the mark that is left until a check was good, and the check itself.

A mark (the file `suspect` in the state directory) is only a suspicion. Whoever opens the database next checks
it thoroughly first, and the mark goes when nothing was found.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

import msgspec

from fetchd.protocol.job import Reason

from .schema import COLUMNS, MIGRATIONS, DamagedError, check_version, from_row

MARK = "suspect"

SUSPICIOUS = frozenset({
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_NOTADB,
})  # fmt: skip
"""Our statements are right, so these come from what they work on; a full disk or a lock is none of them."""


def is_damage(error: BaseException) -> bool:
    """Whether an error may come from a damaged database."""
    # the second is SQLite's complaint in the words of a damaged schema, which are no text
    if isinstance(error, DamagedError | UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # the module's own complaint has no code
        return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)
    return (code & 0xFF) in SUSPICIOUS


def is_certain(error: BaseException) -> bool:
    """Whether nothing but damage can be behind it, whatever the question was."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return isinstance(error, DamagedError) or (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def mark(state: Path, reason: object) -> None:
    """Suspect the database until it has been checked."""
    with contextlib.suppress(OSError):
        (state / MARK).write_text(f"{reason}\n"[:1000], encoding="utf-8", errors="replace")


def marked(state: Path) -> str | None:
    """Why the database is suspected, or None."""
    try:
        return (state / MARK).read_text(encoding="utf-8", errors="replace").strip() or "no reason given"
    except FileNotFoundError:
        return None


def clear(state: Path) -> None:
    """A good check has ended the suspicion."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state / MARK)


def check(connection: sqlite3.Connection, *, thorough: bool) -> None:
    """Raise `DamagedError`, or what SQLite raises, where a database cannot be trusted.

    `thorough` also compares the indexes with their tables, at a multiple of the time.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    (found,) = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
    if found != "ok":
        raise DamagedError(str(found))
    version = check_version(connection)
    if version == 0:
        raise DamagedError("it is empty")
    if version == len(MIGRATIONS):
        for table in ("jobs", "history"):
            for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM {table} NOT INDEXED"):
                from_row(row)
        probe(connection)


def probe(connection: sqlite3.Connection) -> None:
    """Read all that is small, as far as a start needs it; `DamagedError` where it is not what it was."""
    try:
        for _kind, _name, reason in connection.execute("SELECT kind, name, reason FROM gates"):
            Reason(reason)
        for table in ("meta", "intents", "limits", "areas"):
            connection.execute(f"SELECT * FROM {table}").fetchall()
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise DamagedError(str(error)) from None
