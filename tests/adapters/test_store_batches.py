"""Batches: every field survives, all or nothing, lanes are true, secrets outlast the jobs that need them."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fetchd.daemon.core.commands import DropSecrets, Durable, Forget, SaveJob, SaveReply, SaveSecrets
from fetchd.daemon.core.job import Job
from fetchd.daemon.store import upkeep
from fetchd.daemon.store.database import Database
from fetchd.protocol.control import Done
from fetchd.protocol.job import State

from .store_jobs import AREA, WALL, anything, database, event, job, saved

Batch = list[tuple[Durable, bytes | None]]
HEADS = """
SELECT host, owner, grp, area, priority, seq FROM (
    SELECT *, row_number() OVER (PARTITION BY host, owner, grp, area ORDER BY priority DESC, seq) AS place
    FROM jobs WHERE state = 'queued') WHERE place = 1 ORDER BY 1, 2, 3, 4
"""
LANES = "SELECT host, owner, grp, area, head_priority, head_seq FROM lanes ORDER BY 1, 2, 3, 4"


@pytest.fixture
def db() -> Iterator[Database]:
    with database() as made:
        yield made


def rows(db: Database, query: str) -> list[tuple[Any, ...]]:
    return db.connection.execute(query).fetchall()


def test_every_field_comes_back() -> None:
    with database() as db:

        @settings(max_examples=200, deadline=None)
        @given(st.lists(anything, max_size=5, unique_by=(lambda one: one.seq, lambda one: one.id)))
        def check(jobs: list[Job]) -> None:
            db.connection.execute("DELETE FROM jobs")
            db.connection.execute("DELETE FROM history")
            db.apply(saved(jobs))
            found = db.by_ids([one.id for one in jobs])
            assert sorted(found.values(), key=lambda one: one.seq) == sorted(jobs, key=lambda one: one.seq)
            live = {seq for (seq,) in rows(db, "SELECT seq FROM jobs")}
            assert live == {one.seq for one in jobs if not one.terminal}

        check()


@pytest.mark.parametrize("where", ["jobs", "history", "events", "replies", "lanes"])
def test_a_batch_is_all_or_nothing(db: Database, where: str) -> None:
    db.apply([*saved([job(1), job(2, host="b.test")]), event(1, job(1))])
    before = {table: rows(db, f"SELECT * FROM {table}") for table in ("jobs", "history", "events", "lanes")}
    db.connection.execute(
        f"CREATE TRIGGER broken BEFORE INSERT ON {where} BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"
    )
    batch: Batch = [
        *saved([replace(job(1), state=State.COMPLETED), job(3, host="c.test"), job(4)]),
        event(2, job(4)),
        (SaveReply("uid:1", "r", b"d", Done(), WALL), None),
    ]
    with pytest.raises(sqlite3.Error, match="disk on fire"):
        db.apply(batch)
    assert {table: rows(db, f"SELECT * FROM {table}") for table in before} == before
    assert db.reply("uid:1", "r") is None
    db.connection.execute("DROP TRIGGER broken")
    db.apply(batch)
    assert db.by_ids(["job-1"])["job-1"].state is State.COMPLETED


def test_a_damaged_row_is_an_error_of_the_database(db: Database) -> None:
    db.apply(saved([job(1)]))
    db.connection.execute("UPDATE jobs SET labels = x'c1'")
    with pytest.raises(sqlite3.DatabaseError, match="job-1"):
        db.by_ids(["job-1"])


# lanes

STEPS = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(State),
        st.sampled_from(["a.test", "b.test"]),
        st.integers(-1, 1),
        st.integers(0, 1),
        st.sampled_from(["save", "save", "save", "forget"]),
    ),
    max_size=12,
)


def test_lanes_are_what_a_full_query_says() -> None:
    """Whatever a batch holds, a job that passes through several states in one batch included."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(STEPS, max_size=6))
    def check(batches: list[list[tuple[int, State, str, int, int, str]]]) -> None:
        with database() as db:
            known: dict[int, Job] = {}
            for steps in batches:
                batch: Batch = []
                for seq, state, host, priority, attempt, act in steps:
                    # the lane of a job is for life
                    one = known.get(seq, job(seq, host=host, priority=priority))
                    known[seq] = one = replace(one, state=state, attempt=attempt)
                    batch.append((SaveJob(1, one), None))
                    if act == "forget":
                        batch.append((Forget(1, one), None))
                        del known[seq]
                db.apply(batch)
                assert rows(db, LANES) == rows(db, HEADS)
                assert {one for (one,) in rows(db, "SELECT seq FROM jobs")} == {
                    seq for seq, one in known.items() if not one.terminal
                }

    check()


def test_lanes_come_best_head_first(db: Database) -> None:
    db.apply(saved([job(1, host="a"), job(2, host="b", priority=5), job(3, host="c"), job(4, host="b")]))
    assert [lane.host for lane in db.lanes(10)[0]] == ["b", "a", "c"]
    assert db.lanes(3)[1] is False
    found, more = db.lanes(2)
    assert ([lane.host for lane in found], more) == (["b", "a"], True)
    assert found[0] == ("b", "uid:1", "", AREA)


# secrets


def secrets_of(db: Database) -> dict[str, bytes]:
    return dict(db.secrets.execute("SELECT job, payload FROM secrets").fetchall())


def at_commit(db: Database, look: Callable[[], None]) -> None:
    """Call `look` just before the next COMMIT of the main database is carried out."""
    db.connection.set_trace_callback(lambda statement: look() if statement == "COMMIT" else None)


