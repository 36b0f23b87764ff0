"""The ballast: a file that takes room on the state directory's file system, so that the database gets it.

When a commit finds no room, the ballast is given up and the commit is tried once more; what has to be written
to come to rest (gates, pauses, cancels) still can be. It is made again when there is room.
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

SIZE = 16 << 20
LEAST = 1 << 20
SHARE = 64
"""Bytes; that part of a small file system, but not less than what the database needs to come to rest."""

_libc = ctypes.CDLL(None, use_errno=True)


def fitting(directory: Path) -> int:
    """How large the ballast of a state directory is to be. Raises OSError."""
    found = os.statvfs(directory)
    return min(SIZE, max(LEAST, found.f_blocks * found.f_frsize // SHARE))


class Ballast:
    """One file of `size` bytes that are really allocated. Used from any thread; each call stands alone."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self.size = size

    @property
    def held(self) -> bool:
        """Whether it takes its room now."""
        try:
            return self._path.stat().st_blocks * 512 >= self.size
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
                # fallocate(2): the emulation of posix_fallocate writes zeros, and some drop them
                done = _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(self.size)) == 0
                if not done and ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS):
                    done = _fill(fd, self.size)
            except OSError:
                done = False
            finally:
                os.close(fd)
            if done:
                return True
            self.release()
        return False


def _fill(fd: int, size: int) -> bool:
    """Write what cannot be compressed, where room cannot be had otherwise."""
    while size > 0:
        size -= os.write(fd, os.urandom(min(size, LEAST)))
    os.fsync(fd)
    return True
