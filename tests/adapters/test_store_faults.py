"""What the store does when it is killed, when its file system is full, and when the disk does not sync."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchd.daemon.service.ballast import Ballast
from fetchd.daemon.store import backup, damage
from fetchd.daemon.store.database import Database
from fetchd.daemon.store.thread import Store

from .store_jobs import event, job, saved

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="needs strace")

PROGRAM = """
import json, sqlite3, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from adapters.store_jobs import event, job, saved
from fetchd.daemon.store import backup
from fetchd.daemon.store.database import Database
state = Path(sys.argv[1])
"""
TESTS = str(Path(__file__).parents[1])


def run(body: str, state: Path, *inject: str) -> subprocess.CompletedProcess[str]:
    """Run a program on a state directory, with faults in its system calls."""
    command = [sys.executable, "-c", PROGRAM.format(tests=TESTS) + body, str(state)]
    if inject:
        assert STRACE is not None
        faults = [part for one in inject for part in ("-e", f"inject={one}")]
        command = [STRACE, "-f", "-qq", "-o", "/dev/null", *faults, *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def fill(state: Path, count: int = 50) -> Path:
    """A closed database with jobs and one backup of it."""
    db = Database(state)
    db.identity("lineage", 8)
    rows = [job(seq) for seq in range(1, count + 1)]
    db.apply([*saved(rows), *[event(row.seq, row) for row in rows]])
    made = backup.make(state)
    db.close()
    return made


def known(db: Database) -> int:
    (count,) = db.connection.execute("SELECT count(*) FROM jobs").fetchone()
    return int(count)


# kills


@needs_strace
@pytest.mark.parametrize("fault", ["fsync:when=1", "fsync:when=2", "rename:when=1", "unlink:when=2"])
def test_a_kill_in_the_middle_of_a_backup(downloads: Path, fault: str) -> None:
    """It is there in full or not at all, and the next one is made."""
    fill(downloads)
    call, when = fault.split(":")
    done = run("backup.make(state)", downloads, f"{call}:signal=KILL:{when}")
    assert done.returncode == -9, done.stderr
    for one in backup.found(downloads):
        backup.check(one.path)
    before = len(backup.found(downloads))
    made = backup.make(downloads)
    assert len(backup.found(downloads)) == min(backup.KEEP, before + 1)
    assert {path.name for path in made.parent.iterdir()} == {one.path.name for one in backup.found(downloads)}


@needs_strace
@pytest.mark.parametrize(
    "fault", [f"rename:when={n}" for n in range(1, 5)] + ["fsync:when=4", "mkdir:when=2"]
)
def test_a_kill_in_the_middle_of_a_restore(downloads: Path, fault: str) -> None:
    """The next start goes on with it, and everything that was damaged lies together."""
    fill(downloads)
    broken = b"this is no database" * 999
    (downloads / "fetchd.db").write_bytes(broken)
    (downloads / "fetchd.db-wal").write_bytes(b"nor is this its log")
    call, when = fault.split(":")
    done = run("Database(state)", downloads, f"{call}:signal=KILL:{when}")
    assert done.returncode == -9, done.stderr
    db = Database(downloads)
    assert known(db) == 50
    assert db.restored is not None
    aside = Path(db.restored.damaged)
    assert (aside / "fetchd.db").read_bytes() == broken
    assert (aside / "fetchd.db-wal").read_bytes() == b"nor is this its log"
    db.close()


# a disk that does not sync

COMMITS = """
db = Database(state)
told = []
for seq in range(1, 9):
    one = job(seq)
    try:
        db.apply([*saved([one]), event(seq, one)])
        told.append(seq)
    except sqlite3.Error as error:
        assert error.sqlite_errorcode & 255 == sqlite3.SQLITE_IOERR, error
        db.reopen()
    if seq == 5:
        try:
            db.checkpoint()
        except sqlite3.Error as error:
            db.reopen()
