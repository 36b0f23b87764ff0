"""Pages from the reading helper: every filter, every job once, and a helper that may die at any time."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.wait import Deadline, process_exit

from fetchd.daemon.core.commands import SaveGate
from fetchd.daemon.core.gates import Gate, GateKey
from fetchd.daemon.router.access import Access
from fetchd.daemon.router.zap import Authorizer
from fetchd.daemon.store import reader as module
from fetchd.daemon.store.database import Database
from fetchd.daemon.store.reader import Question, Reader, answer
from fetchd.protocol import control
from fetchd.protocol.job import TERMINAL, Reason, State

from .store_jobs import WALL, database, event, job, reading, saved


@pytest.fixture
def db() -> Iterator[Database]:
    with database() as made:
        yield made


def ask(connection: sqlite3.Connection, owner: str | None = "uid:1", **query: Any) -> dict[str, Any]:
    return answer(connection, Question(token=1, owner=owner, page=control.List(**query)))


def pages(connection: sqlite3.Connection, **query: Any) -> list[str]:
    """The IDs of all pages."""
    found: list[str] = []
    cursor = None
    for _ in range(1000):
        page = ask(connection, cursor=cursor, **query)
        assert len(page["jobs"]) <= query.get("limit", 100)
        found += [entry["id"] for entry in page["jobs"]]
        cursor = page["cursor"]
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


LABELS = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]), max_size=2)
QUERIES = st.fixed_dictionaries(
    {"limit": st.integers(1, 7)},
    optional={
        "states": st.lists(st.sampled_from(State), max_size=3),
        "prefix": st.sampled_from(["", "job-", "job-1", "x", "~", "job-\u00e9"]),
        "labels": LABELS,
        "since": st.integers(WALL - 5, WALL + 60),
    },
)


def test_pages_tell_every_matching_job_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest revision first, whatever is asked, and however few rows are looked at for a page."""
    jobs = [
        job(
            seq,
            list(State)[seq % len(State)],
            owner=f"uid:{1 + seq % 2}",
            labels={"a": str(seq % 3), "b": "1"} if seq % 4 else {},
            started=WALL + 2 * seq if seq % 3 else None,
            finished=WALL + 3 * seq if seq % 5 == 0 else None,
            revision=(seq * 37) % 101,
        )
        for seq in range(1, 61)
    ]
    with database() as db:
        db.apply(saved(jobs))
        connection = reading(db.path)

        @settings(max_examples=200, deadline=None)
        @given(QUERIES, st.sampled_from([1, 3, 20_000]), st.sampled_from([0, 1000]))
        def check(query: dict[str, Any], scan: int, few: int) -> None:
            monkeypatch.setattr(module, "SCAN", scan)
            monkeypatch.setattr(module, "FEW", few)
            wanted = [
                one.id
                for one in sorted(jobs, key=lambda one: -one.revision)
                if one.owner == "uid:1"
                and (not query.get("states") or one.state in query["states"])
                and one.id.startswith(query.get("prefix", ""))
                and query.get("labels", {}).items() <= one.labels.items()
                and (one.finished or one.started or one.created) >= query.get("since", 0)
            ]
            assert pages(connection, **query) == wanted

        check()
        connection.close()


def test_states_are_matched_as_they_are_shown(db: Database) -> None:
    gate = Gate(key=GateKey("host", "b.test", Reason.USER), since=1)
    db.apply([*saved([job(1), job(2, host="b.test"), job(3, State.PAUSED)]), (SaveGate(gate), None)])
    connection = reading(db.path)
    assert pages(connection, states=[State.PAUSED]) == ["job-3", "job-2"]
    assert pages(connection, states=[State.QUEUED]) == ["job-1"]
    assert [entry["state"] for entry in ask(connection)["jobs"]] == ["paused", "paused", "queued"]
    connection.close()


