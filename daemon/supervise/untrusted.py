"""What a worker has left in a workspace: opened so that nothing it may have put there does any harm.

A link, a device, a FIFO, a socket, a directory in the place of a file, a second name of the file, a
descriptor or a mapping that still writes: each is found out by descriptors, never by a path that can change
later.

Whoever owns a destination may put something else in the place of the staging area in it, too. So every name
in an area is reached through the descriptor of its directory.

A file that nobody has open for writing stays as it is: a worker that is locked in can open nothing outside of
its room, and time stamps tell whether anybody else has changed it between sealing and publishing.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from fetchd.daemon.core.job import Job
from fetchd.protocol.errors import Code, FetchdError

from .beneath import open_directory
from .moving import Place

FILES = ("data", "frontier")
"""What a workspace holds."""


class LostError(Exception):
    """The workspace's data is not there any more."""


def home(job: Job) -> str:
    """Where a workspace lies while no worker has it."""
    return f"{job.area}/jobs/{job.id}"


def _refused() -> FetchdError:
    return FetchdError(Code.IO_ERROR, "what the worker left is not a plain file of its own")


@contextlib.contextmanager
def staged(path: str) -> Iterator[Place]:
    """A name in a directory of a staging area, or of a room in it.

    Raises `io_error` where that directory is not a private one of our own or lies behind a link, OSError
    where it cannot be reached.
    """
    directory = os.path.dirname(path)
    try:
        fd = open_directory("/", directory)
    except FetchdError as error:
        raise FetchdError(Code.IO_ERROR, error.message) from None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise FetchdError(Code.IO_ERROR, f"{directory} is not a private directory of this user")
        yield Place(fd, os.path.basename(path))
    finally:
        os.close(fd)


@contextlib.contextmanager
def entered(path: str) -> Iterator[int]:
    """The descriptor of a workspace; `LostError` where there is none, `io_error` where it is no directory."""
    try:
        fd = open_directory("/", path)
    except FileNotFoundError:
        raise LostError from None
    except PermissionError:
        raise _refused() from None
    except FetchdError as error:
        raise FetchdError(Code.IO_ERROR, error.message) from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(workspace: int) -> Iterator[int]:
    """The data file of a workspace, for reading, checked to be ours alone; a lease keeps it so.

    The lease is refused while a descriptor that can write is open, or lives on in a mapping.
    """
    fd = open_plain("data", workspace)
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            raise FetchdError(Code.IO_ERROR, "the worker still writes to the finished file") from None
        except OSError:
            # not every file system has leases; the other checks stand
            pass
        yield fd
    finally:
        os.close(fd)


def open_plain(name: str, workspace: int) -> int:
    """A plain file of our own with one name, opened for reading; never waits, and opens no device."""
    try:
        # a device does something when it is opened, and a socket cannot be
        _check_plain(os.stat(name, dir_fd=workspace, follow_symlinks=False))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, dir_fd=workspace)
    except FileNotFoundError:
        raise LostError from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise _refused() from None
        raise
    try:
        # it may be another one since
        _check_plain(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_plain(found: os.stat_result) -> bool:
    """Whether this is a regular file of our own that has one name."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid()


def _check_plain(found: os.stat_result) -> None:
    if not is_plain(found):
        raise _refused()