print(json.dumps(told), flush=True)
import os
os._exit(0)
"""


@needs_strace
@pytest.mark.parametrize("when", ["3", "9", "11+3", "12..16"])
def test_a_commit_whose_sync_fails(downloads: Path, when: str) -> None:
    """It reports that, what was acknowledged is there, and the next one works or fails as cleanly."""
    Database(downloads).close()
    done = run(COMMITS, downloads, f"fdatasync:error=EIO:when={when}", f"fsync:error=EIO:when={when}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # the other one fails in a checkpoint
    assert (len(told) < 8) == (when != "9"), "the fault has to be met"
    db = Database(downloads)
    assert db.restored is None
    have = set(db.by_ids([f"job-{seq}" for seq in range(1, 9)]))
    assert {f"job-{seq}" for seq in told} <= have
    with closing(backup.opened(db.path)) as reader:
        damage.check(reader, thorough=True)
    db.close()


# a full disk


@pytest.fixture
def small(downloads: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = downloads / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"mount: {error}")
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def stuff(place: Path) -> Path:
    """Leave no room at all."""
    path = place / "stuff"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return path


def settle(store: Store, wanted: int, answers: list[BaseException | None]) -> None:
    """Take what comes until there are so many answers."""
    import select

    while len(answers) < wanted:
        assert select.select([store.wake], [], [], 20)[0], "the store does not answer"
        store.take()


def big(seq: int) -> list:  # type: ignore[type-arg]
    """A batch of about half a megabyte."""
    return saved([job(seq * 1000 + n, labels={"text": "x" * 5000}) for n in range(100)])


def test_a_commit_that_finds_no_room_gets_the_ballast(small: Path) -> None:
    """Nothing of it is lost, the loop is told, and the one after it fails as it would have without."""
    ballast = Ballast(small / "ballast", 1 << 20)
    assert ballast.restore()
    store = Store(small, ballast)
    full: list[int] = []
    store.full = lambda: full.append(1)
    store.start()
    answers: list[BaseException | None] = []
    try:
        store.commit(big(1), lambda _none, error: answers.append(error))
        settle(store, 1, answers)
        path = stuff(small)
        store.commit(big(2), lambda _none, error: answers.append(error))
        settle(store, 2, answers)
        assert answers == [None, None]
        assert (full, ballast.held) == ([1], False)
        stuff(small)
        for seq in (3, 4, 5):
            store.commit(big(seq), lambda _none, error: answers.append(error))
        settle(store, 5, answers)
        assert isinstance(answers[-1], sqlite3.Error)
        assert answers[-1].sqlite_errorcode == sqlite3.SQLITE_FULL
        path.unlink()
        store.call(lambda database: database.reopen(), lambda _none, error: answers.append(error))
        store.commit(big(6), lambda _none, error: answers.append(error))
        settle(store, 7, answers)
        assert answers[5:] == [None, None]
    finally:
        store.close()
    db = Database(small)
    assert db.restored is None
    for seq in (1, 2, 6):
        assert len(db.by_ids([f"job-{seq * 1000 + n}" for n in range(100)])) == 100
    with closing(backup.opened(db.path)) as reader:
        damage.check(reader, thorough=True)
    db.close()


def test_a_checkpoint_and_a_backup_on_a_full_disk_lose_nothing(small: Path) -> None:
    db = Database(small)
    db.apply(big(1))
    path = stuff(small)
    with pytest.raises((sqlite3.Error, OSError)):
        backup.make(small)
    assert backup.found(small) == []
    with contextlib.suppress(sqlite3.OperationalError):
        db.checkpoint()
    path.unlink()
    db.reopen()
    assert known(db) == 100
    db.checkpoint()
    db.close()
    with closing(backup.opened(small / "fetchd.db")) as reader:
        damage.check(reader, thorough=True)


def test_a_restore_on_a_full_disk_waits_for_room(small: Path) -> None:
    """It takes no older backup and no empty database instead, and the damaged one stays until then."""
    fill(small)
    with open(small / "fetchd.db", "r+b") as file:
        file.write(b"no database")
    before = (small / "fetchd.db").read_bytes()
    path = stuff(small)
    with pytest.raises((sqlite3.Error, OSError)) as caught:
        Database(small)
    assert not damage.is_damage(caught.value)
    assert (small / "fetchd.db").read_bytes() == before
    path.unlink()
    db = Database(small)
    assert known(db) == 50
    db.close()


def test_the_locks_on_the_index_of_the_log_are_kept(downloads: Path) -> None:
    """Another process that gets this one truncates the index under our feet: the next commit is a SIGBUS."""
    first = Database(downloads)
    first.apply(saved([job(1)]))
    state = shutil.copytree(downloads, downloads / "copy")
    first.close()
    db = Database(state)
    body = """
import fcntl
with open(sys.argv[1] + "/fetchd.db-shm", "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
"""
    assert "BlockingIOError" in run(body, state).stderr
    db.close()
