"""What a file system can do, tried out in a directory: for `fetchd doctor`."""

import ctypes
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

AT_FDCWD, RENAME_NOREPLACE = -100, 1

Found = tuple[str, Literal["ok", "warn"], str, str | None]
_libc = ctypes.CDLL(None, use_errno=True)


def look(directory: Path) -> Iterator[Found]:
    """(what, how well, message, advice)."""
    yield _no_replace(directory)
    yield _lease(directory)


def _no_replace(directory: Path) -> Found:
    source, taken = directory / "source", directory / "taken"
    for path in (source, taken):
        path.touch()
    arguments = (AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(taken))
    moved = _libc.renameat2(*arguments, ctypes.c_uint(RENAME_NOREPLACE)) == 0
    error = ctypes.get_errno()
    if not moved and error == errno.EEXIST:
        return "rename", "ok", "RENAME_NOREPLACE works in the state directory", None
    why = "a file was replaced" if moved else os.strerror(error)
    advice = "hard links are used instead; another file system for the state directory avoids that"
    return "rename", "warn", f"RENAME_NOREPLACE does not work here: {why}", advice


def _lease(directory: Path) -> Found:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the break of a lease kills by default
    path = directory / "leased"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        advice = "files are published without checking that nobody has them open for writing"
        return "leases", "warn", f"do not work here: {error.strerror}", advice
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)
    return "leases", "ok", "work in the state directory", None
