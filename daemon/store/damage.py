"""Damage: which errors may mean it, the mark that is left until a check was good, and the check itself.

A mark (the file `suspect` in the state directory) is only a suspicion. Whoever opens the database next checks
it thoroughly first, and the mark goes when nothing was found.
"""

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Literal

import msgspec

from fetchd.protocol.job import Reason

from .schema import COLUMNS, MIGRATIONS, DamagedError, check_version, from_row

MARK = "suspect"
PAGE = 4096
"""SQLite's page size; ours are all made with its default."""

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


def lost_commits(database: Path) -> int:
    """How many commits lie in the log of an open database behind the last one that SQLite has taken.

    It takes a log up to the first frame whose checksum is wrong. Behind that there is at most one commit, the
    last one before a power cut, which nobody was told of; more were acknowledged and are damaged. Frames of
    earlier rounds of the log have other salts (https://www.sqlite.org/fileformat2.html, 4.1 and 4.2).
    """
    log, index = Path(f"{database}-wal"), _held(f"{database}-shm")
    if index is None or not log.exists():
        return 0
    frame = int.from_bytes(os.pread(index, 4, 16), sys.byteorder)
    with open(log, "rb") as file:
        header = file.read(32 + 24)
        # the first frame has the salts too, or older ones where the log had just begun anew
        salts = header[16:24] if _is_whole(header) else header[40:48]
        lost = 0
        while True:
            file.seek(32 + frame * (24 + PAGE))
            head = file.read(24)
            if len(head) < 24:
                return lost
            lost += head[8:16] == salts and any(head[4:8])
            frame += 1


def _held(path: str) -> int | None:
    """The descriptor by which SQLite has a file open in this process.

    To open and close one of our own would drop all our locks on the file (fcntl(2)): the next process to come
    would find nobody there, cut the index off under our hands, and SIGBUS would be the end.
    """
    real = os.path.realpath(path)
    for name in os.listdir("/proc/self/fd"):
        # the one of the listing is gone by now
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == real:
                return int(name)
    return None


def _is_whole(header: bytes) -> bool:
    """Whether the header of a log has its checksum."""
    if len(header) < 32:
        return False
    order: Literal["big", "little"] = "big" if header[3] & 1 else "little"
    first = second = 0
    for at in range(0, 24, 8):
        first = (first + int.from_bytes(header[at : at + 4], order) + second) & 0xFFFFFFFF
        second = (second + int.from_bytes(header[at + 4 : at + 8], order) + first) & 0xFFFFFFFF
    return header[24:32] == first.to_bytes(4, "big") + second.to_bytes(4, "big")


def probe(connection: sqlite3.Connection) -> None:
    """Read all that is small, as far as a start needs it; `DamagedError` where it is not what it was."""
    try:
        for _kind, _name, reason in connection.execute("SELECT kind, name, reason FROM gates"):
            Reason(reason)
        for table in ("meta", "intents", "limits", "areas"):
            connection.execute(f"SELECT * FROM {table}").fetchall()
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise DamagedError(str(error)) from None
