"""Bytes on their way to the disk: data before frontier before report, errors that end it, checksums."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tmp import TempDir

from fetchd.daemon.transfer import sink as sinks
from fetchd.daemon.transfer.sink import Sink, file_error
from fetchd.protocol import journal
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator

from .single import Single

Report = tuple[int, int]
VALIDATOR = Validator(etag='"v1"')

SCRIPT = """
import os
import signal
import sys
from pathlib import Path
from fetchd.daemon.transfer.sink import SinkError
from fetchd.protocol.mailbox import Validator
from tests.adapters.single import Single

steps, directory, total = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sink = Single(directory, 0, lambda generation, position: print("synced", position, flush=True))
try:
    sink.start(Validator(etag='"v1"'), total or None, 0, 0)
    for step in steps.split(","):
        match step.partition(":"):
            case "write", _, size:
                sink.write(b"x" * int(size))
            case "thread", _, _:
                sink._thread.join()
            case "again", _, _:
                sink.start(Validator(etag='"v1"'), None, 0, 9)
            case "kill", _, _:
                os.kill(os.getpid(), signal.SIGKILL)
            case other, _, _:
                getattr(sink, other)()
    print("fine", flush=True)
except SinkError as error:
    print(error.code, flush=True)
finally:
    sink.close()
"""


@pytest.fixture
def workspace(downloads: Path) -> Path:
    return fresh(downloads / "w")


def fresh(directory: Path) -> Path:
    directory.mkdir()
    (directory / "data").touch()
    (directory / "frontier").write_bytes(journal.blank())
    return directory


@pytest.fixture
def made(workspace: Path) -> Iterator[tuple[Single, list[Report]]]:
    reports: list[Report] = []
    sink = Single(workspace, 0, lambda *report: reports.append(report))
    yield sink, reports
    sink.close()


def frontier(workspace: Path) -> tuple[tuple[int, int], ...]:
    read = journal.read((workspace / "frontier").read_bytes())
    assert read is not None
    return read.ranges


def run(workspace: Path, steps: str, *wrapper: str, total: int = 0) -> list[str]:
    """What a process says that carries the steps out."""
    command = [*wrapper, sys.executable, "-c", SCRIPT, steps, str(workspace), str(total)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or "kill" in steps, done.stderr
    return done.stdout.split("\n")[:-1]


def strace(*options: str) -> list[str]:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing (apt-get install strace): errors of system calls are left out")
    return ["strace", "-f", "-qq", "-o", "/dev/null", *options]


# in order


def test_the_frontier_follows_every_write(made: tuple[Single, list[Report]], workspace: Path) -> None:
    sink, reports = made
    sink.start(VALIDATOR, None, 0, 0)
    for piece in (b"abc", b"", b"defg"):
        sink.write(piece)
        assert frontier(workspace) == ((0, sink.position),)
        assert (workspace / "data").stat().st_size == sink.position
    assert reports == []
    sink.sync()
    assert reports == [(0, 7)]
    assert (workspace / "data").read_bytes() == b"abcdefg"


def test_a_new_content_drops_what_lies_behind_it(made: tuple[Single, list[Report]], workspace: Path) -> None:
    sink, _ = made
    sink.start(VALIDATOR, None, 0, 0)
    sink.write(b"0123456789")
    sink.start(VALIDATOR, 8, 0, 4)
    assert (workspace / "data").read_bytes() == b"0123"
    assert frontier(workspace) == ((0, 4),)
    sink.write(b"abcd")
    assert (workspace / "data").read_bytes() == b"0123abcd"
    sink.start(Validator(), None, 1, 0)
    assert (workspace / "data").read_bytes() == b""
    assert frontier(workspace) == ()


def test_data_is_synced_before_anybody_is_told(workspace: Path) -> None:
    """In the order of the system calls: what is written, fdatasync, the report."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing (apt-get install strace)")
    log = workspace.parent / "trace"
    size = sinks.SYNC_BYTES
    wrapper = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=pwrite64,fdatasync,write"]
    said = run(workspace, f"write:{size},write:1,settle,sync", *wrapper)
    assert said[-2:] == [f"synced {size + 1}", "fine"]
    state = "clean"
    for line in log.read_text().splitlines():
        if "pwrite64(" in line:
            state = "dirty"
        elif "fdatasync(" in line or "fdatasync resumed" in line:
            state = "synced" if line.endswith("= 0") else state
        elif 'write(1, "synced' in line:
            assert state == "synced", "told before it was on disk"
    assert state == "synced"


