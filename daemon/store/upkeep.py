"""What keeps the database in bounds and its clocks right: old replies and events, waits after a new boot.

Used by `database` alone.
"""

import sqlite3
from collections import Counter
from typing import Any

from fetchd.protocol.job import State

REPLY_LIFE = 600_000_000
"""Replies are kept this long, in µs."""

KEEP_EVENTS = 200_000
"""Lifecycle events kept for replay."""

PRUNE_AT_ONCE = 1000
"""Rows that are forgotten in one go where nothing new has come."""

SPREAD = 1_000_000
"""µs over which jobs are spread whose waits ended while the machine was off: rows are asked for by time."""


def trim(connection: sqlite3.Connection, *, replies: int, events: int, wall: int) -> None:
    """Forget up to so many replies and events that are too old, the oldest first.

    A batch forgets twice as many as it brings, so that the tables stay in bounds at any rate.
    """
    if replies:
        connection.execute(
            "DELETE FROM replies WHERE (owner, req) IN"
            " (SELECT owner, req FROM replies WHERE time < ? ORDER BY time LIMIT ?)",
            (wall - REPLY_LIFE, replies),
        )
    if events:
        connection.execute(
            "DELETE FROM events WHERE revision IN (SELECT revision FROM events"
            " WHERE revision <= (SELECT max(revision) FROM events) - ? ORDER BY revision LIMIT ?)",
            (KEEP_EVENTS, events),
        )


def rebase_clocks(connection: sqlite3.Connection, boot_id: str, mono: int, wall: int) -> None:
    """Move what is counted on the boot-time clock to this boot's, where it was another's."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
    if row is not None and row[0] == boot_id:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # never longer than what was asked for, however the wall clock has jumped
        connection.execute(
            "UPDATE jobs SET wait_until = ? + max(seq % ?, min(wait_for, wait_since + wait_for - ?))"
            " WHERE state = 'waiting'",
            (mono, SPREAD, wall),
        )
        connection.execute(
            "UPDATE jobs SET expires = max(1, ? + min(deadline - ?, deadline - created)) WHERE expires > 0",
            (mono, wall),
        )
        # how long was left of these is not known any more
        connection.execute("DELETE FROM gates WHERE until IS NOT NULL")
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot_id,))


def totals(connection: sqlite3.Connection) -> dict[str, Any]:
    """The counters that the core begins with: jobs by state and owner, and what was delivered."""
    owned: dict[str, dict[State, int]] = {}
    for table in ("jobs", "history"):
        query = f"SELECT owner, state, count(*) FROM {table} GROUP BY owner, state"
        for owner, state, count in connection.execute(query):
            of_owner = owned.setdefault(owner, {})
            of_owner[State(state)] = of_owner.get(State(state), 0) + count
    counts: Counter[State] = Counter()
    for of_owner in owned.values():
        counts.update(of_owner)
    query = "SELECT coalesce(sum(size), 0) FROM history WHERE state = 'completed'"
    (delivered,) = connection.execute(query).fetchone()
    delivered_to = dict.fromkeys(owned, delivered)
    if len(owned) > 1:
        # no index has it: not to be paid for where there is one owner
        query = "SELECT owner, sum(size) FROM history WHERE state = 'completed' GROUP BY owner"
        delivered_to = dict(connection.execute(query))
    return {"counts": dict(counts), "owned": owned, "delivered": delivered, "delivered_to": delivered_to}
