"""The atomic step that puts a finished file under its final name, and can be repeated after any crash.

renameat2(2) with RENAME_NOREPLACE, unless overwriting was asked for; where the file system does not know it,
link and unlink, then a placeholder. Across mounts the file is copied beside its target first.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import stat

from fetchd.daemon.core.job import Job
from fetchd.daemon.service.faults import code_of
from fetchd.protocol.errors import Code, FetchdError

from .modes import BY_UMASK, Modes
from .mounts import same_mount
from .workspace import LostError, home, opened

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

AT_FDCWD = -100
RENAME_NOREPLACE = 1

_libc = ctypes.CDLL(None, use_errno=True)


def taken(directory: str, names: tuple[str, ...]) -> frozenset[str]:
    """Which of these names exist in the directory."""
    return frozenset(name for name in names if os.path.lexists(os.path.join(directory, name)))


def publish(job: Job, modes: Modes = BY_UMASK) -> None:
    """Publish the sealed file of a job, or find that this was done before a crash or a fault.

    Raises `FetchdError` with `exists` or a code of `faults`; `LostError` where neither the workspace nor the
    destination has the file.
    """
    path = job.path
    assert path is not None, "a file is published under a reserved name"
    source = os.path.join(home(job), "data")
    try:
        _make_parents(job.directory, modes.of_directory(job.umask))
        if _is_linked(source, path, job):
            # a crash between link and unlink
            os.unlink(source)
        else:
            try:
                with opened(job) as fd:
                    found = os.fstat(fd)
                    sealed = (job.inode, job.size, job.mtime_ns)
                    if (found.st_ino, found.st_size, found.st_mtime_ns) != sealed:
                        raise FetchdError(
                            Code.IO_ERROR, "the finished file was changed before it was published"
                        )
                    modes.inherit(fd, job.directory)
                    _move(source, path, job.if_exists == "overwrite", job, modes)
            except LostError:
                if not _is_ours(path, job):
                    raise
                _touch_directory(job.directory, job.id)
        _sync_directory(job.directory)
    except OSError as error:
        raise _refusal(error, path) from None


def _move(source: str, path: str, replace: bool, sealed: Job, modes: Modes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        raise FetchdError(Code.EXISTS, f"{path} is a directory")
    try:
        _rename(source, path, replace=replace, sealed=sealed)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(source, path, replace, sealed, modes)


def _rename(source: str, path: str, *, replace: bool, sealed: Job) -> None:
    try:
        if replace:
            os.rename(source, path)
        else:
            _rename_new(source, path, sealed)
    except FileExistsError:
        if replace or not _is_placeholder(path, sealed):
            raise
        os.rename(source, path)


def _rename_new(source: str, path: str, sealed: Job) -> None:
    result = _libc.renameat2(
        AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(path), ctypes.c_uint(RENAME_NOREPLACE)
    )
    if result == 0:
        return
    error = ctypes.get_errno()
    if error not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(error, os.strerror(error), path)
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as refused:
        if refused.errno not in _NO_LINKS:
            raise
        # neither no-replace nor links: at least nobody else can take the name in between
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.utime(fd, ns=(sealed.mtime_ns, sealed.mtime_ns))
        finally:
            os.close(fd)
        os.rename(source, path)
    else:
        os.unlink(source)


def _copy_over(source: str, path: str, replace: bool, sealed: Job, modes: Modes) -> None:
    """Copy to a hidden file beside the target, sync, rename. Its time stamp says whose it is."""
    if not replace and _is_ours(path, sealed, moved=True):
        # done before a crash, or before the directory could not be synced
        _touch_directory(os.path.dirname(path), sealed.id)
        _sync_directory(os.path.dirname(path))
        os.unlink(source)
        return
    hidden = os.path.join(os.path.dirname(path), f".fetchd-{sealed.id}.part")
    with contextlib.suppress(FileNotFoundError):
        # of a copy that a crash has ended, or put there by somebody else: never written to
        os.unlink(hidden)
    try:
        with open(source, "rb") as reading, open(hidden, "xb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fchmod(writing.fileno(), modes.of_file(sealed.umask))
            os.utime(writing.fileno(), ns=(sealed.mtime_ns, sealed.mtime_ns))
            os.fsync(writing.fileno())
        _rename(hidden, path, replace=replace, sealed=sealed)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
        raise
    # two file systems have no common order: the name has to be on disk before the other copy goes
    _sync_directory(os.path.dirname(path))
    os.unlink(source)


def _is_linked(source: str, path: str, job: Job) -> bool:
    """Whether the sealed file has both names."""
    try:
        old, new = os.lstat(source), os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) and old.st_ino == job.inode


def _is_placeholder(path: str, job: Job) -> bool:
    """Whether this is the empty file that an earlier try has put there for this job."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    return ours and (found.st_size, found.st_mtime_ns) == (0, job.mtime_ns) and found.st_ino != job.inode


def _is_ours(path: str, job: Job, *, moved: bool = False) -> bool:
    """Whether the file under the final name is the one that was sealed; a copy has another inode."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    same = stat.S_ISREG(found.st_mode) and found.st_size == job.size and found.st_mtime_ns == job.mtime_ns
    return same and (moved or found.st_ino == job.inode or not same_mount(job.area, path))


def _make_parents(directory: str, mode: int) -> None:
    """Make the directory and what is missing above it, and sync every parent that got a new entry."""
    missing: list[str] = []
    path = directory
    while not os.path.isdir(path):
        if os.path.lexists(path):
            if os.path.isdir(path):
                # another job has just made it
                break
            raise FetchdError(Code.DESTINATION, f"{path} is not a directory")
        missing.append(path)
        path = os.path.dirname(path)
    for part in reversed(missing):
        try:
            os.mkdir(part)
            os.chmod(part, mode)
        except FileExistsError:
            # another job was quicker; what else it may be shows in the next step
            pass
        try:
            _sync_directory(os.path.dirname(part))
        except OSError:
            # another try would find it there and not sync it any more; not empty: another job's try will
            with contextlib.suppress(OSError):
                os.rmdir(part)
            raise


def _touch_directory(path: str, job: str) -> None:
    """Change a directory, so that the next sync writes it.

    An earlier one may have failed, and the kernel counts as written what it could not write then.
    """
    hidden = os.path.join(path, f".fetchd-{job}.sync")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(hidden)
    os.close(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    os.unlink(hidden)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refusal(error: OSError, path: str) -> FetchdError:
    if error.errno == errno.EEXIST:
        return FetchdError(Code.EXISTS, f"{path} exists")
    if error.errno in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
        return FetchdError(Code.DESTINATION, f"{path}: {error.strerror}")
    code = code_of(error)
    return FetchdError(code, f"no room for {path}" if code is Code.DISK_FULL else f"{path}: {error.strerror}")