def test_an_admin_has_the_jobs_and_events_of_everybody(db: Database) -> None:
    rows = [
        job(seq, state, owner=f"uid:{seq % 3}")
        for seq, state in enumerate([State.QUEUED, State.FAILED, State.RUNNING, State.COMPLETED] * 5, 1)
    ]
    db.apply([*saved(rows), *(event(row.revision, row) for row in rows)])
    connection = reading(db.path)
    everybody = [f"job-{seq}" for seq in range(20, 0, -1)]
    for limit in (3, 100):
        assert pages(connection, owner=None, limit=limit) == everybody
    queued = [f"job-{seq}" for seq in (17, 13, 9, 5, 1)]
    assert pages(connection, owner=None, states=[State.QUEUED], limit=2) == queued
    assert pages(connection, owner=None, prefix="job-1") == [i for i in everybody if i.startswith("job-1")]
    for owner, number in ((None, 20), ("uid:1", 7), ("uid:5", 0)):
        replay = Question(token=1, owner=owner, replay=control.Replay(since=0))
        assert len(answer(connection, replay)["events"]) == number
    connection.close()


def test_a_job_that_moves_between_the_tables_is_seen_once(db: Database) -> None:
    """A page is of one moment: else a job that comes back from the history would be in neither table."""
    connection = reading(db.path)
    one = job(1, State.FAILED)
    db.apply(saved([one]))
    moves = iter([replace(one, state=State.QUEUED, revision=2), replace(one, revision=3)] * 20)
    seen: list[str] = []

    def between(statement: str) -> None:
        if "FROM jobs" in statement or "FROM history" in statement:
            seen.append(statement)
            db.apply(saved([next(moves)]))

    connection.set_trace_callback(between)
    for _ in range(2):
        assert [entry["id"] for entry in ask(connection)["jobs"]] == ["job-1"]
    assert len(seen) > 4
    connection.set_trace_callback(None)
    connection.close()


def test_pages_use_their_indexes(db: Database) -> None:
    """In their order, so that a page costs what it shows and not what there is."""
    db.apply(saved(job(seq, state) for seq, state in enumerate(State, 1)))
    connection = reading(db.path)
    for state in State:
        table = "history" if state in TERMINAL else "jobs"
        for query in (control.List(), control.List(prefix="job"), control.List(cursor=5, since=9)):
            statement, values = module._stream(connection, table, state, "uid:1", query)
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            if query.prefix:
                assert f"USING INDEX {table}_id" in plan[0]
            else:
                assert plan == [
                    f"SEARCH {table} USING INDEX {table}_state (owner=? AND state=? AND revision<?)"
                ]
    connection.close()


def test_events_after_a_revision(db: Database) -> None:
    jobs = [job(seq, owner=f"uid:{1 + seq % 2}") for seq in range(1, 9)]
    db.apply([event(one.revision, one) for one in jobs])
    connection = reading(db.path)

    def replay(since: int, limit: int) -> dict[str, Any]:
        question = Question(token=1, owner="uid:1", replay=control.Replay(since=since, limit=limit))
        return answer(connection, question)

    first = replay(0, 2)
    assert [one["revision"] for one in first["events"]] == [2, 4]
    assert (first["more"], first["revision"], first["oldest"]) == (True, 4, 1)
    rest = replay(4, 10)
    assert [one["revision"] for one in rest["events"]] == [6, 8]
    assert (rest["more"], rest["revision"]) == (False, 8)
    connection.close()


# the process

MAIN = """
import os, sys
from fetchd.daemon.store import reader
reader.main(sys.argv[1], sys.argv[2], os.getppid(), sys.argv[3])
"""


