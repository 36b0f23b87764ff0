"""Small file systems for tests: made, filled, made read-only, taken away. Skips where that is not allowed."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .tmp import TempDir


@contextmanager
def mounted(options: str = "size=8m") -> Iterator[Path]:
    """Another file system."""
    with TempDir() as directory, mounted_at(directory, options):
        yield directory


@contextmanager
def mounted_at(point: Path, options: str = "size=8m") -> Iterator[None]:
    """Another file system at this place."""
    _mount(["-t", "tmpfs", "-o", options, "fetchd-test", str(point)])
    try:
        yield
    finally:
        # lazily: what is open on it is closed later
        subprocess.run(["umount", "-l", str(point)], check=True)


@contextmanager
def bound(source: Path, point: Path) -> Iterator[None]:
    """A directory at another place too, as a mount of its own that comes back the same."""
    _mount(["--bind", str(source), str(point)])
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def remount(point: Path, options: str) -> None:
    """Change a mounted file system: `ro`, `rw`, `size=16m`."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(point)], check=True)


def fill(directory: Path, leave: int = 0) -> Path:
    """Take all room but so many bytes with a file, and return it."""
    filler = directory / "filler"
    found = os.statvfs(directory)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - leave)
    return filler


def _mount(arguments: list[str]) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
