"""The writing connection: batches in, rows out. Used by the store's thread only.

A batch is one transaction with `synchronous=FULL`: when `apply` returns, it survives a power cut. Secrets are
committed before the jobs that need them, and deleted after the jobs that no longer do.
"""

import contextlib
import os
import secrets as random_source
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fetchd.daemon.core.commands import (
    DropGate,
    DropIntent,
    DropSecrets,
    Durable,
    Event,
    Forget,
    SaveGate,
    SaveIntent,
    SaveJob,
    SaveLimit,
    SaveReply,
    SaveSecrets,
)
from fetchd.daemon.core.core import Loaded
from fetchd.daemon.core.gates import Gate, GateKey
from fetchd.daemon.core.intents import Intent
from fetchd.daemon.core.job import Job, Lane
from fetchd.protocol.codec import encode
from fetchd.protocol.job import Reason, State

from . import upkeep
from .schema import COLUMNS, check_version, from_row, migrate, to_row

_NAMES = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * len(COLUMNS))
_UPDATES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "seq")
UPSERT = f"INSERT INTO jobs ({_NAMES}) VALUES ({_MARKS}) ON CONFLICT (seq) DO UPDATE SET {_UPDATES}"
ARCHIVE = f"INSERT OR REPLACE INTO history ({_NAMES}) VALUES ({_MARKS})"
HELD = {
    "jobs": "INDEXED BY jobs_held WHERE state IN ('paused', 'waiting')",
    "history": "INDEXED BY history_failed WHERE state IN ('failed', 'cancelled')",
}
OF_LANE = "host = ? AND owner = ? AND grp = ? AND area = ?"

GATED = {"host": "host", "owner": "owner", "group": "grp", "area": "area"}
"""The columns that the kinds of gates hold lanes by."""

Batch = Sequence[tuple[Durable, bytes | None]]
"""Durable commands in order; an `Event` comes with its encoded body."""


