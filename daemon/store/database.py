"""The writing connection: batches in, rows out. Used by the store's thread only.

A batch is one transaction with `synchronous=FULL`: when `apply` returns, it survives a power cut. Secrets are
committed before the jobs that need them, and deleted after the jobs that no longer do.
"""

import contextlib
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

from . import damage, opening, repair, upkeep
from .rows import OF_LANE, Rows
from .schema import COLUMNS, DamagedError, to_row

_NAMES = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * len(COLUMNS))
_UPDATES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "seq")
UPSERT = f"INSERT INTO jobs ({_NAMES}) VALUES ({_MARKS}) ON CONFLICT (seq) DO UPDATE SET {_UPDATES}"
ARCHIVE = f"INSERT OR REPLACE INTO history ({_NAMES}) VALUES ({_MARKS})"

Batch = Sequence[tuple[Durable, bytes | None]]
"""Durable commands in order; an `Event` comes with its encoded body."""


class Database(Rows):
    """One open pair of databases, `fetchd.db` and `secrets.db`, in the state directory.

    A damaged one is put aside while it is opened. `restored` then says what took its place, until
    `settle_restore` is called.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / "fetchd.db"
        self._state = state
        self._identity: dict[str, bytes] = {}
        self._hash_key: bytes | None = None
        self._open()

    def _open(self) -> None:
        self.unchecked = 0
        repair.finish(self._state)
        damaged = self._connect()
        if damaged is not None:
            # a connection that is closed before its files are away would tidy them up
            try:
                repair.restore(self._state, damaged)
            finally:
                self._disconnect()
            if (damaged := self._connect()) is not None:
                raise DamagedError(damaged)
        try:
            self.secrets = opening.secrets(self._state)
            self.restored = repair.of(self.connection)
        except BaseException:
            self._disconnect()
            raise
        if self.restored is not None:
            repair.tell(self._state, self.restored)
        damage.clear(self._state)

    def _connect(self) -> str | None:
        """Open `fetchd.db`; what is wrong with it where it is damaged, and the connection stays open then."""
        if opening.missing(self._state):
            return "it is gone"
        try:
            self.connection = opening.connect(self.path)
            opening.prepare(self.connection, self._state, suspected=damage.marked(self._state) is not None)
        except Exception as error:
            if damage.is_damage(error):
                return str(error)
            self._disconnect()
            raise
        return None

    def _disconnect(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    def reopen(self) -> None:
        """Open it anew after a fault: nothing is believed that was in memory, and damage is dealt with."""
        self.close()
        self._open()
        # what others know us by stays, also where no backup knew it; only the lineage is another
        known = [(key, value) for key, value in self._identity.items() if key != "lineage"]
        self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", known)
        if self._hash_key is not None:
            self.secrets.execute("INSERT OR REPLACE INTO keys VALUES ('hash_key', ?)", (self._hash_key,))

    def suspect(self, reason: object) -> None:
        """Have it checked when it is opened the next time."""
        damage.mark(self._state, reason)

    def settle_restore(self) -> None:
        """Whatever follows from a restore has been done."""
        self.connection.execute("DELETE FROM meta WHERE key = 'restored'")
        self.restored = None

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            # SQLite does so by itself, but not where a helper still has it open
            self.checkpoint()
        self.connection.close()
        self.secrets.close()

    # what is constant for this database

    def identity(self, key: str, size: int = 16) -> bytes:
        """A random value that belongs to this database, made at first use: instance, lineage."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        value = random_source.token_bytes(size) if row is None else bytes(row[0])
        if row is None:
            self.connection.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
        self._identity[key] = value
        return value

    def hash_key(self) -> bytes:
        """The key of the hashes of specifications. Passwords could be tried with both, so it is with the
        secrets and in no backup. Older databases had it in `meta`."""
        row = self.secrets.execute("SELECT value FROM keys WHERE name = 'hash_key'").fetchone()
        if row is None:
            row = self.connection.execute("SELECT value FROM meta WHERE key = 'hash_key'").fetchone()
            row = row or (random_source.token_bytes(32),)
            self.secrets.execute("INSERT INTO keys VALUES ('hash_key', ?)", row)
        self.connection.execute("DELETE FROM meta WHERE key = 'hash_key'")
        self._hash_key = bytes(row[0])
        return self._hash_key

    # at start

    def load(self, boot_id: str, mono: int, wall: int) -> Loaded:
        """What the core starts from. Waits are moved to the boot-time clock of this boot."""
        try:
            return self._load(boot_id, mono, wall)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            raise DamagedError(f"what a start needs is damaged: {error}") from None

    def _load(self, boot_id: str, mono: int, wall: int) -> Loaded:
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

    def add_area(self, path: str, mount: str, wall: int) -> None:
        self.connection.execute("INSERT OR REPLACE INTO areas VALUES (?, ?, ?)", (path, wall, mount))

    # housekeeping

    def prune(self, wall: int) -> None:
        """Forget old replies and events, a bounded number at a time."""
        count = upkeep.PRUNE_AT_ONCE
        upkeep.trim(self.connection, replies=count, events=count, wall=wall)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database; what a reader still needs stays."""
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.unchecked = 0
