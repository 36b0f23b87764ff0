"""The questions to the writing connection: rows out. Used by the store's thread only.

Every one has an index to answer from; where an index could be missed, the statement names it.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from fetchd.daemon.core.intents import Intent
from fetchd.daemon.core.job import Job, Lane

from .schema import COLUMNS, from_row

_NAMES = ", ".join(COLUMNS)
HELD = {
    "jobs": "INDEXED BY jobs_held WHERE state IN ('paused', 'waiting')",
    "history": "INDEXED BY history_failed WHERE state IN ('failed', 'cancelled')",
}
OF_LANE = "host = ? AND owner = ? AND grp = ? AND area = ?"

GATED = {"host": "host", "owner": "owner", "group": "grp", "area": "area"}
"""The columns that the kinds of gates hold lanes by."""


class Rows:
    """What can be asked of an open pair of databases."""

    connection: sqlite3.Connection
    secrets: sqlite3.Connection

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

    def outdated(self, before: int, most: int, limit: int) -> list[Job]:
        """Finished jobs, the oldest first, that ended before a wall time or are too many (0: any may be).

        Those whose workspaces are kept are not among them, and do not count.
        """
        (count,) = self.connection.execute(
            "SELECT count(*) FROM history INDEXED BY history_finished WHERE kept_until = 0"
        ).fetchone()
        surplus = max(0, count - most) if most else 0
        query = (
            "SELECT {} FROM history INDEXED BY history_finished WHERE kept_until = 0%s"
            " ORDER BY finished LIMIT ?"
        )
        old = self._jobs(query % " AND finished < ?", (before, limit))
        return old if len(old) >= surplus else self._jobs(query % "", (min(limit, surplus),))

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

    def areas(self) -> dict[str, str]:
        """All staging areas that were ever used, with their mount points."""
        return dict(self.connection.execute("SELECT path, mount FROM areas").fetchall())

    def _jobs(self, query: str, values: Sequence[Any] = ()) -> list[Job]:
        return [from_row(row) for row in self.connection.execute(query.format(_NAMES), values)]
