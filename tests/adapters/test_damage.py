"""A database that is damaged in any way: it is put aside, a backup goes on, and somebody is told.

`FETCHD_FUZZ_DAMAGE=N` tries N times as many places as usual.
"""

import logging
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.tmp import TempDir

from fetchd.daemon.service import report
from fetchd.daemon.store import backup, damage, repair, schema
from fetchd.daemon.store.database import Database

from .damaging import BACKED_UP, JOBS, LAST, check_restored, fill, jobs, start
from .store_jobs import event, job, saved

TIMES = int(os.environ.get("FETCHD_FUZZ_DAMAGE", "1"))


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The files of such a database, as a kill leaves them."""
    with TempDir() as state:
        fill(state)
        yield state / "image"


@pytest.fixture
def state(image: Path, downloads: Path) -> Path:
    """A fresh copy."""
    return shutil.copytree(image, downloads / "state")


def flip(path: Path, draw: random.Random) -> None:
    """Damage one place: a bit, a run of bytes, a page of zeros or the end."""
    size = path.stat().st_size
    at = draw.randrange(size)
    with open(path, "r+b") as file:
        kind = draw.choice(("bit", "bytes", "zeros", "cut"))
        file.seek(at)
        if kind == "bit":
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << draw.randrange(8))]))
        elif kind == "bytes":
            file.write(draw.randbytes(draw.randint(1, min(600, size - at))))
        elif kind == "zeros":
            file.seek(at - at % 4096)
            file.write(bytes(min(4096, size - file.tell())))
        else:
            file.truncate(at)


@pytest.mark.parametrize("seed", range(40 * TIMES))
def test_damage_anywhere(image: Path, seed: int) -> None:
    """Every job is there, or there is a backup in its place and a report. The log brings back what it can."""
    draw = random.Random(seed)
    with TempDir() as base:
        state = shutil.copytree(image, base / "state")
        # what is in the log hides what is in the file, so it is moved into it where the file is hit
        if draw.random() < 0.8:
            with closing(sqlite3.connect(state / "fetchd.db")) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            flip(state / "fetchd.db", draw)
        else:
            (state / "fetchd.db-shm").unlink()
            flip(state / "fetchd.db-wal", draw)
        untouched = (state / "fetchd.db-wal").exists()
        db = start(state)
        try:
            if db.restored is None:
                # what a log has lost at its end was never there, as far as anybody can tell
                assert jobs(db) in ({JOBS, BACKED_UP} if untouched else {JOBS})
            else:
                check_restored(state, db)
        finally:
            db.close()


def damaged_at_open(state: Path) -> None:
    (state / "fetchd.db-wal").unlink()
    (state / "fetchd.db-shm").unlink()
    with open(state / "fetchd.db", "r+b") as file:
        file.write(b"nothing that SQLite knows")


def empty(state: Path) -> None:
    (state / "fetchd.db-wal").unlink()
    os.truncate(state / "fetchd.db", 0)


def gone(state: Path) -> None:
    (state / "fetchd.db").unlink()


def a_directory(state: Path) -> None:
    gone(state)
    (state / "fetchd.db").mkdir()
    (state / "fetchd.db" / "file").touch()


def absurd(state: Path) -> None:
    with closing(sqlite3.connect(state / "fetchd.db")) as connection:
        connection.execute("PRAGMA user_version = 1000000")


def no_table(state: Path) -> None:
    with closing(sqlite3.connect(state / "fetchd.db")) as connection:
        connection.execute("DROP TABLE gates")


def row(state: Path) -> None:
    with closing(sqlite3.connect(state / "fetchd.db")) as connection:
        connection.execute("UPDATE jobs SET state = 'running', labels = x'c1' WHERE seq = 200")
        connection.commit()


def suspected_row(state: Path) -> None:
    with closing(sqlite3.connect(state / "fetchd.db")) as connection:
        connection.execute("UPDATE history SET state = 'over' WHERE seq = 20")
        connection.commit()
    damage.mark(state, "somebody has seen something")


WAYS = [damaged_at_open, empty, gone, a_directory, absurd, no_table, row, suspected_row]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_backup_goes_on(state: Path, way: object, caplog: pytest.LogCaptureFixture) -> None:
    assert callable(way)
    way(state)
    before = (state / "fetchd.db").read_bytes() if (state / "fetchd.db").is_file() else None
    db = start(state)
    restored = check_restored(state, db)
    assert restored.revision_before == BACKED_UP
    assert restored.backup == backup.found(state)[-1].path.name
    (said,) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert "jobs submitted after" in said
    if way is damaged_at_open:
        assert Path(restored.damaged, "fetchd.db").read_bytes() == before
    db.apply(saved([job(JOBS + 1)]))
    db.settle_restore()
    db.close()
    again = Database(state)
    assert again.restored is None
    assert jobs(again) == BACKED_UP + 1
    again.close()


def test_a_replay_from_before_a_restore_is_too_old(state: Path) -> None:
    damaged_at_open(state)
    db = Database(state)
    oldest, newest = db.connection.execute("SELECT min(revision), max(revision) FROM events").fetchone()
    assert oldest == newest == BACKED_UP + repair.LEAP
    db.close()


def test_what_others_know_us_by_stays(state: Path) -> None:
    """Also where no backup has it; only the lineage is another."""
    db = Database(state)
    before = {key: db.identity(key) for key in ("instance", "hash_key", "lineage")}
    shutil.rmtree(state / "backups")
    db.checkpoint()
    with open(state / "fetchd.db", "r+b") as file:
        file.write(b"no database")
    db.suspect("nothing can be read of it any more")
    db.reopen()
    check_restored(state, db, known=0)
    assert {key for key in before if db.identity(key) != before[key]} == {"lineage"}
    db.close()
    again = Database(state)
    assert again.identity("instance") == before["instance"]
    again.close()


def test_where_there_is_no_backup_it_begins_anew(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(state / "backups")
    damaged_at_open(state)
    db = Database(state)
    check_restored(state, db, known=0)
    assert "it begins anew" in caplog.text
    db.close()


def test_the_newest_good_backup_is_taken(state: Path) -> None:
    """Not one that is empty, damaged or of a newer fetchd, and not what has no right name."""
    (good,) = [one.path for one in backup.found(state)]
    place = good.parent
    shutil.copy(good, place / "fetchd-20990101T000000.000000Z-3.db")
    with open(place / "fetchd-20990101T000000.000000Z-3.db", "r+b") as file:
        file.seek(5000)
        file.write(bytes(20_000))
    (place / "fetchd-20990102T000000.000000Z-3.db").touch()
    (place / "fetchd-20990103T000000.000000Z-3.db").mkdir()
    shutil.copy(good, place / "fetchd-20990104T000000.000000Z-9.db")
    with closing(sqlite3.connect(place / "fetchd-20990104T000000.000000Z-9.db")) as connection:
        connection.execute("PRAGMA user_version = 9")
    shutil.copy(good, place / "fetchd-99999999T000000.000000Z-3.db")
    damaged_at_open(state)
    db = Database(state)
    assert check_restored(state, db).backup == good.name
    db.close()


def test_a_suspicion_that_is_wrong_changes_nothing(state: Path) -> None:
    damage.mark(state, "a cosmic ray")
    db = start(state)
    assert (db.restored, jobs(db), damage.marked(state)) == (None, JOBS, None)
    assert not (state / "damaged").exists()
    db.close()


def test_a_newer_schema_is_no_damage(state: Path) -> None:
    with closing(sqlite3.connect(state / "fetchd.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    with pytest.raises(schema.SchemaError):
        Database(state)
    assert not (state / "damaged").exists()


def test_damaged_secrets_are_put_aside(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    (state / "secrets.db").write_bytes(b"no database" * 1000)
    db = start(state)
    assert (db.restored, jobs(db), db.secret("job-1")) == (None, JOBS, None)
    assert "jobs with credentials will fail" in caplog.text
    assert Path(report.read(state)["secrets"]["damaged"], "secrets.db").exists()
    db.close()


class CutError(Exception):
    """The power is gone."""


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_restore_that_is_broken_off_is_done_again(
    state: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any of its calls to the file system, and the restart comes to the same."""
    damaged_at_open(state)
    (state / "fetchd.db-wal").write_bytes(b"a log of the damaged one")
    calls = 0

    def counted(function):  # type: ignore[no-untyped-def]
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == cut:
                raise CutError
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(repair.os, "rename", counted(os.rename))
        patch.setattr(repair.shutil, "copyfile", counted(shutil.copyfile))
        patch.setattr(repair.backup, "sync", counted(backup.sync))
        try:
            Database(state).close()
        except CutError:
            assert calls == cut
        else:
            assert calls < cut, "all calls are tried"
    db = start(state)
    restored = check_restored(state, db)
    log = [path for path in (state / "damaged").rglob("fetchd.db-wal") if path.read_bytes()[:5] == b"a log"]
    # a closed connection tidies up a log of nothing; a kill does not, see below
    assert len(log) == 1 or cut <= 5, "and not beside the new one"
    assert Path(restored.damaged, "fetchd.db").exists()
    db.close()


