"""Where the bytes go: the data file of a workspace, its frontier, and the thread that syncs it.

Data is always synced before anybody is told that it is (the other order loses it at a power cut).
"""

import contextlib
import ctypes
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fetchd.protocol.errors import Code
from fetchd.protocol.journal import Content, Journal, boot_id
from fetchd.protocol.mailbox import Validator

SYNC_BYTES = 16 << 20
SYNC_SECONDS = 1.0
FALLOC_FL_KEEP_SIZE = 1
RESERVE_FROM = 1 << 20
"""Files smaller than this are not reserved: the system call would cost more than it saves."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class SinkError(Exception):
    """The file system refused; `code` says how."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def file_error(error: OSError) -> SinkError:
    """The code for an error of a file operation."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return SinkError(Code.DISK_FULL if full else Code.IO_ERROR, error.strerror or str(error))


class Sink:
    """The data file of one attempt, written in order from `position`.

    `on_synced(generation, position)` is called from the sync thread, after fdatasync has returned.
    """

    def __init__(
        self, workspace: Path, generation: int, have: int, on_synced: Callable[[int, int], None]
    ) -> None:
        self.path = workspace / "data"
        self.generation = generation
        self.position = have
        self.synced = have
        self._on_synced = on_synced
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            frontier = os.open(workspace / "frontier", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._journal = Journal(frontier, boot_id())
            finally:
                os.close(frontier)
        except BaseException:
            os.close(self.fd)
            raise
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._error: OSError | None = None
        self._began = time.monotonic()

    def begin(self, validator: Validator, total: int | None, generation: int, have: int) -> None:
        """The content that follows: its identity, its size if known, and how much of it is kept."""
        self.generation = generation
        with self._condition:
            self.position = self.synced = have
        self._journal.begin(generation, Content(validator=validator, total=total), ((0, have),))
        try:
            # whatever lies behind belongs to no content that we know
            os.ftruncate(self.fd, have)
        except OSError as error:
            raise file_error(error) from error
        if total is not None and total - have >= RESERVE_FROM:
            self._reserve(have, total)

    def write(self, data: bytes | memoryview) -> None:
        """Append, then move the frontier. Waits where the sync thread is two intervals behind."""
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self.fd, view, self.position)
                self.position += count
                view = view[count:]
        except OSError as error:
            raise file_error(error) from error
        finally:
            self._journal.extend(0, 0, self.position)
        if self._thread is not None:
            self._nudge()
        elif self.position - self.synced >= SYNC_BYTES or time.monotonic() - self._began >= SYNC_SECONDS:
            self._thread = threading.Thread(target=self._sync_loop, name="sync", daemon=True)
            self._thread.start()

    def settle(self) -> None:
        """Stop the sync thread; raise what it met. Nothing is written any more.

        The kernel tells of a failed write-back once, and the thread may have been the one who was told: a
        later sync, by whomever, would say that all is well.
        """
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise file_error(self._error)

    def sync(self) -> None:
        """Sync everything written so far and report it. Nothing is written any more."""
        self.settle()
        position, generation = self.position, self.generation
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            self._error = error
            raise file_error(error) from error
        self._on_synced(generation, position)

    def close(self) -> None:
        """Stop the sync thread and let go of the files."""
        with contextlib.suppress(SinkError):
            self.settle()
        if self._error is not None:
            # what was not synced may be lost although it can still be read: nobody is to resume from it
            self._journal.extend(0, 0, self.synced)
        self._journal.close()
        os.close(self.fd)

    def _nudge(self) -> None:
        with self._condition:
            if self.position - self.synced >= SYNC_BYTES:
                self._condition.notify_all()
            while self.position - self.synced > 2 * SYNC_BYTES and self._error is None:
                self._condition.wait()
            if self._error is not None:
                raise file_error(self._error)

    def _sync_loop(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._closed or self.position - self.synced >= SYNC_BYTES, timeout=SYNC_SECONDS
                )
                if self._closed:
                    return
                position, generation = self.position, self.generation
                if position == self.synced:
                    continue
            try:
                os.fdatasync(self.fd)
            except OSError as error:
                # never tried again on the same pages: the kernel may have dropped them and would say "fine"
                with self._condition:
                    self._error = error
                    self._condition.notify_all()
                return
            with self._condition:
                if generation != self.generation:
                    continue
                self.synced = position
                self._condition.notify_all()
            self._on_synced(generation, position)

    def _reserve(self, have: int, total: int) -> None:
        if _libc.fallocate(self.fd, FALLOC_FL_KEEP_SIZE, have, total - have) == 0:
            return
        error = ctypes.get_errno()
        if error in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise file_error(OSError(error, os.strerror(error)))
        if error in (errno.EOPNOTSUPP, errno.ENOSYS):
            room = os.fstatvfs(self.fd)
            if room.f_bavail * room.f_frsize < total - have:
                raise SinkError(Code.DISK_FULL, f"{total - have} bytes do not fit")
