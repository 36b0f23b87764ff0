"""Removing what a worker has left: whatever it is, and never what it leads to."""

import contextlib
import os
import shutil

from fetchd.protocol.errors import Code, FetchdError

from .moving import Place
from .untrusted import FILES, staged

_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove whatever has this name in an area, closed directories and links included, as far as possible.

    Nothing is done where another directory is in the place of the area's own.
    """
    with contextlib.suppress(OSError, FetchdError), staged(path) as place:
        _remove(place)


def remove_surely(path: str) -> None:
    """Remove what must not be used, or raise."""
    with staged(path) as place:
        _remove(place)
        if place.look() is not None:
            # out of descriptors: that passes
            os.close(os.dup(place.directory))
            raise FetchdError(Code.IO_ERROR, "what an earlier worker has left cannot be removed")


def _remove(place: Place) -> None:
    if not place.is_directory():
        with contextlib.suppress(OSError):
            place.unlink()
        return
    if _remove_plain(place):
        return
    at = place.directory

    def insist(_function: object, name: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            if os.path.dirname(name):
                os.chmod(os.path.dirname(name), 0o700, dir_fd=at)
            if Place(at, name).is_directory():
                os.chmod(name, 0o700, dir_fd=at)
                shutil.rmtree(name, ignore_errors=True, dir_fd=at)
            else:
                os.unlink(name, dir_fd=at)

    shutil.rmtree(place.name, onerror=insist, dir_fd=at)


def _remove_plain(place: Place) -> bool:
    """Remove a workspace that is as the supervisor makes it; whether it was: most are, and it is quick."""
    try:
        fd = os.open(place.name, _ENTER, dir_fd=place.directory)
        try:
            for name in FILES:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(place.name, dir_fd=place.directory)
    except OSError:
        return False
    return True
