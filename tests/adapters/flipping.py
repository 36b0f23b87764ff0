"""An attacker who exchanges a directory with a link all the time."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.wait import read_line

SCRIPT = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
one, other = map(os.fsencode, sys.argv[1:])
print("ready", flush=True)
while libc.renameat2(-100, one, -100, other, ctypes.c_uint(2)) == 0:
    pass
"""


@contextmanager
def flipping(path: Path, elsewhere: Path) -> Iterator[Callable[[], Path]]:
    """`path` is a directory and a link to `elsewhere` by turns, each exchange in one step.

    The function tells where the directory is; it is for the time after.
    """
    other = path.with_name(f"{path.name}-other")
    path.mkdir()
    other.symlink_to(elsewhere)
    command = [sys.executable, "-c", SCRIPT, str(path), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            read_line(process.stdout.fileno(), 30)
            yield lambda: other if path.is_symlink() else path
            assert process.poll() is None, "it has flipped to the end"
        finally:
            process.kill()
