"""The interceptor of system calls: counts over all processes, and does to a call what it was told."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import intercept
from support.intercept import CALLS, Call, Deed, Interceptor

SCRIPT = """
import os, sys, threading
os.chdir(sys.argv[1])
with open("a", "w") as file:
    os.fsync(file.fileno())
thread = threading.Thread(target=os.mkdir, args=("made",))
thread.start()
thread.join()
os.mkdir("/tmp") if not os.path.isdir("/tmp") else None
try:
    os.rmdir("made")
except OSError as error:
    print(error.errno, flush=True)
if os.fork() == 0:
    os.unlink("a")
    os._exit(0)
print(os.WTERMSIG(os.wait()[1]), flush=True)
os.rename("a", "b")
"""


def test_what_becomes_of_calls(downloads: Path) -> None:
    if reason := intercept.why_not():
        pytest.skip(reason)
    calls: list[Call] = []
    deeds = {"mkdir": Deed.SKIP, "rmdir": errno.ENOSPC, "unlink": Deed.KILL}

    def decide(call: Call) -> Deed | int:
        calls.append(call)
        return deeds.get(call.name, Deed.DO)

    interceptor = Interceptor(CALLS, [downloads], decide)
    try:
        done = subprocess.run(
            [*interceptor.wrapper, sys.executable, "-c", SCRIPT, str(downloads)],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    finally:
        interceptor.close()
    assert [(call.number, call.name) for call in calls] == [
        (1, "fsync"), (2, "mkdir"), (3, "rmdir"), (4, "unlink"), (5, "rename"),
    ]  # fmt: skip
    assert calls[0].path == str(downloads / "a")
    assert calls[4].path == f"{downloads / 'a'} -> {downloads / 'b'}"
    assert done.stdout.split() == [str(errno.ENOSPC), "9"]
    assert os.listdir(downloads) == ["b"]
