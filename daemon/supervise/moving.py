"""Moving a file from one directory to another under a name that nobody else has, by descriptors.

renameat2(2) with RENAME_NOREPLACE; where the file system does not know it, link and unlink, then a
placeholder. No name is ever followed: a link that is to be overwritten is itself replaced.
"""

import ctypes
import errno
import os
import stat
from typing import NamedTuple

from fetchd.daemon.core.job import Job
from fetchd.daemon.sandbox.kernel import libc

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NOREPLACE = 1


class Place(NamedTuple):
    """A name in an open directory."""

    directory: int
    name: str

    def look(self) -> os.stat_result | None:
        """What is there, links not followed; None where nothing is."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_directory(self) -> bool:
        """Whether this is a directory and no link to one."""
        found = self.look()
        return found is not None and stat.S_ISDIR(found.st_mode)

    def unlink(self) -> None:
        """Remove the name."""
        os.unlink(self.name, dir_fd=self.directory)


def move(source: Place, target: Place, sealed: Job, *, replace: bool) -> None:
    """Give the file its name; FileExistsError where it is taken, OSError with EXDEV across mounts."""
    try:
        if replace:
            rename(source, target)
        else:
            _rename_new(source, target, sealed)
    except FileExistsError:
        if replace or not _is_placeholder(target, sealed):
            raise
        rename(source, target)


def rename(source: Place, target: Place) -> None:
    """Give something another name; a file or an empty directory that has it goes."""
    os.rename(source.name, target.name, src_dir_fd=source.directory, dst_dir_fd=target.directory)


def _rename_new(source: Place, target: Place, sealed: Job) -> None:
    old, new = os.fsencode(source.name), os.fsencode(target.name)
    if libc.renameat2(source.directory, old, target.directory, new, ctypes.c_uint(_NOREPLACE)) == 0:
        return
    error = ctypes.get_errno()
    if error not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(error, os.strerror(error), target.name)
    try:
        os.link(
            source.name, target.name, src_dir_fd=source.directory, dst_dir_fd=target.directory,
            follow_symlinks=False,
        )  # fmt: skip
    except OSError as refused:
        if refused.errno not in _NO_LINKS:
            raise
        # neither no-replace nor links: at least nobody else can take the name in between
        fd = create(target)
        try:
            os.utime(fd, ns=(sealed.mtime_ns, sealed.mtime_ns))
        finally:
            os.close(fd)
        rename(source, target)
    else:
        source.unlink()


def create(place: Place) -> int:
    """A new, empty, private file, opened for writing; FileExistsError where the name is taken."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(place.name, flags, 0o600, dir_fd=place.directory)


def _is_placeholder(place: Place, job: Job) -> bool:
    """Whether this is the empty file that an earlier try has put there for this job."""
    found = place.look()
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        return False
    return (found.st_size, found.st_mtime_ns) == (0, job.mtime_ns) and found.st_ino != job.inode
