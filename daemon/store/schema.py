"""Tables, indexes and their migrations. `user_version` counts the migrations that a database has had.

A job row is in `jobs` while it is live and in `history` once it is terminal; both have the columns of the
core's record, in its order.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from fetchd.daemon.core.job import Job
from fetchd.protocol.job import Reason, State
from fetchd.protocol.mailbox import Options

OLDEST_SQLITE = (3, 37, 0)
"""STRICT tables need it."""

_RENAMED = {"group": "grp"}
_PACKED = frozenset({"labels", "options", "synced"})

FIELDS = tuple(field.name for field in msgspec.structs.fields(Job))
COLUMNS = tuple(_RENAMED.get(name, name) for name in FIELDS)
_PACKED_AT = tuple(FIELDS.index(name) for name in sorted(_PACKED))


_FIRST_COLUMNS = """\
    seq INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    host TEXT NOT NULL,
    area TEXT NOT NULL,
    url TEXT NOT NULL,
    directory TEXT NOT NULL,
    spec_hash BLOB NOT NULL,
    created INTEGER NOT NULL,
    grp TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    secret INTEGER NOT NULL,
    name TEXT,
    wanted TEXT,
    checksum TEXT,
    if_exists TEXT NOT NULL,
    retries INTEGER NOT NULL,
    labels BLOB NOT NULL,
    umask INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    deaths INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    etag TEXT,
    last_modified TEXT,
    total INTEGER,
    bytes INTEGER NOT NULL,
    synced BLOB NOT NULL,
    wasted INTEGER NOT NULL,
    wait_since INTEGER NOT NULL,
    wait_for INTEGER NOT NULL,
    wait_until INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    digest TEXT,
    error_code TEXT,
    error_message TEXT,
    started INTEGER,
    finished INTEGER,
    revision INTEGER NOT NULL,
    cleanup_success INTEGER,
    cleanup_failure INTEGER,
    kept_until INTEGER NOT NULL
"""
"""Those of a job in schema 1; what came later is added by the migrations."""

FIRST = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- live jobs: inserted as queued, updated at every transition, deleted when they become terminal
CREATE TABLE jobs (
{_FIRST_COLUMNS}) STRICT;
CREATE UNIQUE INDEX jobs_id ON jobs (id);
CREATE INDEX jobs_lane ON jobs (host, owner, grp, area, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX jobs_due ON jobs (wait_until) WHERE state = 'waiting';
CREATE INDEX jobs_path ON jobs (directory, name) WHERE name IS NOT NULL;
CREATE INDEX jobs_active ON jobs (seq) WHERE state IN ('running', 'publishing');
CREATE INDEX jobs_state ON jobs (owner, state, revision);
CREATE INDEX jobs_held ON jobs (owner, state, seq) WHERE state IN ('paused', 'waiting');

-- terminal jobs: inserted at completed, failed or cancelled, deleted by a retry, rm or retention
CREATE TABLE history (
{_FIRST_COLUMNS}) STRICT;
CREATE UNIQUE INDEX history_id ON history (id);
CREATE INDEX history_state ON history (owner, state, revision);
CREATE INDEX history_failed ON history (owner, state, seq) WHERE state IN ('failed', 'cancelled');
CREATE INDEX history_kept ON history (kept_until) WHERE kept_until > 0;
CREATE INDEX history_totals ON history (state, size);

-- the head of every lane that has queued jobs; next_ready is boot-time µs
CREATE TABLE lanes (
    host TEXT NOT NULL, owner TEXT NOT NULL, grp TEXT NOT NULL, area TEXT NOT NULL,
    head_priority INTEGER NOT NULL, head_seq INTEGER NOT NULL, next_ready INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (host, owner, grp, area)
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_order ON lanes (next_ready, head_priority DESC, head_seq);

-- closed gates
CREATE TABLE gates (
    kind TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER,
    PRIMARY KEY (kind, name, reason)
) STRICT, WITHOUT ROWID;

-- bulk verbs that are being carried out
CREATE TABLE intents (
    number INTEGER PRIMARY KEY, owner TEXT NOT NULL, verb TEXT NOT NULL, failed INTEGER NOT NULL,
    upto INTEGER NOT NULL, step INTEGER NOT NULL, cursor INTEGER NOT NULL
) STRICT;

-- lifecycle events, for replay
CREATE TABLE events (
    revision INTEGER PRIMARY KEY, job TEXT NOT NULL, owner TEXT NOT NULL, kind TEXT NOT NULL,
    time INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- answers to requests, for their repetition
CREATE TABLE replies (
    owner TEXT NOT NULL, req TEXT NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (owner, req)
) STRICT, WITHOUT ROWID;
CREATE INDEX replies_time ON replies (time);

-- staging areas that were ever used, so that a start can look into them
CREATE TABLE areas (path TEXT PRIMARY KEY, time INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

SECOND = (
    "".join(
        f"""