def test_it_syncs_by_itself_while_bytes_come(
    made: tuple[Single, list[Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, reports = made
    told = threading.Event()

    def synced(*report: int) -> None:
        reports.append(report)  # type: ignore[arg-type]
        told.set()

    monkeypatch.setattr(sinks, "TELL", 0.0)
    sink.told = synced
    sink.start(VALIDATOR, None, 5, 0)
    for _ in range(sinks.SYNC_BYTES >> 20):
        sink.write(bytes(1 << 20))
    assert told.wait(10)
    assert reports[0][0] == 5
    assert reports[0][1] <= sink.position


@pytest.mark.parametrize(("lag", "waits"), [(0.0, True), (60.0, False)])
def test_writing_waits_for_a_disk_that_is_far_behind(
    made: tuple[Single, list[Report]], monkeypatch: pytest.MonkeyPatch, lag: float, waits: bool
) -> None:
    """Not much more than two intervals are written that are not yet synced, when it has had its time."""
    sink, _ = made
    monkeypatch.setattr(sinks, "LAG", lag)
    go_on, began = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd: int) -> None:
        began.set()
        assert go_on.wait(20)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    sink.start(VALIDATOR, None, 0, 0)
    done = threading.Event()

    def write() -> None:
        for number in range(5 * sinks.SYNC_BYTES >> 20):
            sink.write(bytes(1 << 20))
            # what counts is how far the disk is behind, not how soon the thread has begun
            assert number < sinks.SYNC_BYTES >> 20 or began.wait(10)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert began.wait(10)
    assert done.wait(0.5 if waits else 20) != waits
    go_on.set()
    writer.join(20)
    assert done.is_set()


# errors


@pytest.mark.parametrize(
    "steps",
    [
        "write:{big},thread,again,settle",
        "write:{big},thread,settle",
        "write:{big},thread,sync",
        "write:{big},thread,write:1",
        "write:9,sync",
    ],
    ids=["begun again", "at the end", "at a stop", "in between", "at once"],
)
def test_a_sync_that_fails_ends_the_attempt(workspace: Path, steps: str) -> None:
    """The kernel tells of it once: whoever asks again is told that all is well, and may be told a lie."""
    wrapper = strace("-e", "inject=fdatasync:error=EIO:when=1")
    said = run(workspace, steps.format(big=sinks.SYNC_BYTES), *wrapper)
    assert said == ["io_error"]
    # what was written is not resumed from, although it can still be read: the row knows what was synced
    assert journal.read((workspace / "frontier").read_bytes()) is None


def test_a_sync_that_fails_is_on_record_before_it_is_told(workspace: Path) -> None:
    """The worker may be killed before it can tell of it; what follows, if anything, does not count either."""
    wrapper = strace("-e", "inject=fdatasync:error=EIO:when=1")
    run(workspace, f"write:{sinks.SYNC_BYTES},thread,kill", *wrapper)
    assert journal.read((workspace / "frontier").read_bytes()) is None


def test_a_sync_without_room_is_a_full_disk(workspace: Path) -> None:
    wrapper = strace("-e", "inject=fdatasync:error=ENOSPC:when=1")
    assert run(workspace, "write:9,sync", *wrapper) == ["disk_full"]


def test_a_write_without_room_keeps_what_went_before(workspace: Path) -> None:
    wrapper = strace("-e", "inject=pwrite64:error=ENOSPC:when=2+")
    assert run(workspace, "write:9,write:9", *wrapper) == ["disk_full"]
    assert frontier(workspace) == ((0, 9),)


def test_a_file_system_that_cannot_reserve(workspace: Path) -> None:
    """Then there is only the look at the free space."""
    wrapper = strace("-e", "inject=fallocate:error=EOPNOTSUPP")
    assert run(workspace, "write:9", *wrapper, total=4 << 20) == ["fine"]
    free = os.statvfs(workspace)
    too_much = free.f_bavail * free.f_frsize + (1 << 30)
    assert run(workspace, "write:9", *wrapper, total=too_much) == ["disk_full"]


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A file system of 2 MiB."""
    with TempDir() as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "fetchd-test", str(directory)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield directory
        finally:
            subprocess.run(["umount", str(directory)], check=True)


def test_a_file_that_does_not_fit_is_refused_before_its_first_byte(tiny: Path) -> None:
    assert run(fresh(tiny / "w"), "write:9", total=8 << 20) == ["disk_full"]
    assert (tiny / "w" / "data").stat().st_size == 0


def test_a_disk_that_fills_up(tiny: Path) -> None:
    """Nothing that was written is lost, and the frontier says how much that is."""
    workspace = fresh(tiny / "w")
    assert run(workspace, ",".join(["write:300000"] * 10)) == ["disk_full"]
    ((start, end),) = frontier(workspace)
    assert (start, end) == (0, (workspace / "data").stat().st_size)
    assert end > 1_000_000


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, Code.DISK_FULL),
        (errno.EDQUOT, Code.DISK_FULL),
        (errno.EIO, Code.IO_ERROR),
        (errno.EROFS, Code.DISK_GONE),
        (errno.EACCES, Code.IO_ERROR),
    ],
)
def test_codes_of_file_errors(number: int, code: Code) -> None:
    assert file_error(OSError(number, os.strerror(number))).code is code


def test_a_workspace_with_a_torn_frontier_is_an_error_not_a_hang(workspace: Path) -> None:
    (workspace / "frontier").write_bytes(b"")
    with pytest.raises((OSError, ValueError)):
        Sink(workspace, 0, (), lambda *_: None)


def test_links_are_not_followed(workspace: Path, downloads: Path) -> None:
    (downloads / "other").write_bytes(b"keep me")
    (workspace / "data").unlink()
    (workspace / "data").symlink_to(downloads / "other")
    with pytest.raises(OSError, match="symbolic"):
        Sink(workspace, 0, (), lambda *_: None)
    assert (downloads / "other").read_bytes() == b"keep me"
