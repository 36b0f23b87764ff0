"""Workspaces: what may be kept, in and out of rooms, and nothing that a worker leaves is trusted."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.wait import read_line

from fetchd.daemon.service.signals import Signals
from fetchd.daemon.supervise.untrusted import LostError, entered, home, opened
from fetchd.protocol import journal
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.mailbox import Options, Validator

from .staged import BOOT, CONTENT, House, write_frontier

OTHER_BOOT = "ffffffff-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def house(downloads: Path) -> House:
    (downloads / "target").mkdir()
    return House(downloads, downloads / "target")


# what may be kept


def test_a_new_workspace(house: House) -> None:
    job = house.job()
    prepared = house.workspaces.prepare(job, str(house.room))
    assert (prepared.have, prepared.validator, prepared.total) == ((), Validator(), None)
    here = Path(prepared.path)
    assert here == house.room / "job"
    assert {path.name: path.stat().st_size for path in here.iterdir()} == {
        "data": 0, "frontier": journal.SIZE,
    }  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in here.iterdir()} == {0o600}
    assert not (house.area / "jobs" / "job").exists()


def test_within_a_boot_the_frontier_is_the_truth(house: House) -> None:
    job = house.job(synced=((0, 5),), total=7, etag='"old"')
    here = house.prepared(house.job())
    (here / "data").write_bytes(b"x" * 60)
    write_frontier(here, 50)
    house.workspaces.retrieve(job)
    prepared = house.workspaces.prepare(job, str(house.room))
    assert (prepared.have, prepared.validator, prepared.total) == (((0, 50),), Validator(etag='"v1"'), 100)


@pytest.mark.parametrize("stale", [{"boot": OTHER_BOOT}, {"generation": 1}])
def test_after_another_boot_only_what_was_synced_is(house: House, stale: dict[str, object]) -> None:
    """Also where the frontier is of an older content than the job's: nothing was written since."""
    job = house.job(generation=2, synced=((0, 5),), total=70, etag='"old"', last_modified="then")
    here = house.prepared(house.job(generation=2))
    (here / "data").write_bytes(b"x" * 60)
    write_frontier(here, 50, **{"generation": 2, **stale})  # type: ignore[arg-type]
    prepared = house.workspaces.prepare(job, str(house.room))
    assert prepared.have == ((0, 5),)
    assert (prepared.validator, prepared.total) == (Validator(etag='"old"', last_modified="then"), 70)


@pytest.mark.parametrize("boot", [BOOT, OTHER_BOOT])
def test_a_content_that_the_row_does_not_know_of_is_not_trusted(house: House, boot: str) -> None:
    """The row is from a backup: what was synced of its content has been overwritten since."""
    here = house.prepared(house.job(generation=1))
    (here / "data").write_bytes(b"x" * 60)
    write_frontier(here, 50, boot=boot, generation=2)
    prepared = house.workspaces.prepare(house.job(generation=1), str(house.room))
    assert (prepared.have, prepared.validator, prepared.total) == ((), Validator(), None)
    with pytest.raises(FetchdError) as refused:
        house.workspaces.prepare(house.job(generation=1, synced=((0, 5),), total=70), str(house.room))
    assert refused.value.code is Code.IO_ERROR


def test_bytes_ahead_of_an_older_row_are_kept(house: House) -> None:
    """The row is from a backup, and of the same content."""
    job = house.job(generation=1, attempt=0)
    here = house.prepared(job)
    (here / "data").write_bytes(b"x" * 60)
    write_frontier(here, 50, generation=1)
    prepared = house.workspaces.prepare(job, str(house.room))
    assert (prepared.have, prepared.validator, prepared.total) == (((0, 50),), Validator(etag='"v1"'), 100)


def test_claims_beyond_the_file_are_worth_nothing(house: House) -> None:
    job = house.job()
    here = house.prepared(job)
    (here / "data").write_bytes(b"x" * 10)
    write_frontier(here, 50)
    prepared = house.workspaces.prepare(job, str(house.room))
    assert (prepared.have, prepared.validator, prepared.total) == ((), Validator(), None)


