"""Waiting with a deadline and without sleeping: for descriptors, for processes, for files.

Every function raises `TimeoutError` when the deadline passes. Timeouts are in seconds.
"""

import ctypes
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
CHANGES = (
    IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
    | IN_DELETE_SELF | IN_MOVE_SELF
)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


class HasFileno(Protocol):
    """Anything with a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""


class Deadline:
    """A point in time, `timeout` seconds from now."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._end = time.monotonic() + timeout

    def left(self, what: str) -> float:
        """Seconds that are left; raises TimeoutError saying `what` was waited for when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{what}: not within {self.timeout} s")
        return left


def readable(fd: int | HasFileno, timeout: float, what: str = "readable") -> None:
    """Wait until a descriptor is readable, at its end, or broken."""
    deadline = Deadline(timeout)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while not poller.poll(deadline.left(what) * 1000):
        pass


def read_line(fd: int, timeout: float, what: str = "a line") -> bytes:
    """Read from a descriptor until what came ends with a newline (it may be several lines), or to its end."""
    deadline = Deadline(timeout)
    data = b""
    while not data.endswith(b"\n"):
        readable(fd, deadline.left(what), what)
        if not (piece := os.read(fd, 4096)):
            break
        data += piece
    return data


def process_exit(pid: int, timeout: float) -> None:
    """Wait until a process has ended. It is not reaped; one that does not exist has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable(fd, timeout, f"the end of process {pid}")
    finally:
        os.close(fd)


class Watch:
    """An inotify watch on directories: wait for a condition that changes in them can make true.

    Use as a context manager. The watch starts before the condition is looked at, so nothing is missed.
    """

    def __init__(self, *directories: Path, mask: int = CHANGES) -> None:
        self._mask = mask
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        try:
            for directory in directories:
                self.add(directory)
        except BaseException:
            self.close()
            raise

    def add(self, directory: Path) -> None:
        """Watch another directory (watching one twice changes nothing)."""
        if _libc.inotify_add_watch(self._fd, os.fsencode(directory), self._mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(directory))

    def next(self, timeout: float, what: str = "a change") -> list[tuple[int, str]]:
        """Wait for changes: (mask, name) of each, the name empty where it is the directory's own."""
        readable(self._fd, timeout, what)
        data = os.read(self._fd, 1 << 16)
        found: list[tuple[int, str]] = []
        at = 0
        while at < len(data):
            mask = int.from_bytes(data[at + 4 : at + 8], "little")
            length = int.from_bytes(data[at + 12 : at + 16], "little")
            found.append((mask, os.fsdecode(data[at + 16 : at + 16 + length].rstrip(b"\0"))))
            at += 16 + length
        return found

    def until(self, condition: Callable[[], bool], timeout: float, what: str = "the condition") -> None:
        """Wait until `condition()` is true; it is asked at once and after every change."""
        deadline = Deadline(timeout)
        while not condition():
            self.next(deadline.left(what), what)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def exists(path: Path, timeout: float = 10.0) -> None:
    """Wait until a path exists; its parent directories need not exist yet."""
    _presence(path, True, timeout)


def vanished(path: Path, timeout: float = 10.0) -> None:
    """Wait until a path no longer exists."""
    _presence(path, False, timeout)


def _presence(path: Path, wanted: bool, timeout: float) -> None:
    what = f"{path} to {'appear' if wanted else 'vanish'}"
    deadline = Deadline(timeout)
    with Watch() as watch:
        while True:
            directory = _nearest(path)
            with suppress(FileNotFoundError, NotADirectoryError):
                watch.add(directory)
            if os.path.lexists(path) == wanted:
                return
            if directory == _nearest(path):  # else a nearer one came up before the watch: look again
                watch.next(deadline.left(what), what)


def _nearest(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.is_dir())
