"""Opening the two databases: made where they are new, brought up to date, refused where they are damaged.

Used by `database` alone.
"""

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from fetchd.daemon.service import report

from . import backup, damage, repair
from .schema import MIGRATIONS, DamagedError, check_log, check_version, migrate

logger = logging.getLogger("fetchd")


def connect(path: Path) -> sqlite3.Connection:
    """A writing connection to what lies there, or to a new file."""
    if path.exists() and not path.is_file():
        raise DamagedError("it is not a file")
    check_log(path)
    # SQLite would make it with the umask of the process; secrets want 0600 from the first byte
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def missing(state: Path) -> bool:
    """Whether there is no `fetchd.db` where there was one."""
    return _used(state) and not (state / "fetchd.db").exists()


def _used(state: Path) -> bool:
    # whoever has had jobs has these too: secrets.db is made after the first migration
    return (state / "secrets.db").exists() or bool(backup.found(state))


def prepare(connection: sqlite3.Connection, state: Path, *, suspected: bool) -> None:
    """Make a connection to `fetchd.db` ready for use.

    Raises `DamagedError`, or what SQLite raises, where it is damaged as far as can be seen at once, and
    `SchemaError`, with nothing touched, where a newer fetchd has used it. `suspected`: look at everything.
    """
    _set_up(connection)
    version = check_version(connection)
    if version == 0 and _used(state):
        raise DamagedError("it is empty")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    if suspected:
        damage.check(connection, thorough=True)
    if version == len(MIGRATIONS) and (lost := damage.lost_commits(state / "fetchd.db")) > 1:
        # what is left is newer than any backup
        backup.make(state, of_old=True)
        raise DamagedError(f"its log is damaged, and the last {lost} commits are lost")
    if 0 < version < len(MIGRATIONS):
        _back_up(state)
    migrate(connection)
    damage.probe(connection)


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA busy_timeout = 5000")


def _back_up(state: Path) -> None:
    """The database as it was before a migration. Going on without is better than not starting."""
    try:
        backup.make(state)
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        if damage.is_damage(error):
            raise
        logger.warning("there is no backup from before the migration: %s", error)


def secrets(state: Path) -> sqlite3.Connection:
    """The connection to `secrets.db`. A damaged one is put aside; nobody has a copy of what was in it."""
    try:
        return _secrets(state)
    except Exception as error:
        if not damage.is_damage(error):
            raise
        when = time.time_ns() // 1000
        place = repair.damaged(state, when)
        repair.aside(state, "secrets.db", place)
        message = f"secrets.db was damaged ({error}) and lies in {place}; jobs with credentials will fail"
        logger.error("%s", message)
        with contextlib.suppress(OSError):
            report.note(state, "secrets", {"when": when, "damaged": str(place), "message": message})
    return _secrets(state)


def _secrets(state: Path) -> sqlite3.Connection:
    connection = connect(state / "secrets.db")
    try:
        _set_up(connection)
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS secrets (job TEXT PRIMARY KEY, payload BLOB NOT NULL) STRICT"
        )
        # it is small, so all of it is looked at
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise DamagedError(str(found))
        connection.execute("SELECT job, length(payload) FROM secrets").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
