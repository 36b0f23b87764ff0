"""Rows out of the store: windows, waits, names, the start, the thread, the log, and how queries find rows."""

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.wait import readable

from fetchd.daemon.core.commands import Forget, SaveGate, SaveLimit
from fetchd.daemon.core.gates import Gate, GateKey
from fetchd.daemon.core.intents import STEPS, Intent
from fetchd.daemon.core.job import Job, Lane
from fetchd.daemon.store import schema
from fetchd.daemon.store.database import Database
from fetchd.daemon.store.schema import SchemaError
from fetchd.daemon.store.thread import CHECKPOINT_BUSY, Store
from fetchd.protocol.job import Reason, State

from .store_jobs import WALL, database, event, job, reading, saved

SECOND = 1_000_000


@pytest.fixture
def db() -> Iterator[Database]:
    with database() as made:
        yield made


def test_windows_tell_every_job_once() -> None:
    """Paging over priorities, with any page size."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(-100, 100) | st.integers(0, 1), max_size=30), st.integers(1, 7))
    def check(priorities: list[int], size: int) -> None:
        with database() as db:
            jobs = [job(seq, priority=priority) for seq, priority in enumerate(priorities, 1)]
            db.apply(saved([*jobs, job(1000, host="b.test"), job(1001, State.PAUSED)]))
            found: list[Job] = []
            more = True
            while more:
                got, more = db.window(job(1).lane, found[-1].order if found else None, size)
                assert len(got) <= size
                assert got or not more
                found += got
            assert found == sorted(jobs, key=lambda one: one.order)

    check()


def test_due_pages_never_part_jobs_of_one_moment(db: Database) -> None:
    times = [10, 20, 20, 20, 30, 30, 40]
    db.apply(saved(job(seq, State.WAITING, wait_until=time) for seq, time in enumerate(times, 1)))
    db.apply(saved([job(50), job(51, State.PAUSED)]))
    got, until = db.due(0, 2)
    assert (sorted(one.wait_until for one in got), until) == ([10, 20, 20, 20], 20)
    got, until = db.due(20, 2)
    assert (sorted(one.wait_until for one in got), until) == ([30, 30], 30)
    assert [[one.wait_until for one in got] for got, _ in [db.due(30, 2)]] == [[40]]
    assert db.due(30, 2)[1] is None
    assert db.due(40, 2) == ([], None)


def test_reserved_names_are_those_of_live_jobs(db: Database) -> None:
    db.apply(
        saved(
            [
                job(1, name="a"),
                job(2, State.RUNNING, name="b"),
                job(3, State.COMPLETED, name="c"),
                job(4, name="a", directory="/other"),
                job(5),
            ]
        )
    )
    assert db.reserved("/data", ["a", "b", "c", "d"]) == {"a": "job-1", "b": "job-2"}
    assert db.reserved("/data", []) == {}


def test_what_the_core_starts_from(db: Database) -> None:
    states = [State.QUEUED, State.QUEUED, State.RUNNING, State.PUBLISHING, State.COMPLETED, State.FAILED]
    jobs = [job(seq, state) for seq, state in enumerate(states, 1)]
    gate = Gate(key=GateKey("daemon", "", Reason.USER), since=WALL)
    db.apply([*saved(jobs), *(event(one.revision, one) for one in jobs), (SaveGate(gate), None)])
    loaded = db.load("boot", 0, WALL)
    assert [one.id for one in loaded.active] == ["job-3", "job-4"]
    assert {state: count for state, count in loaded.counts.items() if count} == {
        State.QUEUED: 2, State.RUNNING: 1, State.PUBLISHING: 1, State.COMPLETED: 1, State.FAILED: 1,
    }  # fmt: skip
    assert (loaded.revision, loaded.seq, loaded.gates) == (6, 6, (gate,))


# waits


@pytest.mark.parametrize(
    ("passed", "left"),
    [(0, 60), (25, 35), (61, 0), (10**6, 0), (-5, 60), (-(10**6), 60)],
    ids=["none", "some", "all", "very long", "back a little", "back far"],
)
def test_waits_move_to_the_clock_of_this_boot(db: Database, passed: int, left: int) -> None:
    """By the wall clock, but never longer than was asked for, however it has jumped."""
    db.load("first boot", 5000 * SECOND, WALL)
    waits = {"wait_since": WALL, "wait_for": 60 * SECOND, "wait_until": 5060 * SECOND}
    db.apply(saved([job(1, State.WAITING, **waits), job(2)]))
    db.load("first boot", 5020 * SECOND, WALL + 3 * SECOND)
    assert db.by_ids(["job-1"])["job-1"].wait_until == 5060 * SECOND
    db.load("second boot", 7 * SECOND, WALL + passed * SECOND)
    moved = db.by_ids(["job-1"])["job-1"]
    assert moved.wait_until == 7 * SECOND + max(1, left * SECOND)
    assert (moved.wait_since, moved.wait_for) == (WALL, 60 * SECOND)


def test_waits_that_ended_while_the_machine_was_off_are_not_all_of_one_moment(db: Database) -> None:
    """A million of them would come as one answer, ties included."""
    db.load("first boot", 0, WALL)
    db.apply(
        saved(
            job(seq, State.WAITING, wait_since=WALL, wait_for=SECOND, wait_until=SECOND)
            for seq in range(1, 301)
        )
    )
    db.load("second boot", 0, WALL + 3600 * SECOND)
    got, until = db.due(0, 10)
    assert len(got) == 10
    assert until is not None
    assert all(one.wait_until <= SECOND for one in db.due(0, 1000)[0])


def test_timed_gates_do_not_survive_their_clock(db: Database) -> None:
    db.load("first boot", 0, WALL)
    timed = Gate(key=GateKey("host", "a.test", Reason.HOST_PARKED), since=1, until=10**12)
    lasting = Gate(key=GateKey("daemon", "", Reason.USER), since=1)
    db.apply([(SaveGate(timed), None), (SaveGate(lasting), None)])
    assert set(db.load("first boot", 0, WALL).gates) == {timed, lasting}
    assert db.load("second boot", 0, WALL).gates == (lasting,)


# deadlines


@pytest.mark.parametrize(
    ("passed", "left"), [(0, 60), (25, 35), (61, -1), (-5, 60), (-(10**6), 60)],
    ids=["none", "some", "over", "back a little", "back far"],
)  # fmt: skip
def test_deadlines_move_to_the_clock_of_this_boot(db: Database, passed: int, left: int) -> None:
    db.load("first boot", 5000 * SECOND, WALL)
    limited = job(1, created=WALL, deadline=WALL + 60 * SECOND, expires=5060 * SECOND)
    db.apply(saved([limited, job(2)]))
    db.load("second boot", 70 * SECOND, WALL + passed * SECOND)
    moved = db.by_ids(["job-1", "job-2"])
    assert moved["job-1"].expires == (70 + left) * SECOND
    assert (moved["job-1"].deadline, moved["job-2"].expires) == (limited.deadline, 0)


def test_a_deadline_before_this_boot_is_none_the_less_one(db: Database) -> None:
    db.load("first boot", 0, WALL)
    db.apply(saved([job(1, created=WALL, deadline=WALL + SECOND, expires=SECOND)]))
    db.load("second boot", 0, WALL + 3600 * SECOND)
    assert db.by_ids(["job-1"])["job-1"].expires == 1


def test_whose_time_is_over(db: Database) -> None:
    states = [State.QUEUED, State.WAITING, State.PAUSED, State.RUNNING, State.PUBLISHING, State.FAILED]
    db.apply(saved(job(seq, state, expires=10 - seq) for seq, state in enumerate(states, 1)))
    db.apply(saved([job(8), job(9, expires=99)]))
    assert [one.seq for one in db.overdue(50, 10)[0]] == [3, 2, 1]
    assert [one.seq for one in db.overdue(50, 2)[0]] == [3, 2]
    assert (db.overdue(50, 2)[1], db.overdue(50, 3)[1], db.overdue(6, 9)[0]) == (True, False, [])


def test_limits_are_loaded_as_they_were_set_last(db: Database) -> None:
    set_last = [("all", "", 5), ("host", "a.test", 6), ("host", "a.test", 7), ("all", "", None)]
    db.apply([(SaveLimit(*one), None) for one in [*set_last, ("host", "c.test", None)]])  # type: ignore[arg-type]
    assert db.load("boot", 0, WALL).limits == (("host", "a.test", 7),)


# schema


def test_an_empty_file_becomes_a_database(downloads: Path) -> None:
    (downloads / "fetchd.db").touch()
    db = Database(downloads)
    assert db.connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    identity = db.identity("instance")
    db.close()
    again = Database(downloads)
    assert again.identity("instance") == identity
    again.close()


def test_a_newer_schema_is_refused_and_left_as_it_was(downloads: Path) -> None:
    path = downloads / "fetchd.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE jobs (of_the_future)")
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="newer fetchd"):
        Database(downloads)
    assert path.read_bytes() == before
    assert [entry.name for entry in downloads.iterdir()] == ["fetchd.db"]


# the thread


@pytest.fixture
def store(downloads: Path) -> Iterator[Store]:
    made = Store(downloads)
    made.start()
    yield made
    made.close()


def test_answers_come_strictly_in_order(store: Store) -> None:
    """Also from calls that fail; each continuation runs in the thread that takes."""
    heard: list[object] = []

    def call(number: int) -> int:
        if number % 7 == 3:
            raise sqlite3.OperationalError(str(number))
        return number

    for number in range(200):
        store.call(
            lambda _db, number=number: call(number),  # type: ignore[misc]
            lambda result, error: heard.append((result, error and str(error), threading.current_thread())),
        )
    while len(heard) < 200:
        readable(store.wake, 10)
        store.take()
    me = threading.main_thread()
    assert heard == [(None, str(n), me) if n % 7 == 3 else (n, None, me) for n in range(200)]


def test_a_continuation_that_raises_does_not_hold_up_the_others(store: Store) -> None:
    heard: list[int] = []

    def then(result: int, _error: BaseException | None) -> None:
        heard.append(result)
        if result == 0:
            raise RuntimeError("a fault of ours")

    done = threading.Event()
    for number in range(3):
        store.call(lambda _db, number=number: number, then)  # type: ignore[misc]
    store.call(lambda _db: done.set(), lambda _result, _error: None)
    assert done.wait(10)
    readable(store.wake, 10)
    with pytest.raises(RuntimeError):
        store.take()
    readable(store.wake, 0.1, "the other answers")
    store.take()
    assert heard == [0, 1, 2]


def test_the_log_stays_in_bounds_while_somebody_reads(store: Store) -> None:
    reader = reading(store.path)
    assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    largest = 0
    done: list[BaseException | None] = []
    rounds, size = 40, 500
    for number in range(rounds):
        batch = saved(replace(job(seq), revision=number) for seq in range(1, size + 1))
        store.commit(batch, lambda _none, error: done.append(error))
        while len(done) <= number:
            readable(store.wake, 10)
            store.take()
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        largest = max(largest, Path(f"{store.path}-wal").stat().st_size)
    reader.close()
    assert done == [None] * rounds
    # without checkpoints it would have grown with every round
    assert rounds * size > 2 * CHECKPOINT_BUSY
    assert largest < 12_000_000


# how rows are found


class Recording(sqlite3.Connection):
    """A connection that remembers what was asked, with its values."""

    asked: dict[str, Any]

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        self.asked[statement] = values
        return super().execute(statement, values)

    def executemany(self, statement: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        many = list(rows)
        if many:
            self.asked[statement] = many[0]
        return super().executemany(statement, many)

    def plans(self) -> list[str]:
        """The steps of all plans that touch a table which grows with the number of jobs."""
        found = []
        for statement, values in list(self.asked.items()):
            if statement.split(" ")[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                steps = [row[3] for row in super().execute(f"EXPLAIN QUERY PLAN {statement}", values)]
                found += [f"{step}: {statement}" for step in steps if LARGE.search(step)]
        return found


LARGE = re.compile("(SCAN|SEARCH) (jobs|history|events|replies)|TEMP B-TREE")


def record(db: Database) -> Recording:
    """Have everything recorded that is asked from now on."""
    db.connection.close()
    made = sqlite3.connect(db.path, isolation_level=None, factory=Recording)
    made.asked = {}
    db.connection = made
    return made


def exercise(db: Database) -> None:
    """Everything that is asked of the writing connection while the daemon runs."""
    jobs = [job(seq, state) for seq, state in enumerate(State, 1)]
    db.apply([*saved(jobs), *(event(one.revision, one) for one in jobs)])
    db.apply(saved(replace(one, state=State.CANCELLED) for one in jobs))
    db.apply([(Forget(1, jobs[0]), None)])
    lane = Lane("a.test", "uid:1", "", "x")
    db.window(lane, None, 5)
    db.window(lane, (0, 5), 5)
    db.lanes(5, [("host", "a.test"), ("owner", "uid:1")])
    db.due(0, 5)
    db.by_ids(["job-1"])
    db.reserved("/data", ["a"])
    db.reply("uid:1", "r")
    db.prune(WALL)
    db.expired(WALL, 5)
    db.overdue(5, 5)
    for verb, failed in STEPS:
        for step in range(len(STEPS[verb, failed])):
            db.chunk(Intent(number=1, owner="uid:1", verb=verb, failed=failed, upto=9, step=step), 5)


def test_no_statement_looks_at_all_rows_of_a_large_table(db: Database) -> None:
    """Everything that is asked while the daemon runs is found by an index and in its order."""
    recording = record(db)
    exercise(db)
    plans = recording.plans()
    assert len(plans) > 20
    assert [plan for plan in plans if not plan.startswith("SEARCH")] == []
    names = [plan for plan in plans if "jobs_path" in plan]
    assert names
    assert all("name=?" in plan for plan in names)


def test_bulk_verbs_walk_by_the_order_of_submission(db: Database) -> None:
    """A chunk of a million rows must cost what a chunk of a thousand does."""
    recording = record(db)
    for verb, failed in STEPS:
        for step in range(len(STEPS[verb, failed])):
            db.chunk(Intent(number=1, owner="uid:1", verb=verb, failed=failed, upto=9, step=step), 5)
    plans = recording.plans()
    assert plans
    assert all("seq>?" in plan or "rowid>?" in plan for plan in plans), plans


def test_chunks_tell_every_job_once(db: Database) -> None:
    states = [State.QUEUED, State.FAILED, State.CANCELLED, State.COMPLETED, State.WAITING]
    jobs = [job(seq, states[seq % 5], owner=f"uid:{seq % 2}") for seq in range(1, 61)]
    db.apply(saved(jobs))
    for verb, failed in STEPS:
        for step in range(len(STEPS[verb, failed])):
            intent = Intent(number=1, owner="uid:1", verb=verb, failed=failed, upto=50, step=step)
            wanted = [
                one
                for one in jobs
                if one.owner == "uid:1"
                and one.seq <= 50
                and one.terminal == (intent.table == "history")
                and one.state in (intent.states or State)
            ]
            found: list[Job] = []
            more = True
            while more:
                got, more = db.chunk(replace(intent, cursor=found[-1].seq if found else 0), 3)
                found += got
            assert found == wanted


def test_a_start_reads_no_table_but_the_jobs_that_were_active(db: Database) -> None:
    """The counts come from indexes alone: the rows of a million jobs would be half a gigabyte."""
    exercise(db)
    recording = record(db)
    db.load("boot", 0, WALL)
    plans = [plan for plan in recording.plans() if plan.startswith("SCAN")]
    assert [p for p in plans if not re.search("COVERING INDEX|jobs_due|jobs_active", p)] == []
