"""Directories by descriptor: opened beneath a root without following a link, and made where they are missing.

A path that was checked may lead elsewhere a moment later; a descriptor stays what it is. Paths are canonical
when they come here, so that a link in one was put there since: it is refused and never followed. openat2(2)
does it in one call; where the kernel or a sandbox denies that, one component is opened after the other.
"""

import contextlib
import ctypes
import errno
import os
import stat
import struct
from concurrent.futures import ThreadPoolExecutor

from fetchd.daemon.sandbox.kernel import libc, syscall
from fetchd.protocol.errors import Code, FetchdError

_OPENAT2 = 437
_CLONE_FS = 0x200
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_HOW = struct.Struct("=QQQ")
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = stat.S_ISVTX | 0o700
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(root: str, relative: str, *, walk: bool = False) -> int:
    """A descriptor of a directory below a root, for reading and for syncing. `walk`: without openat2.

    Raises `destination`, which names the component, where a link or a file is in the way; OSError otherwise.
    """
    parts = _parts(relative)
    top = os.open(root, _PASS & ~os.O_NOFOLLOW)
    try:
        if not walk:
            try:
                return _openat2(top, "/".join(parts) or ".")
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EACCES):
                    raise
                # not to be had here, or something is in the way: then the walk says what
        at = _walk(top, root, parts)
        try:
            return _readable(at)
        finally:
            os.close(at)
    finally:
        os.close(top)


def make_directories(root: str, relative: str, mode: int, *, walk: bool = False) -> int:
    """Like `open_directory`, and makes what is missing, with that mode.

    Every parent that got an entry is synced before the next one is made. One that cannot be synced loses the
    entry again, so that another try does not take it for synced.
    """
    with contextlib.suppress(FileNotFoundError):
        return open_directory(root, relative, walk=walk)
    at = os.open(root, _PASS & ~os.O_NOFOLLOW)
    try:
        path = root
        for part in _parts(relative):
            try:
                below = _step(at, path, part)
            except FileNotFoundError:
                below = _make(at, path, part, mode)
            os.close(at)
            at, path = below, os.path.join(path, part)
        return _readable(at)
    finally:
        os.close(at)


def sync_directory(directory: int) -> None:
    """Put the entries of a directory on the disk; the descriptor may be one that cannot read."""
    fd = _readable(directory)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _parts(relative: str) -> list[str]:
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise FetchdError(Code.DESTINATION, f"{relative} leads out of its directory")
    return parts


def _openat2(top: int, path: str) -> int:
    how = _HOW.pack(_READ, 0, _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
    return syscall(_OPENAT2, top, os.fsencode(path), how, len(how))


def _walk(top: int, root: str, parts: list[str]) -> int:
    at, path = os.dup(top), root
    try:
        for part in parts:
            below = _step(at, path, part)
            os.close(at)
            at, path = below, os.path.join(path, part)
    except BaseException:
        os.close(at)
        raise
    return at


def _step(at: int, path: str, part: str) -> int:
    """Open one component; what is in the way is told by its name."""
    try:
        return os.open(part, _PASS, dir_fd=at)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
    where = os.path.join(path, part)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode):
            raise FetchdError(Code.DESTINATION, f"{where} has become a link")
    raise FetchdError(Code.DESTINATION, f"{where} is not a directory")


def _make(at: int, path: str, part: str, mode: int) -> int:
    made = False
    # another job may be quicker; what else it may be shows in the next step
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, _NEW, dir_fd=at)
        made = True
    try:
        below = _step(at, path, part)
        try:
            if made and not _allow(below, mode):
                os.rmdir(part, dir_fd=at)
                _inherit(at, part, mode)
                before, below = below, _step(at, path, part)
                os.close(before)
            sync_directory(at)
        except BaseException:
            os.close(below)
            raise
    except OSError:
        # another try would find it there and not sync it any more; not empty: another job's try will
        with contextlib.suppress(OSError):
            os.rmdir(part, dir_fd=at)
        raise
    return below


def _inherit(at: int, part: str, mode: int) -> None:
    """Make a directory that has its mode from the start, with a set-group-ID bit where its parent has one."""

    def make() -> None:
        # the umask is that of the process, unless a thread has a file system's context of its own
        if libc.unshare(_CLONE_FS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        os.umask(0)
        os.mkdir(part, mode & 0o777, dir_fd=at)

    with ThreadPoolExecutor(1) as alone:
        alone.submit(make).result()


def _allow(directory: int, mode: int) -> bool:
    """Give a new directory its mode, unless somebody has put another one of our own in its place since.

    No other directory has the mode that ours is made with. Another job may have put something in it by now.
    False where a set-group-ID bit may be inherited but not set (RestrictSUIDSGID=, systemd.exec(5)).
    """
    fd = _readable(directory)
    try:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid() and found.st_mode & 0o1777 == _NEW:
            # who made the parent may want its group for all that is below
            os.fchmod(fd, mode | found.st_mode & stat.S_ISGID)
    except PermissionError:
        return False
    finally:
        os.close(fd)
    return True


def _readable(directory: int) -> int:
    return os.open(".", _READ, dir_fd=directory)
