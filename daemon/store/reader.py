"""The reading helper process: pages of jobs, over read-only connections, without the loop waiting for them.

It neither writes to the database nor checkpoints; damage that it meets is marked. Requests and answers are
one MessagePack frame each.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from heapq import merge
from pathlib import Path
from typing import Any

import msgspec
import zmq

from fetchd.daemon.core.gates import Gate, GateKey, Gates
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.view import snapshot
from fetchd.daemon.service import child
from fetchd.protocol import control
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.job import TERMINAL, Reason, State

from .damage import is_certain, mark
from .schema import COLUMNS, from_row, unpack_labels

logger = logging.getLogger("fetchd")

_NAMES = ", ".join(COLUMNS)

SCAN = 20_000
"""Rows that are looked at for one page."""

FEW = 1000
"""IDs with a common prefix up to which they are looked at one by one."""

QUESTIONS = 1000
"""Questions that may wait for the helper."""

Place = tuple[int, str, int]
"""Revision, table and seq of a job."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs or a replay of events: of one owner, or (None) of all."""

    token: int
    owner: str | None
    page: control.List | None = None
    replay: control.Replay | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, as plain data; `error` where it did not work, `damaged` where that is why."""

    token: int
    found: dict[str, Any] | None = None
    error: str | None = None
    damaged: bool = False


def main(database: str, endpoint: str, parent: int, workers_lock: str) -> None:
    """Serve pages until the supervisor is gone."""
    child.settle(parent, Path(workers_lock), "fetchd-reader")
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    socket.send(b"")
    while True:
        question = msgspec.msgpack.decode(socket.recv(), type=Question)
        try:
            reply = Reply(token=question.token, found=answer(connection, question))
        except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
            # a row that is damaged is no reason to let the others wait for another helper
            damaged = is_certain(error)
            if damaged:
                mark(Path(database).parent, error)
            reply = Reply(token=question.token, error=f"{type(error).__name__}: {error}", damaged=damaged)
        socket.send(msgspec.msgpack.encode(reply))


def answer(connection: sqlite3.Connection, question: Question) -> dict[str, Any]:
    """What was asked for, as it was at one moment: a job that moves between tables is seen once."""
    connection.execute("BEGIN")
    try:
        if question.page is not None:
            return page(connection, question.owner, question.page)
        assert question.replay is not None, "a question asks something"
        return replay(connection, question.owner, question.replay)
    finally:
        connection.execute("COMMIT")


def replay(connection: sqlite3.Connection, owner: str | None, query: control.Replay) -> dict[str, Any]:
    """Lifecycle events after a revision; `oldest` is the first one that is still kept, of whoever."""
    oldest, newest = connection.execute(
        "SELECT (SELECT min(revision) FROM events), (SELECT max(revision) FROM events)"
    ).fetchone()
    rows = connection.execute(
        "SELECT revision, time, kind, job, body FROM events WHERE revision > ? AND (owner = ? OR ?)"
        " ORDER BY revision LIMIT ?",
        (query.since, owner, owner is None, query.limit + 1),
    ).fetchall()
    more = len(rows) > query.limit
    events = [
        {"revision": revision, "time": time, "type": kind, "job": job, "data": msgspec.msgpack.decode(body)}
        for revision, time, kind, job, body in rows[: query.limit]
    ]
    reached = events[-1]["revision"] if more and events else max(newest or 0, query.since)
    return {"events": events, "revision": reached, "more": more, "oldest": oldest or 0}


def page(connection: sqlite3.Connection, owner: str | None, query: control.List) -> dict[str, Any]:
    """The newest `limit` jobs that match, live and finished together, by revision.

    States are matched as they are shown. A page may be short, and still have a cursor, where gates make
    queued jobs look otherwise, or where few jobs match.
    """
    gates = Gates(
        tuple(
            Gate(key=GateKey(kind, name, Reason(reason)), since=since, until=until, detail=detail)
            for kind, name, reason, since, until, detail in connection.execute("SELECT * FROM gates")
        )
    )
    ahead = (time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1000
    wanted = set(query.states)
    stored = wanted | ({State.QUEUED} if wanted & {State.PAUSED, State.WAITING} and list(gates) else set())
    places, cursor = _find(connection, owner, query, stored or set(State))
    shown = [(job, gates.shown(job)) for job in _fetch(connection, places)]
    return {
        "jobs": [
            msgspec.to_builtins(
                snapshot(
                    job,
                    shown=state,
                    workspace=_workspace(job),
                    not_before=gates.opens(job, ahead),
                    error=gates.error(job),
                )
            )
            for job, state in shown
            if not wanted or state[0] in wanted
        ],
        "cursor": cursor,
    }


def _workspace(job: Job) -> str | None:
    """Where the workspace of a job lies that no worker has; the loop knows better of the others."""
    return f"{job.area}/jobs/{job.id}" if job.attempt and not job.terminal else None


def _find(
    connection: sqlite3.Connection, owner: str | None, query: control.List, states: set[State]
) -> tuple[list[Place], int | None]:
    """Where the jobs of a page are, the newest revision first, and the cursor of the next page.

    Every state of every owner is a stream in the order of an index, and the streams are merged. Filters that
    no index serves look at `SCAN` rows a page at most, so that one client's question never keeps the others
    from theirs for long; the page is short then.
    """
    streams = []
    for state in sorted(states):
        table = "history" if state in TERMINAL else "jobs"
        for one in _owners(connection, table) if owner is None else [owner]:
            streams.append(connection.execute(*_stream(connection, table, state, one, query)))
    found: list[Place] = []
    rows = merge(*streams, key=lambda row: -row[0])
    for scanned, (revision, table, seq, labels, changed, job_id) in enumerate(rows, 1):
        if len(found) == query.limit:
            return found, found[-1][0]
        if _matches(query, labels, changed, job_id):
            found.append((revision, table, seq))
        if scanned == SCAN:
            return found, revision
    return found, None


def _owners(connection: sqlite3.Connection, table: str) -> list[str]:
    """Everybody who has jobs, by as many steps in an index as there are owners."""
    query = (
        f"WITH RECURSIVE o(name) AS (SELECT min(owner) FROM {table} UNION ALL SELECT"
        f" (SELECT min(owner) FROM {table} WHERE owner > o.name) FROM o WHERE o.name IS NOT NULL)"
        " SELECT name FROM o WHERE name IS NOT NULL"
    )
    return [name for (name,) in connection.execute(query)]


def _stream(
    connection: sqlite3.Connection, table: str, state: State, owner: str, query: control.List
) -> tuple[str, tuple[Any, ...]]:
    """The statement for the jobs in one state, by falling revision."""
    values: tuple[Any, ...] = (owner, str(state), MAX_INT if query.cursor is None else query.cursor)
    index, where = f"{table}_state", ""
    if query.prefix:
        # a range of the index on id, if it is a small one; the alphabet of IDs ends before '~'
        bounds = (query.prefix, query.prefix + "~")
        (count,) = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE id >= ? AND id < ? LIMIT ?)",
            (*bounds, FEW + 1),
        ).fetchone()
        if count <= FEW:
            index, where, values = f"{table}_id", " AND id >= ? AND id < ?", (*values, *bounds)
    statement = (
        f"SELECT revision, '{table}', seq, labels, coalesce(finished, started, created), id FROM {table}"
        f" INDEXED BY {index} WHERE owner = ? AND state = ? AND revision < ?{where} ORDER BY revision DESC"
    )
    return statement, values


def _matches(query: control.List, labels: bytes, changed: int, job_id: str) -> bool:
    if changed < query.since or not job_id.startswith(query.prefix):
        return False
    return not query.labels or unpack_labels(labels).items() >= query.labels.items()


def _fetch(connection: sqlite3.Connection, places: list[Place]) -> list[Job]:
    rows: dict[int, Job] = {}
    for table in ("jobs", "history"):
        wanted = msgspec.json.encode([seq for _, place, seq in places if place == table]).decode()
        query = f"SELECT {_NAMES} FROM {table} WHERE seq IN (SELECT value FROM json_each(?))"
        for job in map(from_row, connection.execute(query, (wanted,))):
            rows[job.seq] = job
    return [rows[seq] for _, _, seq in places]


Deliver = Callable[[dict[str, Any] | None, str | None], None]


class Reader:
    """The supervisor's side: asks the helper process, which is started at first use.

    `damaged` hears what the helper says of a database that it cannot read.
    """

    def __init__(self, context: "zmq.Context[Any]", directory: Path, start: Callable[[str], None]) -> None:
        self._start = start
        self._waiting: dict[int, tuple[Question, Deliver]] = {}
        self._next = 0
        self.damaged: Callable[[str], None] = lambda _text: None
        self._up = False
        self._started = False
        self._path = directory / f"reader-{os.getpid()}"
        self.endpoint = f"ipc://{self._path}"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ZAP_DOMAIN, b"reader")
        self.socket.bind(self.endpoint)

    def ask(
        self,
        owner: str | None,
        deliver: Deliver,
        *,
        page: control.List | None = None,
        replay: control.Replay | None = None,
    ) -> None:
        """Ask for a page or a replay; `deliver(found, error)` runs in the loop."""
        if len(self._waiting) >= QUESTIONS:
            deliver(None, "too many questions wait for the reading helper")
            return
        self._next += 1
        question = Question(token=self._next, owner=owner, page=page, replay=replay)
        self._waiting[question.token] = (question, deliver)
        if self._up:
            self._send(question)
        elif not self._started:
            self._started = True
            self._start(self.endpoint)

    def take(self) -> None:
        """Deliver all answers that are there."""
        while True:
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not frame:
                self._up = True
                for question, _ in list(self._waiting.values()):
                    self._send(question)
                continue
            try:
                reply = msgspec.msgpack.decode(frame, type=Reply)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                logger.exception("the reading helper speaks nonsense")
                continue
            _, deliver = self._waiting.pop(reply.token, (None, None))
            if deliver is not None:
                deliver(reply.found, reply.error)
            if reply.damaged:
                self.damaged(reply.error or "")

    def lost(self) -> None:
        """The helper died: those who wait are told, the next one to ask starts another."""
        self._up = self._started = False
        waiting, self._waiting = self._waiting, {}
        for _, deliver in waiting.values():
            deliver(None, "the reading helper died")

    def close(self) -> None:
        self.socket.close(0)
        self._path.unlink(missing_ok=True)

    def _send(self, question: Question) -> None:
        # where the helper has just died its end is still to be noticed, and `lost` tells whoever waits
        with contextlib.suppress(zmq.Again):
            self.socket.send(msgspec.msgpack.encode(question), zmq.NOBLOCK)
