"""The shipped units under a real systemd, once: what `python -m tests.system.live` looks at."""

import subprocess
import sys
from pathlib import Path

import pytest

from .booted import why_not
from .installation import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif((why := why_not()) is not None, reason=why or "")
@pytest.mark.skipif(python() is None, reason="no interpreter of this version in /usr")
def test_the_service_under_systemd() -> None:
    """Installed, used by a member of its group, activated, reloaded, hung, stopped, and removed again."""
    command = [sys.executable, "-m", "tests.system.live"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
