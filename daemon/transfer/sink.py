"""Where the bytes go: the data file of a workspace, its frontier, and the thread that syncs it.

Data is always synced before anybody is told that it is (the other order loses it at a power cut). Several
threads may write, each in a stripe of its own.
"""

import contextlib
import ctypes
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fetchd.daemon.service.faults import code_of
from fetchd.protocol.errors import Code
from fetchd.protocol.journal import Content, Journal, boot_id
from fetchd.protocol.mailbox import Validator

from .segments import Board, Ranges, Segment

SYNC_BYTES = 16 << 20
SYNC_SECONDS = 1.0
LAG = 2.0
"""Seconds that a sync may take before writing waits for it."""

TELL = 0.5
"""Seconds between two reports of what is synced: each is a commit of the supervisor's."""

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
    code = code_of(error)
    # the files are ours: no user has to mend their permissions
    return SinkError(Code.IO_ERROR if code is Code.DESTINATION else code, error.strerror or str(error))


class Stripe:
    """What one thread writes: from `position` up to `end` (None: not known), which may come nearer."""

    def __init__(self, sink: "Sink", segment: Segment) -> None:
        self._sink = sink
        self._segment = segment
        self._ours = True

    @property
    def position(self) -> int:
        return self._segment.position

    @property
    def end(self) -> int | None:
        return self._segment.end

    @property
    def complete(self) -> bool:
        return self._segment.complete

    def claim(self, wanted: int) -> int:
        """How many of `wanted` bytes may be received next, and are nobody else's then; 0: all are there."""
        with self._sink.lock:
            return self._segment.claim(wanted)

    def write(self, data: bytes | memoryview) -> None:
        """Append, then move the frontier. Waits where the disk is too far behind."""
        view = memoryview(data)
        began = position = self._segment.position
        try:
            while view:
                count = os.pwrite(self._sink.fd, view, position)
                position += count
                view = view[count:]
        except OSError as error:
            raise file_error(error) from error
        finally:
            self._sink.advance(self._segment, position - began)

    def splice(self, pipe: int, count: int) -> None:
        """Append `count` bytes out of a pipe without copying them, as `write` does.

        Raises OSError with EINVAL where the file system cannot do that; what is left is still in the pipe.
        """
        began = position = self._segment.position
        try:
            while count:
                moved = os.splice(pipe, self._sink.fd, count, offset_dst=position)
                position += moved
                count -= moved
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise
            raise file_error(error) from error
        finally:
            self._sink.advance(self._segment, position - began)

    def give_back(self) -> None:
        """Let others fetch what is left. Nothing happens the second time."""
        with self._sink.lock:
            if self._ours:
                self._ours = False
                self._sink.board.give_back(self._segment)