def test_secrets_are_there_before_the_job_is(db: Database) -> None:
    seen: list[dict[str, bytes]] = []
    at_commit(db, lambda: seen.append(secrets_of(db)))
    db.apply([*saved([job(1, secret=True)]), (SaveSecrets("job-1", b"s"), None)])
    assert seen == [{"job-1": b"s"}]


def test_secrets_go_after_the_job_no_longer_needs_them(db: Database) -> None:
    db.apply([*saved([job(1, secret=True)]), (SaveSecrets("job-1", b"s"), None)])
    seen: list[dict[str, bytes]] = []
    at_commit(db, lambda: seen.append(secrets_of(db)))
    db.apply([*saved([job(1, State.COMPLETED)]), (DropSecrets("job-1"), None)])
    assert seen == [{"job-1": b"s"}]
    assert secrets_of(db) == {}


def test_secrets_of_a_batch_that_fails_are_kept(db: Database) -> None:
    db.apply([*saved([job(1, secret=True)]), (SaveSecrets("job-1", b"s"), None)])
    db.connection.execute(
        "CREATE TRIGGER broken BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(sqlite3.Error):
        db.apply([*saved([job(1, State.COMPLETED)]), (DropSecrets("job-1"), None)])
    assert secrets_of(db) == {"job-1": b"s"}


def test_secrets_that_cannot_be_dropped_do_not_undo_what_is_committed(db: Database) -> None:
    """The batch is on disk by then: to report it as failed would be a lie."""
    db.apply([*saved([job(1, secret=True)]), (SaveSecrets("job-1", b"s"), None)])
    db.secrets.execute("CREATE TRIGGER broken BEFORE DELETE ON secrets BEGIN SELECT RAISE(ABORT, 'no'); END")
    db.apply([*saved([job(1, State.COMPLETED)]), (DropSecrets("job-1"), None)])
    assert db.by_ids(["job-1"])["job-1"].state is State.COMPLETED
    db.secrets.execute("DROP TRIGGER broken")
    db.load("boot", 0, WALL)
    assert secrets_of(db) == {}


def test_an_id_that_is_used_again_keeps_its_new_secrets(db: Database) -> None:
    db.apply([*saved([job(1, secret=True)]), (SaveSecrets("job-1", b"old"), None)])
    again = job(2, id="job-1", secret=True)
    db.apply(
        [
            (DropSecrets("job-1"), None),
            (Forget(1, job(1)), None),
            *saved([again]),
            (SaveSecrets("job-1", b"new"), None),
        ]
    )
    assert secrets_of(db) == {"job-1": b"new"}
    assert db.by_ids(["job-1"]) == {"job-1": again}


def test_orphan_secrets_are_swept_at_start(db: Database) -> None:
    db.apply(saved([job(1, secret=True), job(2, State.CANCELLED)]))
    for name in ("job-1", "job-2", "nobody"):
        db.secrets.execute("INSERT INTO secrets VALUES (?, ?)", (name, b"s"))
    db.load("boot", 0, WALL)
    assert secrets_of(db) == {"job-1": b"s"}


def test_the_key_of_the_hashes_is_with_the_secrets(db: Database) -> None:
    """Whoever gets a backup has the hashes and not their key; that of an older database is moved."""
    old = b"k" * 32
    db.connection.execute("INSERT INTO meta VALUES ('hash_key', ?)", (old,))
    assert db.hash_key() == db.hash_key() == old
    assert db.connection.execute("SELECT * FROM meta WHERE key = 'hash_key'").fetchall() == []
    assert db.secrets.execute("SELECT * FROM keys").fetchall() == [("hash_key", old)]


def test_the_secrets_file_is_private(db: Database) -> None:
    directory = db.path.parent
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"fetchd.db", "secrets.db"} <= modes.keys()


# replies and events


def test_replies_are_kept_for_their_time_and_no_longer(db: Database) -> None:
    def reply(req: str, time: int) -> tuple[Durable, bytes | None]:
        return SaveReply("uid:1", req, b"d", Done(), time), None

    db.apply([reply("old", WALL), reply("new", WALL + upkeep.REPLY_LIFE)])
    db.prune(WALL + upkeep.REPLY_LIFE)
    assert db.reply("uid:1", "old") is not None
    db.prune(WALL + upkeep.REPLY_LIFE + 1)
    assert db.reply("uid:1", "old") is None
    assert db.reply("uid:1", "new") == (b"d", b"\x80")
    assert db.reply("uid:2", "new") is None


def test_replies_and_events_stay_in_bounds_at_any_rate(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pruned once a minute is not enough for a busy day: every batch takes along what it can."""
    monkeypatch.setattr(upkeep, "KEEP_EVENTS", 50)
    for number in range(400):
        reply = SaveReply("uid:1", f"r{number}", b"d", Done(), WALL + number * upkeep.REPLY_LIFE // 20)
        db.apply([(reply, None), *(event(number * 5 + i, job(1)) for i in range(1, 6))])
    assert rows(db, "SELECT count(*) FROM replies")[0][0] <= 25
    assert rows(db, "SELECT count(*), max(revision) FROM events") == [(50, 2000)]


def test_lanes_less_those_that_any_number_of_gates_hold(db: Database) -> None:
    """More parked hosts than SQLite takes terms in an expression, or parameters."""
    hosts = [f"h{number}.test" for number in range(3)]
    db.apply(saved(job(seq, State.QUEUED, host=host) for seq, host in enumerate(hosts, 1)))
    parked = [("host", f"{number}.test") for number in range(40_000)]
    lanes, more = db.lanes(5, [*parked, ("host", "h1.test"), ("daemon", "")])
    assert ([lane.host for lane in lanes], more) == (["h0.test", "h2.test"], False)
    assert db.lanes(5, [*parked, ("owner", "uid:1")]) == ([], False)