def commit_one_by_one(state: Path, damaged: int, *, again: bool = False) -> Database:
    """Ten commits in the log, the page of one of them damaged (-1: the header of the log).

    `again`: then they are written back, and of another round there is nothing but the header.
    """
    db = Database(state)
    db.checkpoint()
    db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    log = Path(f"{db.path}-wal")
    ends = []
    for seq in range(1001, 1011):
        db.apply([*saved([job(seq)]), event(LAST + seq, job(seq))])
        ends.append(log.stat().st_size)
    last_round = log.read_bytes()
    if again:
        db.checkpoint()
        db.apply(saved([job(1011)]))
        assert log.stat().st_size == ends[-1], "the log begins anew in the same file"
    copy = shutil.copytree(state, state.parent / "cut")
    db.close()
    (copy / "fetchd.db-shm").unlink()
    with open(copy / "fetchd.db-wal", "r+b") as file:
        if again:
            file.seek(32)
            file.write(last_round[32:])
        file.seek(18 if damaged < 0 else ends[damaged] - 100)
        file.write(b"x")
    return Database(copy)


@pytest.mark.parametrize("damaged", [-1, 0, 4, 8])
def test_a_log_that_is_damaged_in_the_middle(state: Path, damaged: int) -> None:
    """What comes before is newer than any backup and is gone on from; that the rest is lost is told."""
    db = commit_one_by_one(state, damaged)
    commits = max(0, damaged)
    restored = check_restored(db.path.parent, db, JOBS + commits)
    assert f"the last {10 - commits} commits are lost" in restored.reason
    assert restored.revision_before == (LAST + 1000 + commits if commits else LAST)
    assert Path(restored.damaged, "fetchd.db-wal").stat().st_size > 0
    db.close()


def test_a_log_whose_last_commit_is_torn_is_as_a_power_cut_leaves_it(state: Path) -> None:
    db = commit_one_by_one(state, 9)
    assert (db.restored, jobs(db)) == (None, JOBS + 9)
    db.close()


def test_a_log_that_has_just_begun_anew(state: Path) -> None:
    """Behind its header are the frames of the last round, which have been written back long ago."""
    db = commit_one_by_one(state, 0, again=True)
    assert (db.restored, jobs(db)) == (None, JOBS + 10)
    db.close()