class Helper:
    """The supervisor's side, with a process of its own for the reading."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.lock = directory / "workers.lock"
        self.lock.touch()
        self.database = str(database.path)
        self.context: zmq.Context[Any] = zmq.Context()
        self.workers: set[int] = set()
        self.authorizer = Authorizer(self.context, Access(lambda pid: pid in self.workers))
        self.reader = Reader(self.context, directory, self.start)
        self.started: list[subprocess.Popen[bytes]] = []
        self.holds = False
        self.answers: list[tuple[dict[str, Any] | None, str | None]] = []

    def start(self, endpoint: str) -> None:
        if not self.holds:
            command = [sys.executable, "-c", MAIN, self.database, endpoint, str(self.lock)]
            self.started.append(subprocess.Popen(command))

    def ask(self, **query: Any) -> None:
        self.reader.ask("uid:1", lambda *answer: self.answers.append(answer), page=control.List(**query))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = Deadline(20)
        poller = zmq.Poller()
        poller.register(self.authorizer.socket, zmq.POLLIN)
        poller.register(self.reader.socket, zmq.POLLIN)
        while not condition():
            deadline.left("the reading helper")
            poller.poll(100)
            self.authorizer.take()
            self.reader.take()

    def die(self) -> None:
        """The process is killed; the supervisor has not noticed."""
        self.started[-1].kill()
        self.started[-1].wait()

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        self.reader.close()
        self.authorizer.close()
        self.context.destroy(0)


@pytest.fixture
def helper(downloads: Path, db: Database) -> Iterator[Helper]:
    db.apply(saved([job(1)]))
    made = Helper(downloads, db)
    yield made
    made.close()


def test_it_is_started_at_first_use_and_answers_in_order(helper: Helper, db: Database) -> None:
    assert helper.started == []
    for limit in (1, 2, 3):
        helper.ask(limit=limit)
    helper.until(lambda: len(helper.answers) == 3)
    assert len(helper.started) == 1
    found = [page["jobs"] for page, _ in helper.answers if page is not None]
    assert [[entry["id"] for entry in page] for page in found] == [["job-1"]] * 3
    db.apply(saved([job(2)]))
    helper.ask()
    helper.until(lambda: len(helper.answers) == 4)
    assert helper.answers[3][0] is not None
    assert [entry["id"] for entry in helper.answers[3][0]["jobs"]] == ["job-2", "job-1"]


def test_it_dies_and_another_one_takes_over(helper: Helper) -> None:
    """Those who wait are told, whoever asks before its end was noticed too; the next one starts another."""
    helper.ask()
    helper.until(lambda: len(helper.answers) == 1)
    os.kill(helper.started[0].pid, signal.SIGSTOP)
    helper.ask()
    helper.die()
    until = time.monotonic() + 0.3
    helper.until(lambda: time.monotonic() > until)
    helper.ask()
    assert len(helper.answers) == 1
    helper.reader.lost()
    assert [error for _, error in helper.answers[1:]] == ["the reading helper died"] * 2
    helper.ask()
    helper.until(lambda: len(helper.answers) == 4)
    assert helper.answers[3][1] is None
    assert len(helper.started) == 2


def test_questions_are_bounded(helper: Helper) -> None:
    helper.holds = True
    for _ in range(module.QUESTIONS + 5):
        helper.ask()
    assert [error for _, error in helper.answers] == ["too many questions wait for the reading helper"] * 5


def test_a_damaged_row_is_told_and_the_helper_goes_on(helper: Helper, db: Database) -> None:
    db.connection.execute("UPDATE jobs SET synced = x'c1'")
    helper.ask()
    helper.until(lambda: len(helper.answers) == 1)
    assert "job-1" in (helper.answers[0][1] or "")
    db.connection.execute("DELETE FROM jobs")
    helper.ask()
    helper.until(lambda: len(helper.answers) == 2)
    assert helper.answers[1][0] == {"jobs": [], "cursor": None}
    assert len(helper.started) == 1


@pytest.mark.parametrize("frame", [b"\xc1", b"\x91" * 5000, b"\x80", b"\x81\xa5token\xc0"])
def test_nonsense_on_its_socket_ends_nothing(helper: Helper, frame: bytes) -> None:
    stranger: zmq.Socket[bytes] = helper.context.socket(zmq.DEALER)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.connect(helper.reader.endpoint)
    stranger.send(frame)
    until = time.monotonic() + 0.3
    helper.until(lambda: time.monotonic() > until)
    stranger.close()
    helper.ask()
    helper.until(lambda: len(helper.answers) == 1)
    assert helper.answers[0][1] is None


def test_it_ends_with_its_supervisor(helper: Helper) -> None:
    """Its parent is dead before it could bind itself to it: it exits at once."""
    orphan = MAIN.replace("os.getppid()", "1")
    process = subprocess.Popen([sys.executable, "-c", orphan, helper.database, "ipc://x", str(helper.lock)])
    process_exit(process.pid, 10)
    assert process.wait() == 1
