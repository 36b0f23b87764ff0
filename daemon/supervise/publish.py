"""The atomic step that puts a finished file under its final name, and can be repeated after any crash.

The workspace and the destination are held by descriptors, so that nobody can put another directory in the
place of one that was checked. Across mounts the file is copied beside its target first.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator

from fetchd.daemon.core.job import Job
from fetchd.daemon.service.faults import code_of
from fetchd.protocol.errors import Code, FetchdError

from .beneath import make_directories, open_directory
from .modes import BY_UMASK, Modes
from .mounts import same_mount
from .moving import Place, create, move
from .untrusted import LostError, entered, home, opened


def taken(directory: str, names: tuple[str, ...]) -> frozenset[str]:
    """Which of these names exist in the directory; `destination` where something else is in its place."""
    try:
        fd = open_directory("/", directory)
    except FileNotFoundError:
        return frozenset()
    try:
        return frozenset(name for name in names if _exists(Place(fd, name)))
    finally:
        os.close(fd)


def _exists(place: Place) -> bool:
    try:
        return place.look() is not None
    except OSError:
        # too long
        return False


def publish(job: Job, modes: Modes = BY_UMASK) -> None:
    """Publish the sealed file of a job, or find that this was done before a crash or a fault.

    Raises `FetchdError` with `exists` or a code of `faults`; `LostError` where neither the workspace nor the
    destination has the file.
    """
    path = job.path
    assert path is not None, "a file is published under a reserved name"
    try:
        with _destination(job, modes) as directory:
            target = Place(directory, os.path.basename(path))
            try:
                with entered(home(job)) as workspace:
                    _take_over(Place(workspace, "data"), target, job, modes)
            except LostError:
                if not _is_ours(target, job):
                    raise
                _touch_directory(directory, job.id)
            os.fsync(directory)
    except OSError as error:
        raise _refusal(error, path) from None


@contextlib.contextmanager
def _destination(job: Job, modes: Modes) -> Iterator[int]:
    # canonical since the job was submitted: what is a link in it now was put there since
    fd = make_directories("/", job.directory, modes.of_directory(job.umask))
    try:
        yield fd
    finally:
        os.close(fd)


def _take_over(source: Place, target: Place, job: Job, modes: Modes) -> None:
    if _is_linked(source, target, job):
        # a crash between link and unlink
        source.unlink()
        return
    with opened(source.directory) as fd:
        found = os.fstat(fd)
        if (found.st_ino, found.st_size, found.st_mtime_ns) != (job.inode, job.size, job.mtime_ns):
            raise FetchdError(Code.IO_ERROR, "the finished file was changed before it was published")
        modes.inherit(fd, target.directory)
        replace = job.if_exists == "overwrite"
        try:
            move(source, target, job, replace=replace)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_over(fd, target, job, modes, replace=replace)
            source.unlink()


def _copy_over(data: int, target: Place, sealed: Job, modes: Modes, *, replace: bool) -> None:
    """Copy to a hidden file beside the target, sync, rename. Its time stamp says whose it is."""
    found = target.look()
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if not replace and _is_ours(target, sealed, moved=True):
        # done before a crash, or before the directory could not be synced
        _touch_directory(target.directory, sealed.id)
        os.fsync(target.directory)
        return
    hidden = Place(target.directory, f".fetchd-{sealed.id}.part")
    with contextlib.suppress(FileNotFoundError):
        # of a copy that a crash has ended, or put there by somebody else: never written to
        hidden.unlink()
    try:
        with open(data, "rb", closefd=False) as reading, open(create(hidden), "wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fchmod(writing.fileno(), modes.of_file(sealed.umask))
            modes.inherit(writing.fileno(), target.directory)
            os.utime(writing.fileno(), ns=(sealed.mtime_ns, sealed.mtime_ns))
            os.fsync(writing.fileno())
        move(hidden, target, sealed, replace=replace)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            hidden.unlink()
        raise
    # two file systems have no common order: the name has to be on disk before the other copy goes
    os.fsync(target.directory)


def _is_linked(source: Place, target: Place, job: Job) -> bool:
    """Whether the sealed file has both names."""
    new = target.look()
    if new is None or new.st_ino != job.inode:
        return False
    old = source.look()
    return old is not None and (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino)


def _is_ours(target: Place, job: Job, *, moved: bool = False) -> bool:
    """Whether the file under the final name is the one that was sealed; a copy has another inode."""
    found = target.look()
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    same = (found.st_size, found.st_mtime_ns) == (job.size, job.mtime_ns)
    return same and (moved or found.st_ino == job.inode or not same_mount(job.area, job.directory))


def _touch_directory(directory: int, job: str) -> None:
    """Change a directory, so that the next sync writes it.

    An earlier one may have failed, and the kernel counts as written what it could not write then.
    """
    hidden = Place(directory, f".fetchd-{job}.sync")
    with contextlib.suppress(FileNotFoundError):
        hidden.unlink()
    os.close(create(hidden))
    hidden.unlink()


def _refusal(error: OSError, path: str) -> FetchdError:
    if error.errno in (errno.EEXIST, errno.EISDIR):
        return FetchdError(Code.EXISTS, f"{path} exists")
    if error.errno in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
        return FetchdError(Code.DESTINATION, f"{path}: {error.strerror}")
    code = code_of(error)
    return FetchdError(code, f"no room for {path}" if code is Code.DISK_FULL else f"{path}: {error.strerror}")
