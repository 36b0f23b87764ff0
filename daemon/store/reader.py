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


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One page for one owner."""

    token: int
    owner: str
    query: control.List


class PageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs as `JobSnapshot` maps and the cursor of the next page; `error` where it did not work."""

    token: int
    jobs: list[dict[str, Any]]
    cursor: int | None
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
        request = msgspec.msgpack.decode(socket.recv(), type=PageRequest)
        try:
            answer = page(connection, request)
        except sqlite3.Error as error:
            answer = PageAnswer(token=request.token, jobs=[], cursor=None, error=str(error))
        socket.send(msgspec.msgpack.encode(answer))


def page(connection: sqlite3.Connection, request: PageRequest) -> PageAnswer:
    """The newest `limit` jobs that match, live and finished together, by revision."""
    query = request.query
    jobs: list[tuple[Any, ...]] = []
    for table in ("jobs", "history"):
        states = [s for s in query.states if (s in TERMINAL) == (table == "history")]
        if query.states and not states:
            continue
        jobs += _rows(connection, table, request.owner, query, states)
    jobs.sort(key=lambda row: -row[-1])
    more = len(jobs) > query.limit
    found = [from_row(row[:-1]) for row in jobs[: query.limit]]
    gates = Gates(
        tuple(
            Gate(key=GateKey(kind, name, Reason(reason)), since=since, until=until)
            for kind, name, reason, since, until in connection.execute("SELECT * FROM gates")
        )
    )
    return PageAnswer(
        token=request.token,
        jobs=[
            msgspec.to_builtins(snapshot(job, shown=gates.shown(job), workspace=_workspace(job)))
            for job in found
        ],
        cursor=found[-1].revision if more and found else None,
    )


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


Deliver = Callable[[PageAnswer], None]


class Reader:
    """The supervisor's side: asks the helper process, which is started at first use."""

    def __init__(self, context: "zmq.Context[Any]", directory: Path, start: Callable[[str], None]) -> None:
        self._start = start
        self._waiting: dict[int, tuple[PageRequest, Deliver]] = {}
        self._next = 0
        self._up = False
        self._started = False
        self._path = directory / f"reader-{os.getpid()}"
        self.endpoint = f"ipc://{self._path}"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ZAP_DOMAIN, b"reader")
        self.socket.bind(self.endpoint)

    def ask(self, owner: str, query: control.List, deliver: Deliver) -> None:
        """One page; `deliver` runs in the loop."""
        self._next += 1
        request = PageRequest(token=self._next, owner=owner, query=query)
        self._waiting[request.token] = (request, deliver)
        if self._up:
            self._send(request)
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
                for request, _ in list(self._waiting.values()):
                    self._send(request)
                continue
            answer = msgspec.msgpack.decode(frame, type=PageAnswer)
            _, deliver = self._waiting.pop(answer.token, (None, None))
            if deliver is not None:
                deliver(answer)

    def lost(self) -> None:
        """The helper died: those who wait are told, the next one to ask starts another."""
        self._up = self._started = False
        waiting, self._waiting = self._waiting, {}
        for token, (_, deliver) in waiting.items():
            deliver(PageAnswer(token=token, jobs=[], cursor=None, error="the reading helper died"))

    def close(self) -> None:
        self.socket.close(0)
        self._path.unlink(missing_ok=True)

    def _send(self, request: PageRequest) -> None:
        self.socket.send(msgspec.msgpack.encode(request), zmq.NOBLOCK)
