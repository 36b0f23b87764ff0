"""File systems of a test's own, in a mount namespace of its own: a tmpfs, and an ext4 whose power can be cut.

The namespace ends with the last process in it, and all its mounts and loop devices with them. As nobody else
can see them, nobody can keep one alive that is unmounted here.
"""

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

_NEWNS = 0x20000
_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
"""FS_IOC_SHUTDOWN, _IOR('X', 125, __u32)."""

_NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: what is not in the journal on the disk is gone, as after a power cut."""


def why_not(*, loop: bool) -> str | None:
    """Why there cannot be mounts (with `loop`: of loop devices) here, or None where there can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"no mount namespace: {probe.stderr.strip()}"
    if loop and not Path("/dev/loop-control").exists():
        return "no loop devices (/dev/loop-control is missing)"
    if loop and shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        return "mkfs.ext4 is missing (apt-get install e2fsprogs)"
    return None


def enter_private() -> None:
    """Give this process, still of one thread, a mount namespace of its own. There is no way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


def mount_tmpfs(point: Path, size: str) -> None:
    """A new file system in memory."""
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "fetchd-test", str(point))


def mount_over(file: Path, target: str) -> None:
    """Show another file in the place of one."""
    _run("mount", "--bind", str(file), target)


def unmount(point: Path) -> None:
    """Unmount; raises where somebody uses it."""
    _run("umount", str(point))


class Volume:
    """An ext4 file system in a file. `cut` is the end of its power; then unmount it and mount it again."""

    def __init__(self, image: Path, point: Path, size: int) -> None:
        self.point = point
        self._image = image
        self._mounted = False
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        point.mkdir()

    def mount(self, options: str = "") -> None:
        """Mount it; what its journal holds is replayed."""
        _run("mount", "-o", ",".join(filter(None, ("loop", options))), str(self._image), str(self.point))
        self._mounted = True

    def open(self) -> int:
        """A descriptor for `cut`, to be had before: then nothing else is to do at that moment."""
        return os.open(self.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @staticmethod
    def cut(fd: int) -> None:
        """Nothing reaches the disk any more; whoever tries gets EIO."""
        fcntl.ioctl(fd, _SHUTDOWN, struct.pack("=I", _NO_LOG_FLUSH))

    def unmount(self) -> None:
        """Unmount it; nothing happens where it is not mounted."""
        if self._mounted:
            unmount(self.point)
            self._mounted = False


def _run(*command: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
