"""The reading helper process: pages of jobs, over read-only connections, without the loop waiting for them.

It neither writes nor checkpoints. Requests and answers are one MessagePack frame each.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from fetchd.daemon.core.gates import Gate, GateKey, Gates
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.view import snapshot
from fetchd.daemon.service import child
from fetchd.protocol import control
from fetchd.protocol.job import TERMINAL, Reason, State

from .schema import COLUMNS, from_row

_NAMES = ", ".join(COLUMNS)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs or a replay of events, for one owner."""

    token: int
    owner: str
    page: control.List | None = None
    replay: control.Replay | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, as plain data; `error` where it did not work."""

    token: int
    found: dict[str, Any] | None = None
    error: str | None = None


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
        except sqlite3.Error as error:
            reply = Reply(token=question.token, error=str(error))
        socket.send(msgspec.msgpack.encode(reply))


def answer(connection: sqlite3.Connection, question: Question) -> dict[str, Any]:
    """What was asked for."""
    if question.page is not None:
        return page(connection, question.owner, question.page)
    assert question.replay is not None, "a question asks something"
    return replay(connection, question.owner, question.replay)


def replay(connection: sqlite3.Connection, owner: str, query: control.Replay) -> dict[str, Any]:
    """Lifecycle events after a revision; `oldest` is the first one that is still kept, of whoever."""
    # one transaction, so that nothing is pruned between the two looks
    connection.execute("BEGIN")
    try:
        oldest, newest = connection.execute("SELECT min(revision), max(revision) FROM events").fetchone()
        rows = connection.execute(
            "SELECT revision, time, kind, job, body FROM events WHERE revision > ? AND owner = ?"
            " ORDER BY revision LIMIT ?",
            (query.since, owner, query.limit + 1),
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    more = len(rows) > query.limit
    events = [
        {"revision": revision, "time": time, "type": kind, "job": job, "data": msgspec.msgpack.decode(body)}
        for revision, time, kind, job, body in rows[: query.limit]
    ]
    reached = events[-1]["revision"] if more and events else max(newest or 0, query.since)
    return {"events": events, "revision": reached, "more": more, "oldest": oldest or 0}


def page(connection: sqlite3.Connection, owner: str, query: control.List) -> dict[str, Any]:
    """The newest `limit` jobs that match, live and finished together, by revision.

    States are matched as they are shown. A page may be short, and still have a cursor, where gates make
    queued jobs look otherwise.
    """
    gates = Gates(
        tuple(
            Gate(key=GateKey(kind, name, Reason(reason)), since=since, until=until)
            for kind, name, reason, since, until in connection.execute("SELECT * FROM gates")
        )
    )
    wanted = set(query.states)
    stored = wanted | ({State.QUEUED} if wanted & {State.PAUSED, State.WAITING} and list(gates) else set())
    rows: list[tuple[Any, ...]] = []
    for table in ("jobs", "history"):
        states = [state for state in stored if (state in TERMINAL) == (table == "history")]
        if states or not stored:
            rows += _rows(connection, table, owner, query, states)
    rows.sort(key=lambda row: -row[-1])
    jobs = [from_row(row[:-1]) for row in rows[: query.limit]]
    shown = [(job, gates.shown(job)) for job in jobs]
    return {
        "jobs": [
            msgspec.to_builtins(snapshot(job, shown=state, workspace=_workspace(job)))
            for job, state in shown
            if not wanted or state[0] in wanted
        ],
        "cursor": jobs[-1].revision if len(rows) > query.limit else None,
    }


def _workspace(job: Job) -> str | None:
    """Where the workspace of a job lies that no worker has; the loop knows better of the others."""
    return f"{job.area}/jobs/{job.id}" if job.attempt and not job.terminal else None


def _rows(
    connection: sqlite3.Connection, table: str, owner: str, query: control.List, states: list[State]
) -> list[tuple[Any, ...]]:
    where = ["owner = ?"]
    values: list[Any] = [owner]
    if query.cursor is not None:
        where.append("revision < ?")
        values.append(query.cursor)
    if states:
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += [str(state) for state in states]
    if query.prefix:
        # a range, so that the index on id serves it; the alphabet of IDs ends before '~'
        where.append("id >= ? AND id < ?")
        values += [query.prefix, query.prefix + "~"]
    if query.since:
        where.append("coalesce(finished, started, created) >= ?")
        values.append(query.since)
    select = (
        f"SELECT {_NAMES}, revision FROM {table} WHERE {' AND '.join(where)} ORDER BY revision DESC LIMIT ?"
    )
    if not query.labels:
        return connection.execute(select, (*values, query.limit + 1)).fetchall()
    return _with_labels(connection.execute(select, (*values, -1)), query)


def _with_labels(rows: sqlite3.Cursor, query: control.List) -> list[tuple[Any, ...]]:
    wanted = query.labels.items()
    found = []
    for row in rows:
        if from_row(row[:-1]).labels.items() >= wanted:
            found.append(row)
            if len(found) > query.limit:
                break
    return found


Deliver = Callable[[dict[str, Any] | None, str | None], None]


class Reader:
    """The supervisor's side: asks the helper process, which is started at first use."""

    def __init__(self, context: "zmq.Context[Any]", directory: Path, start: Callable[[str], None]) -> None:
        self._start = start
        self._waiting: dict[int, tuple[Question, Deliver]] = {}
        self._next = 0
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
        owner: str,
        deliver: Deliver,
        *,
        page: control.List | None = None,
        replay: control.Replay | None = None,
    ) -> None:
        """Ask for a page or a replay; `deliver(found, error)` runs in the loop."""
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
            reply = msgspec.msgpack.decode(frame, type=Reply)
            _, deliver = self._waiting.pop(reply.token, (None, None))
            if deliver is not None:
                deliver(reply.found, reply.error)

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
        self.socket.send(msgspec.msgpack.encode(question), zmq.NOBLOCK)