def test_a_file_whose_sync_failed_is_not_resumed_from(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next sync would say that all is well, and the daemon may be killed before the core knows."""

    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    job = house.job()
    here = house.prepared(job)
    (here / "data").write_bytes(b"x" * 60)
    write_frontier(here, 50)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        house.workspaces.seal(job, 60)
    assert house.workspaces.prepare(job, str(house.room)).have == ()


def test_synced_bytes_that_are_gone_are_told(house: House) -> None:
    """The row would go on saying that they are there, while others are written in their place."""
    house.prepared(house.job())
    with pytest.raises(FetchdError) as refused:
        house.workspaces.prepare(house.job(synced=((0, 500),), total=1000, etag='"old"'), str(house.room))
    assert refused.value.code is Code.IO_ERROR


@pytest.mark.parametrize("left", [b"", b"short", b"x" * journal.SIZE, b"x" * 100_000])
def test_a_frontier_that_is_none_is_made_anew(house: House, left: bytes) -> None:
    """A full disk may have left an empty one: mapping that would fail for ever."""
    job = house.job(synced=((0, 5),), total=70, etag='"old"')
    here = house.prepared(house.job())
    (here / "data").write_bytes(b"x" * 60)
    (here / "frontier").write_bytes(left)
    prepared = house.workspaces.prepare(job, str(house.room))
    assert prepared.have == ((0, 5),)
    assert (Path(prepared.path) / "frontier").stat().st_size == journal.SIZE


def test_a_disk_that_is_full_leaves_no_half_made_file(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda _fd, content: len(content) // 2)
    with pytest.raises(OSError, match="No space"):
        house.prepared(house.job())
    monkeypatch.undo()
    assert not (house.area / "jobs" / "job" / "frontier").exists()
    assert (house.prepared(house.job()) / "frontier").stat().st_size == journal.SIZE


# in and out of rooms


def test_from_room_to_room(house: House) -> None:
    job = house.job()
    (house.prepared(job) / "data").write_bytes(b"kept")
    second = house.area / "rooms" / "second"
    second.mkdir()
    house.workspaces.retrieve(job)
    assert house.data(job).read_bytes() == b"kept"
    assert house.workspaces.path(job) == str(house.area / "jobs" / "job")
    prepared = house.workspaces.prepare(job, str(second))
    assert Path(prepared.path, "data").read_bytes() == b"kept"
    assert house.workspaces.path(job) == prepared.path == str(second / "job")
    house.workspaces.clean(job)
    assert list(second.iterdir()) == []
    house.workspaces.retrieve(job)


def test_a_room_that_is_gone(house: House) -> None:
    job = house.job()
    house.prepared(job)
    shutil.rmtree(house.room)
    house.workspaces.retrieve(job)
    with pytest.raises(LostError), entered(home(job)) as workspace, opened(workspace):
        pass


def test_from_a_dead_room_into_another(house: House) -> None:
    """As when a worker finishes while its job is paused, and dies: nobody takes the workspace home."""
    job = house.job()
    (house.prepared(job) / "data").write_bytes(b"kept")
    house.workspaces.vacate(str(house.room))
    assert house.room.exists()
    second = house.area / "rooms" / "second"
    second.mkdir()
    prepared = house.workspaces.prepare(job, str(second))
    assert Path(prepared.path, "data").read_bytes() == b"kept"
    assert not house.room.exists()


# what a worker may leave


def to_symlink(path: Path) -> None:
    path.unlink()
    (path.parent.parent / "victim").write_bytes(CONTENT)
    path.symlink_to(path.parent.parent / "victim")


def to_hard_link(path: Path) -> None:
    path.unlink()
    (path.parent.parent / "victim").write_bytes(CONTENT)
    os.link(path.parent.parent / "victim", path)


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_directory(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)
    (path / "deep").chmod(0)


def to_nothing(path: Path) -> None:
    path.unlink()


HOSTILE = [to_symlink, to_hard_link, to_fifo, to_directory]


@pytest.mark.parametrize("name", ["data", "frontier"])
@pytest.mark.parametrize("change", [*HOSTILE, to_nothing])
def test_the_next_worker_gets_a_sound_workspace(
    house: House, change: Callable[[Path], None], name: str
) -> None:
    """Nobody waits at a FIFO, and nothing behind a link is written to."""
    job = house.job()
    here = house.prepared(job)
    (here / "data").write_bytes(CONTENT)
    change(here / name)
    house.workspaces.retrieve(job)
    prepared = house.workspaces.prepare(job, str(house.room))
    for path in Path(prepared.path).iterdir():
        assert path.is_file()
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1
    victim = house.room / "victim"
    assert not victim.exists() or victim.read_bytes() == CONTENT


@pytest.mark.parametrize("change", HOSTILE)
def test_what_is_no_plain_file_is_never_sealed(house: House, change: Callable[[Path], None]) -> None:
    job = house.job()
    here = house.prepared(job)
    (here / "data").write_bytes(CONTENT)
    change(here / "data")
    with pytest.raises((FetchdError, OSError)):
        house.workspaces.seal(job, len(CONTENT))
    house.workspaces.clean(job)
    assert list((house.area / "jobs").iterdir()) == []


def test_a_workspace_that_was_replaced_by_a_link(house: House, downloads: Path) -> None:
    """Neither is it brought home, nor is what it points to sealed or deleted."""
    job = house.job()
    here = house.prepared(job)
    precious = downloads / "precious"
    precious.mkdir()
    (precious / "data").write_bytes(CONTENT)
    shutil.rmtree(here)
    here.symlink_to(precious)
    with pytest.raises(LostError):
        house.workspaces.seal(job, len(CONTENT))
    house.workspaces.clean(job)
    assert (precious / "data").read_bytes() == CONTENT
    assert not os.path.lexists(house.area / "jobs" / "job")


def test_a_file_of_another_size(house: House) -> None:
    job = house.job()
    (house.prepared(job) / "data").write_bytes(CONTENT)
    with pytest.raises(FetchdError, match=f"has {len(CONTENT)} bytes, the worker said 5"):
        house.workspaces.seal(job, 5)


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_file_that_somebody_may_still_write_to(house: House, how: str) -> None:
    job = house.job()
    path = house.prepared(job) / "data"
    path.write_bytes(CONTENT)
    script = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "if sys.argv[2] == 'mapped': held = mmap.mmap(fd, 0); os.close(fd)\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        read_line(process.stdout.fileno(), 10)
        with pytest.raises(FetchdError, match="still writes"):
            house.workspaces.seal(job, len(CONTENT))
        assert process.stdin is not None
        process.stdin.close()
    assert house.workspaces.seal(job, len(CONTENT)).size == len(CONTENT)


@pytest.fixture
def signals() -> Iterator[None]:
    """The signals of a daemon."""
    before = {number: signal.getsignal(number) for number in (signal.SIGIO, signal.SIGUSR1)}
    made = Signals(signal.SIGUSR1)
    yield
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_whoever_opens_a_leased_file_does_not_kill_us(house: House, signals: None) -> None:
    """The kernel tells the holder of a lease by SIGIO, whose default is to end the process."""
    job = house.sealed()
    script = "import os, sys; print('ready', flush=True); os.close(os.open(sys.argv[1], os.O_RDWR))"
    with entered(home(job)) as workspace, opened(workspace):
        command = [sys.executable, "-c", script, str(house.data(job))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        read_line(process.stdout.fileno(), 10)
        # it waits in open(2) until the lease is given back; by then the signal has come
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    assert process.wait(10) == 0
    process.stdout.close()


def test_sealing_sets_the_mode_and_tells_what_identifies_it(house: House) -> None:
    job = house.sealed(umask=0o027)
    found = house.data(job).stat()
    assert found.st_mode & 0o777 == 0o640
    assert (job.size, job.inode, job.mtime_ns) == (len(CONTENT), found.st_ino, found.st_mtime_ns)


def test_a_file_keeps_the_time_of_the_server(house: House) -> None:
    job = house.sealed(modified=1_500_000_000_000_001)
    assert house.data(job).stat().st_mtime_ns == job.mtime_ns == 1_500_000_000_000_001_000


@pytest.mark.parametrize(
    ("modified", "wishes"), [(0, {}), (1 << 61, {}), (1_500_000_000_000_000, {"keep_time": False})]
)
def test_a_time_that_is_not_known_or_wanted_is_not_kept(
    house: House, modified: int, wishes: dict[str, bool]
) -> None:
    before = time.time_ns()
    job = house.sealed(modified=modified, options=Options(**wishes))
    # file systems have a clock of their own, which lags behind
    assert abs(house.data(job).stat().st_mtime_ns - before) < 60e9


@pytest.mark.parametrize("name", ["f", None])
def test_what_a_newer_file_has_to_be_newer_than(house: House, name: str | None) -> None:
    newer = Options(if_newer=True)
    wanted = house.job(options=newer, name=None, wanted=name, url="http://a.test/f?x=***")
    path = house.target / "f"
    assert house.workspaces.prepare(wanted, str(house.room)).newer_than is None
    path.symlink_to("/dev/null")
    assert house.workspaces.prepare(wanted, str(house.room)).newer_than is None
    path.unlink()
    path.write_text("x")
    os.utime(path, ns=(0, 5_000_007_000))
    assert house.workspaces.prepare(wanted, str(house.room)).newer_than == 5_000_007
    assert house.workspaces.prepare(house.job(), str(house.room)).newer_than is None, "nobody asked"


# at the start


def test_a_dead_room_waits_for_the_workspaces_that_are_still_wanted(house: House) -> None:
    """A worker may be ended between the end of an attempt and the sealing of its file."""
    job = house.job()
    prepared = house.workspaces.prepare(job, str(house.room))
    Path(prepared.path, "data").write_bytes(CONTENT)
    (house.room / "rubbish").write_text("x")
    house.workspaces.vacate(str(house.room))
    assert [entry.name for entry in house.room.iterdir()] == [job.id]
    house.workspaces.retrieve(job)
    assert not house.room.exists()
    assert (house.area / "jobs" / job.id / "data").read_bytes() == CONTENT


def test_a_dead_room_goes_with_its_last_workspace(house: House) -> None:
    job = house.job()
    house.workspaces.prepare(job, str(house.room))
    house.workspaces.vacate(str(house.room))
    house.workspaces.clean(job)
    assert not house.room.exists()