ALTER TABLE {table} ADD COLUMN options BLOB NOT NULL DEFAULT x'80';
ALTER TABLE {table} ADD COLUMN limit_rate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN deadline INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN source INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN mismatches INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN modified INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {table} ADD COLUMN warning_code TEXT;
ALTER TABLE {table} ADD COLUMN warning_message TEXT;
"""
        for table in ("jobs", "history")
    )
    + """
CREATE INDEX jobs_expires ON jobs (expires) WHERE expires > 0;

-- limits of speed in bytes a second: kind is 'all' (name '') or 'host'
CREATE TABLE limits (
    kind TEXT NOT NULL, name TEXT NOT NULL, rate INTEGER NOT NULL, PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
"""
)

THIRD = """
-- what a closed gate says to people
ALTER TABLE gates ADD COLUMN detail TEXT NOT NULL DEFAULT '';
-- the mount point that an area lay on when it was made; '' where that is not known
ALTER TABLE areas ADD COLUMN mount TEXT NOT NULL DEFAULT '';
-- for the retention: those that nothing is kept of, the oldest first
CREATE INDEX history_finished ON history (finished) WHERE kept_until = 0;
"""

MIGRATIONS = (FIRST, SECOND, THIRD)
"""Never changed once released: a database may have had any beginning of them."""


ABSURD = 1000
"""No schema will ever have a number beyond: it is damage and not a newer fetchd."""


class SchemaError(Exception):
    """The database cannot be used as it is; the message says why."""


class DamagedError(sqlite3.DatabaseError):
    """What is in the database is not what was written to it."""


def check_version(connection: sqlite3.Connection) -> int:
    """The schema of a database, or `SchemaError` where it is not for us; changes nothing."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise SchemaError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 is needed")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= ABSURD:
        raise DamagedError(f"its schema has the number {version}")
    if version > len(MIGRATIONS):
        raise SchemaError(
            f"the database has schema {version}, this fetchd knows up to {len(MIGRATIONS)}: a newer fetchd "
            "has used it; install that version or another state directory"
        )
    return int(version)


def check_log(path: Path) -> None:
    """`check_version` of a database that was not closed, read-only: closing it would merge its log."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            check_version(connection)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database up to date in one transaction, or raise `SchemaError` and leave it as it was."""
    version = check_version(connection)
    if version == len(MIGRATIONS):
        return
    script = "\n".join(MIGRATIONS[version:])
    connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;")


def to_row(job: Job) -> list[Any]:
    """The columns of a job."""
    row: list[Any] = [getattr(job, name) for name in FIELDS]
    for index in _PACKED_AT:
        row[index] = msgspec.msgpack.encode(row[index])
    return row


_ID = FIELDS.index("id")
_LABELS = FIELDS.index("labels")
_SYNCED = FIELDS.index("synced")
_OPTIONS = FIELDS.index("options")
_STATE = FIELDS.index("state")
_REASON = FIELDS.index("reason")
_BOOLEAN = tuple(FIELDS.index(name) for name in ("secret", "cleanup_success", "cleanup_failure", "alone"))
_ranges = msgspec.msgpack.Decoder(tuple[tuple[int, int], ...])
_options = msgspec.msgpack.Decoder(Options)
unpack_labels = msgspec.msgpack.Decoder(dict[str, str]).decode


def from_row(row: tuple[Any, ...]) -> Job:
    """A job from its columns; `DamagedError` where they are none."""
    values = list(row)
    try:
        values[_LABELS] = unpack_labels(values[_LABELS])
        values[_SYNCED] = _ranges.decode(values[_SYNCED])
        values[_OPTIONS] = _options.decode(values[_OPTIONS])
        values[_STATE] = State(values[_STATE])
        for index in _BOOLEAN:
            if values[index] is not None:
                values[index] = bool(values[index])
        if values[_REASON] is not None:
            values[_REASON] = Reason(values[_REASON])
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise DamagedError(f"the row of job {values[_ID]!r} is damaged: {error}") from None
    return Job(**dict(zip(FIELDS, values, strict=True)))
