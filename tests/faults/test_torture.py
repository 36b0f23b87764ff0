"""A sample of system calls that kill their process or fail: every job comes to its right end all the same.

The campaign is `python -m tests.faults.torture`; it has a process and mounts of its own.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from support import intercept, volumes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("deeds", ["kill", "EIO,ENOSPC,ENOSPC+"])
def test_a_sample_of_calls(deeds: str) -> None:
    if reason := volumes.why_not(loop=False) or intercept.why_not():
        pytest.skip(reason)
    command = [sys.executable, "-m", "tests.faults.torture", "--deeds", deeds, "--runs", "4"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 runs, 0 with faults" in done.stdout