class Sink:
    """The data file of one attempt.

    `on_synced(generation, ranges)` is called from the sync thread, after fdatasync has returned. `follow` is
    called with how far the file is there without a hole, whenever that has grown.
    """

    def __init__(
        self, workspace: Path, generation: int, have: Ranges, on_synced: Callable[[int, Ranges], None]
    ) -> None:
        self.path = workspace / "data"
        self.generation = generation
        self.lock = threading.Lock()
        self.board = Board(None, have)
        self.follow: Callable[[int], None] | None = None
        self._on_hand = sum(end - start for start, end in have)
        self._unsynced = 0
        self._noted = 0
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
        self._condition = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._error: OSError | None = None
        self._syncing: float | None = None
        self._began = time.monotonic()
        self._content = Content(validator=Validator(), total=None)

    @property
    def on_hand(self) -> int:
        """Bytes that are there."""
        return self._on_hand

    def begin(self, validator: Validator, total: int | None, generation: int, have: Ranges) -> None:
        """The content that follows: its identity, its size if known, and which ranges of it are kept."""
        with self.lock:
            self.generation = generation
            self.board = Board(total, have)
            self._content = Content(validator=validator, total=total)
            self._on_hand = sum(end - start for start, end in have)
            self._unsynced = 0
            self._describe()
        reach = have[-1][1] if have else 0
        try:
            # whatever lies behind belongs to no content that we know
            os.ftruncate(self.fd, reach)
        except OSError as error:
            raise file_error(error) from error
        if total is not None and total - reach >= RESERVE_FROM:
            self._reserve(reach, total)

    def stripe(self, owner: object, at: int | None = None) -> Stripe | None:
        """A stretch to write for this owner, or None where there is nothing left to take.

        With `at` only one that begins there will do, and none is divided for it.
        """
        with self.lock:
            segment = self.board.take(owner, time.monotonic(), at)
            if segment is None:
                return None
            self._note(segment)
            return Stripe(self, segment)

    def finish(self) -> int:
        """All is written: the size of the file. Where it was not known before, it is now."""
        with self.lock:
            if self.board.total is None:
                return self.board.frontier()
            return self.board.total

    def advance(self, segment: Segment, count: int) -> None:
        """The owner of a segment has written so many bytes."""
        with self._condition:
            segment.position += count
            self._journal.extend(segment.index, segment.start, segment.position)
            self._on_hand += count
            self._unsynced += count
            frontier = self.board.frontier() if self.follow is not None else 0
            late = self._unsynced >= SYNC_BYTES or time.monotonic() - self._began >= SYNC_SECONDS
            if self._thread is not None:
                self._nudge()
            elif late and not self._closed:
                self._thread = threading.Thread(target=self._sync_loop, name="sync", daemon=True)
                self._thread.start()
        if self.follow is not None:
            self.follow(frontier)

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
        ranges, generation = self.board.ranges(), self.generation
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            self._distrust(error)
            raise file_error(error) from error
        self._on_synced(generation, ranges)

    def close(self) -> None:
        """Stop the sync thread and let go of the files."""
        with contextlib.suppress(SinkError):
            self.settle()
        if self._error is not None:
            # another content may have begun since
            self._distrust(self._error)
        self._journal.close()
        os.close(self.fd)

    def _distrust(self, error: OSError) -> None:
        """What was written may be lost although it can still be read: only what was reported is to be kept.

        At once, because the worker may be killed before it can tell of the error.
        """
        self._error = error
        self._journal.count(0)

    def _describe(self) -> None:
        segments = tuple((segment.start, segment.position) for segment in self.board.segments)
        self._journal.begin(self.generation, self._content, segments)
        self._noted = len(segments)

    def _note(self, segment: Segment) -> None:
        """Let the frontier file have a place for a segment that was made meanwhile."""
        for made in self.board.segments[self._noted :]:
            self._journal.extend(made.index, made.start, made.position)
        if self._noted < len(self.board.segments) and self._error is None:
            self._noted = len(self.board.segments)
            self._journal.count(self._noted)

    def _nudge(self) -> None:
        if self._unsynced >= SYNC_BYTES:
            self._condition.notify_all()
        while self._unsynced > 2 * SYNC_BYTES and self._is_late() and self._error is None:
            self._condition.wait()
        if self._error is not None:
            raise file_error(self._error)

    def _is_late(self) -> bool:
        return self._syncing is not None and time.monotonic() - self._syncing > LAG

    def _sync_loop(self) -> None:
        told = self._began
        untold: int | None = None
        while True:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._closed or self._unsynced >= SYNC_BYTES, timeout=SYNC_SECONDS
                )
                if self._closed:
                    return
                ranges, generation, count = self.board.ranges(), self.generation, self._unsynced
                if count:
                    self._syncing = time.monotonic()
            if count:
                if not self._sync_data():
                    return
                with self._condition:
                    self._syncing = None
                    if generation != self.generation:
                        continue
                    self._unsynced -= count
                    self._condition.notify_all()
                untold = generation
            # also where nothing more comes: it was too early the last time
            if untold == generation and (now := time.monotonic()) - told >= TELL:
                told, untold = now, None
                self._on_synced(generation, ranges)

    def _sync_data(self) -> bool:
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            # never tried again on the same pages: the kernel may have dropped them and would say "fine"
            with self._condition:
                self._syncing = None
                self._distrust(error)
                self._condition.notify_all()
            return False
        return True

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
