"""Four power cuts: nothing acknowledged is lost, nothing wrong is under a final name, nothing is left.

The campaign is `python -m tests.faults.power_cut`; it has a process and mounts of its own.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from support import intercept, volumes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def here() -> None:
    """Skips where there are no loop devices, or system calls cannot be intercepted."""
    if reason := volumes.why_not(loop=True) or intercept.why_not():
        pytest.skip(reason)


def campaign(*options: str) -> tuple[int, str]:
    """The exit status and the output of a short campaign."""
    command = [sys.executable, "-m", "tests.faults.power_cut", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


def test_what_was_said_is_on_the_disk_after_a_power_cut() -> None:
    status, output = campaign("--cuts", "4")
    assert status == 0, output
    assert "4 cuts" in output


def test_the_campaign_notices_a_database_that_is_not_synced() -> None:
    status, output = campaign("--cuts", "1", "--without", "fdatasync:fetchd.db")
    assert status == 1, output
    assert "was acknowledged and is gone" in output