class Database:
    """One open pair of databases, `fetchd.db` and `secrets.db`, in the state directory."""

    def __init__(self, state: Path) -> None:
        self.path = state / "fetchd.db"
        self.unchecked = 0
        self.connection = _open(self.path)
        try:
            check_version(self.connection)
            self.secrets = _open(state / "secrets.db")
        except BaseException:
            self.connection.close()
            raise
        try:
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA wal_autocheckpoint = 0")
            self.secrets.execute("PRAGMA secure_delete = ON")
            self.secrets.execute("PRAGMA journal_mode = TRUNCATE")
            migrate(self.connection)
            self.secrets.execute(
                "CREATE TABLE IF NOT EXISTS secrets (job TEXT PRIMARY KEY, payload BLOB NOT NULL) STRICT"
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.connection.close()
        self.secrets.close()

    # what is constant for this database

    def identity(self, key: str, size: int = 16) -> bytes:
        """A random value that belongs to this database, made at first use: instance, lineage, hash key."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return bytes(row[0])
        value = random_source.token_bytes(size)
        self.connection.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
        return value

    # at start

    def load(self, boot_id: str, mono: int, wall: int) -> Loaded:
        """What the core starts from. Waits are moved to the boot-time clock of this boot."""
        upkeep.rebase_clocks(self.connection, boot_id, mono, wall)
        self._sweep_secrets()
        active = self._jobs(
            "SELECT {} FROM jobs INDEXED BY jobs_active WHERE state IN ('running', 'publishing') ORDER BY seq"
        )
        one = self.connection.execute(
            "SELECT coalesce((SELECT max(revision) FROM events), 0),"
            " max(coalesce((SELECT max(seq) FROM jobs), 0), coalesce((SELECT max(seq) FROM history), 0))"
        ).fetchone()
        intents = tuple(
            msgspec.convert(dict(zip(Intent.__struct_fields__, row, strict=True)), Intent, strict=False)
            for row in self.connection.execute("SELECT * FROM intents")
        )
        gates = tuple(
            Gate(key=GateKey(kind, name, Reason(reason)), since=since, until=until, detail=detail)
            for kind, name, reason, since, until, detail in self.connection.execute("SELECT * FROM gates")
        )
        return Loaded(
            active=tuple(active), gates=gates, revision=one[0], seq=one[1], intents=intents,
            limits=tuple(self.connection.execute("SELECT kind, name, rate FROM limits")),
            **upkeep.totals(self.connection),
        )  # fmt: skip

    def _sweep_secrets(self) -> None:
        held = [job for (job,) in self.secrets.execute("SELECT job FROM secrets")]
        live = {job.id for job in self.by_ids(held).values() if not job.terminal or job.state is State.FAILED}
        self._write_secrets(dict.fromkeys(job for job in held if job not in live))

    # batches

    def apply(self, batch: Batch) -> None:
        """Commit a batch, or raise `sqlite3.Error` and leave everything as it was."""
        jobs: dict[int, Job] = {}
        events: list[tuple[Any, ...]] = []
        forgotten: list[tuple[int]] = []
        secrets: dict[str, bytes | None] = {}
        touched: set[Lane] = set()
        replies = wall = 0
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for command, body in batch:
                if isinstance(command, SaveJob):
                    jobs[command.job.seq] = command.job
                    touched.add(command.job.lane)
                elif isinstance(command, Forget):
                    jobs.pop(command.job.seq, None)
                    forgotten.append((command.job.seq,))
                    touched.add(command.job.lane)
                elif isinstance(command, Event):
                    job = command.job
                    row = (command.revision, job.id, job.owner, command.kind, command.time, body)
                    events.append(row)
                elif isinstance(command, SaveReply):
                    replies, wall = replies + 1, command.time
                    self.connection.execute(
                        "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)",
                        (command.owner, command.req, command.digest, encode(command.reply), command.time),
                    )
                elif isinstance(command, SaveSecrets):
                    secrets[command.job] = command.payload
                elif isinstance(command, DropSecrets):
                    secrets[command.job] = None
                else:
                    self._apply_rare(command)
            self.connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", events)
            # IDs become free before they are taken again
            for table in ("jobs", "history"):
                self.connection.executemany(f"DELETE FROM {table} WHERE seq = ?", forgotten)
            self._save_jobs(jobs.values())
            self._set_heads(touched)
            upkeep.trim(self.connection, replies=2 * replies, events=2 * len(events), wall=wall)
            self._write_secrets({job: payload for job, payload in secrets.items() if payload is not None})
            self.connection.execute("COMMIT")
            self.unchecked += len(batch)
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        # this is committed: what is left behind now is swept at the next start
        with contextlib.suppress(sqlite3.Error):
            self._write_secrets({job: None for job, payload in secrets.items() if payload is None})

    def _apply_rare(self, command: Durable) -> None:
        match command:
            case SaveGate(gate=gate):
                row: tuple[Any, ...] = (*gate.key, gate.since, gate.until, gate.detail)
                self.connection.execute("INSERT OR REPLACE INTO gates VALUES (?, ?, ?, ?, ?, ?)", row)
            case DropGate(key=key):
                self.connection.execute("DELETE FROM gates WHERE kind = ? AND name = ? AND reason = ?", key)
            case SaveLimit(kind=kind, name=name, rate=None):
                self.connection.execute("DELETE FROM limits WHERE kind = ? AND name = ?", (kind, name))
            case SaveLimit(kind=kind, name=name, rate=rate):
                row = (kind, name, rate)
                self.connection.execute("INSERT OR REPLACE INTO limits VALUES (?, ?, ?)", row)
            case SaveIntent(intent=intent):
                row = msgspec.structs.astuple(intent)
                self.connection.execute("INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            case DropIntent(number=number):
                self.connection.execute("DELETE FROM intents WHERE number = ?", (number,))
            case _:
                raise TypeError(f"{type(command).__name__} is not a durable command")

    def _save_jobs(self, jobs: Iterable[Job]) -> None:
        live: list[list[Any]] = []
        done: list[list[Any]] = []
        for job in jobs:
            (done if job.terminal else live).append(to_row(job))
        if live:
            self.connection.executemany("DELETE FROM history WHERE seq = ?", [(row[0],) for row in live])
            self.connection.executemany(UPSERT, live)
        if done:
            self.connection.executemany("DELETE FROM jobs WHERE seq = ?", [(row[0],) for row in done])
            self.connection.executemany(ARCHIVE, done)

    def _set_heads(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            head = self.connection.execute(
                f"SELECT priority, seq FROM jobs WHERE state = 'queued' AND {OF_LANE}"
                " ORDER BY priority DESC, seq LIMIT 1",
                lane,
            ).fetchone()
            if head is None:
                self.connection.execute(f"DELETE FROM lanes WHERE {OF_LANE}", lane)
            else:
                self.connection.execute(
                    "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE"
                    " SET head_priority = excluded.head_priority, head_seq = excluded.head_seq"
                    " WHERE (head_priority, head_seq) <> (excluded.head_priority, excluded.head_seq)",
                    (*lane, *head),
                )

    def _write_secrets(self, changes: dict[str, bytes | None]) -> None:
        """Keep the payload of each job, or forget it where that is None."""
        if changes:
            with self.secrets:
                self.secrets.execute("BEGIN IMMEDIATE")
                for job, payload in changes.items():
                    if payload is None:
                        self.secrets.execute("DELETE FROM secrets WHERE job = ?", (job,))
                    else:
                        self.secrets.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?)", (job, payload))

    # rows

    def window(self, lane: Lane, after: tuple[int, int] | None, limit: int) -> tuple[list[Job], bool]:
        """Up to `limit` queued jobs of a lane behind an order key, and whether there are more."""
        where = ""
        values: tuple[int, ...] = ()
        if after is not None:
            # a row-value comparison cannot mix directions, so it is spelt out
            where, values = (
                " AND priority <= ? AND (priority < ? OR seq > ?)",
                (-after[0], -after[0], after[1]),
            )
        jobs = self._jobs(
            f"SELECT {{}} FROM jobs WHERE state = 'queued' AND {OF_LANE}{where}"
            " ORDER BY priority DESC, seq LIMIT ?",
            (*lane, *values, limit + 1),
        )
        return jobs[:limit], len(jobs) > limit

    def lanes(self, limit: int, without: Sequence[tuple[str, str]] = ()) -> tuple[list[Lane], bool]:
        """The lanes with the best heads, less those of these (kind, name), and whether there are more."""
        # one value a column: there may be more gates than SQLite takes terms or parameters
        held = [[name for kind, name in without if kind == gated] for gated in GATED]
        where = " AND ".join(f"{column} NOT IN (SELECT value FROM json_each(?))" for column in GATED.values())
        rows = self.connection.execute(
            f"SELECT host, owner, grp, area FROM lanes WHERE {where}"
            " ORDER BY next_ready, head_priority DESC, head_seq LIMIT ?",
            (*(msgspec.json.encode(names).decode() for names in held), limit + 1),
        ).fetchall()
        return [Lane(*row) for row in rows[:limit]], len(rows) > limit

    def due(self, after: int, limit: int) -> tuple[list[Job], int | None]:
        """Waiting jobs due after a boot time, and up to when these are all (None: for ever)."""
        row = self.connection.execute(
            "SELECT wait_until FROM jobs WHERE state = 'waiting' AND wait_until > ?"
            " ORDER BY wait_until LIMIT 1 OFFSET ?",
            (after, limit - 1),
        ).fetchone()
        until = None if row is None else row[0]
        bound = "" if until is None else " AND wait_until <= ?"
        values = (after,) if until is None else (after, until)
        return self._jobs(
            f"SELECT {{}} FROM jobs WHERE state = 'waiting' AND wait_until > ?{bound}", values
        ), until

    def chunk(self, intent: Intent, limit: int) -> tuple[list[Job], bool]:
        """The next jobs of a bulk verb in the order of their submission, and whether there are more."""
        found: list[Job] = []
        # by rowid, or by (owner, state, seq): never by an index whose order would have to be mended
        for state in intent.states or (None,):
            held = f"{HELD[intent.table]} AND owner = ? AND state = '{state}'"
            where = "WHERE +owner = ?" if state is None else held
            found += self._jobs(
                f"SELECT {{}} FROM {intent.table} {where} AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (intent.owner, intent.cursor, intent.upto, limit + 1),
            )
        found.sort(key=lambda job: job.seq)
        return found[:limit], len(found) > limit

    def expired(self, wall: int, limit: int) -> list[Job]:
        """Finished jobs whose workspaces have been kept until now."""
        return self._jobs(
            "SELECT {} FROM history WHERE kept_until > 0 AND kept_until <= ? ORDER BY kept_until LIMIT ?",
            (wall, limit),
        )

    def overdue(self, mono: int, limit: int) -> tuple[list[Job], bool]:
        """Live jobs that nobody attempts and whose time is over then, and whether there are more."""
        jobs = self._jobs(
            "SELECT {} FROM jobs INDEXED BY jobs_expires WHERE expires > 0 AND expires <= ?"
            " AND state IN ('queued', 'waiting', 'paused') ORDER BY expires LIMIT ?",
            (mono, limit + 1),
        )
        return jobs[:limit], len(jobs) > limit

    def with_secrets(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of these jobs have their secrets still."""
        wanted = msgspec.json.encode(ids).decode()
        query = "SELECT job FROM secrets WHERE job IN (SELECT value FROM json_each(?))"
        return frozenset(job for (job,) in self.secrets.execute(query, (wanted,)))

    def by_ids(self, ids: Sequence[str]) -> dict[str, Job]:
        """Stored jobs by their IDs, live or finished."""
        if not ids:
            return {}
        wanted = msgspec.json.encode(ids).decode()
        return {
            job.id: job
            for table in ("jobs", "history")
            for job in self._jobs(
                f"SELECT {{}} FROM {table} WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
            )
        }

    def reserved(self, directory: str, names: Sequence[str]) -> dict[str, str]:
        """Which of these names in a directory live jobs have reserved: name to job ID."""
        wanted = msgspec.json.encode(names).decode()
        return dict(
            self.connection.execute(
                # without "name IS NOT NULL", which the planner would rather use than the names
                "SELECT name, id FROM jobs WHERE directory = ? AND name IN (SELECT value FROM json_each(?))",
                (directory, wanted),
            ).fetchall()
        )

    def reply(self, owner: str, req: str) -> tuple[bytes, bytes] | None:
        """(digest of the request, body of the reply) of an answered request, or None."""
        row = self.connection.execute(
            "SELECT digest, body FROM replies WHERE owner = ? AND req = ?", (owner, req)
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def secret(self, job: str) -> bytes | None:
        """The secrets of a job, or None."""
        row = self.secrets.execute("SELECT payload FROM secrets WHERE job = ?", (job,)).fetchone()
        return None if row is None else row[0]

    def areas(self) -> list[str]:
        """All staging areas that were ever used."""
        return [path for (path,) in self.connection.execute("SELECT path FROM areas")]

    def add_area(self, path: str, wall: int) -> None:
        self.connection.execute("INSERT OR IGNORE INTO areas (path, time) VALUES (?, ?)", (path, wall))

    # housekeeping

    def prune(self, wall: int) -> None:
        """Forget old replies and events, a bounded number at a time."""
        count = upkeep.PRUNE_AT_ONCE
        upkeep.trim(self.connection, replies=count, events=count, wall=wall)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database; what a reader still needs stays."""
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.unchecked = 0

    def _jobs(self, query: str, values: Sequence[Any] = ()) -> list[Job]:
        return [from_row(row) for row in self.connection.execute(query.format(_NAMES), values)]


def _open(path: Path) -> sqlite3.Connection:
    # SQLite would make it with the umask of the process; secrets want 0600 from the first byte
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection
