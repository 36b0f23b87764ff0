"""The ballast: a file that takes room on the state directory's file system, so that the database gets it.

When a commit finds no room, the ballast is given up and the commit is tried once more; what has to be written
to come to rest (gates, pauses, cancels) still can be. It is made again when there is room.
"""

import contextlib
import ctypes
import os
from pathlib import Path

SIZE = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Ballast:
    """One file of `size` bytes that are really allocated. Used from any thread; each call stands alone."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether it takes its room now."""
        try:
            return self._path.stat().st_blocks * 512 >= self._size
        except OSError:
            return False

    def release(self) -> bool:
        """Give its room to others; whether there was any to give."""
        held = self._path.exists()
        self._path.unlink(missing_ok=True)
        return held

    def restore(self) -> bool:
        """Take its room again; whether it could be had in full."""
        if self.held:
            return True
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                # fallocate(2), without the emulation of posix_fallocate
                done = _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(self._size)) == 0
            finally:
                os.close(fd)
            if done:
                return True
            self.release()
        return False
