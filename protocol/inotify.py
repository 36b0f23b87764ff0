"""A watch on the files of directories, by inotify(7). Imported only where something is waited for."""

import contextlib
import ctypes
import errno
import os
from collections.abc import Collection, Iterator
from pathlib import Path

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF = 0x400, 0x800
COMPLETE = IN_CLOSE_WRITE | IN_MOVED_TO
"""A file was written and closed, or moved here."""
GROWTH = IN_MODIFY | IN_MOVED_TO | IN_CREATE
"""A file was written to, or another one is there under its name."""
REPLACEMENT = COMPLETE | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF
"""Another file, link or directory may be there under its name."""
CHANGE = COMPLETE | IN_ATTRIB | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
"""A file has another content or other modes, or is gone, perhaps with its directory."""

LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""

_WHOLE = IN_DELETE_SELF | IN_MOVE_SELF | 0x4000  # about the directory itself, or too many to be told
_HEADER = 16  # struct inotify_event: wd, mask, cookie, len; then the name

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Tells when something happens to files called `names` in a directory. `fd` is readable then.

    Raises OSError where there is no such directory, or no watch left (fs.inotify.max_user_watches).
    """

    def __init__(self, directory: Path, names: Collection[str], mask: int = COMPLETE) -> None:
        self._names: dict[int, frozenset[bytes]] = {}
        self.fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        try:
            self.add(directory, names, mask)
        except OSError:
            self.close()
            raise

    def add(self, directory: Path, names: Collection[str], mask: int = COMPLETE) -> None:
        """Watch files in another directory as well. Raises as above."""
        number = _libc.inotify_add_watch(self.fd, os.fsencode(directory), ctypes.c_uint32(mask))
        if number < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(directory))
        self._names[number] = self._names.get(number, frozenset()) | {os.fsencode(name) for name in names}

    def changed(self) -> bool:
        """Take in what has happened; whether it is about one of the files."""
        found = False
        with contextlib.suppress(BlockingIOError):
            while True:
                found = self._named(os.read(self.fd, 1 << 16)) or found
        return found

    def _named(self, data: bytes) -> bool:
        at, found = 0, False
        while at < len(data):
            number = int.from_bytes(data[at : at + 4], "little")
            mask = int.from_bytes(data[at + 4 : at + 8], "little")
            length = int.from_bytes(data[at + 12 : at + 16], "little")
            name = data[at + _HEADER : at + _HEADER + length].rstrip(b"\0")
            found = found or name in self._names.get(number, ()) or bool(mask & _WHOLE)
            at += _HEADER + length
        return found

    def close(self) -> None:
        """Give the descriptor back. Harmless when repeated."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def steps(path: str) -> Iterator[tuple[str, str]]:
    """Where a path may come to lead elsewhere: (directory, name) of each link on the way to the file, and of
    the file itself or of what is missing first."""
    at, todo = "/", path.split("/")[::-1]
    links = 0
    while todo and links <= LINKS:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, name)
        try:
            target = os.readlink(here)
        except OSError as error:
            if error.errno == errno.EINVAL and todo:
                at = here
                continue
            yield at, name
            return
        yield at, name
        links += 1
        at = "/" if target.startswith("/") else at
        todo += target.split("/")[::-1]
