"""Publishing in this process and in one whose system calls go wrong, and what is to be there afterwards."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fetchd.daemon.core.job import Job
from fetchd.daemon.supervise.publish import publish
from fetchd.protocol.errors import Code, FetchdError

from .staged import CONTENT, House

SCRIPT = """
import signal, sys
import msgspec
from fetchd.daemon.core.job import Job
from fetchd.daemon.supervise.publish import publish
from fetchd.daemon.supervise.untrusted import LostError
from fetchd.protocol.errors import FetchdError

signal.signal(signal.SIGIO, signal.SIG_IGN)
print("begin", flush=True)
try:
    publish(msgspec.json.decode(sys.argv[1], type=Job))
    print("done", flush=True)
except LostError:
    print("lost", flush=True)
except FetchdError as error:
    print(error.code, flush=True)
"""


def refusal(job: Job) -> Code:
    with pytest.raises(FetchdError) as caught:
        publish(job)
    return caught.value.code


def run(job: Job, *injections: str, trace: tuple[str, ...] = ()) -> str:
    """What a process says that publishes the job while system calls go wrong. '': it was killed."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing (apt-get install strace): crashes between two steps are left out")
    options = [part for injection in injections for part in ("-e", f"inject={injection}")]
    options += trace or ("-o", "/dev/null")
    wrapper = ["strace", "-f", "-qq", *options] if injections or trace else []
    command = [*wrapper, sys.executable, "-c", SCRIPT, msgspec.json.encode(job).decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout.split()
    assert said[:1] == ["begin"], done.stderr
    return said[1] if len(said) > 1 else ""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def published(house: House, job: Job, content: bytes = CONTENT) -> None:
    """It is there, whole, alone, with its mode, and nothing is left behind."""
    assert names(house.target) == ["f"]
    path = house.target / "f"
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o666 & ~job.umask
    assert path.stat().st_nlink == 1
    assert not house.data(job).exists()
