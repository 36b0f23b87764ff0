"""A campaign of `tests/faults` run as a program: it has a process and mounts of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, *options: str) -> tuple[int, str]:
    """The exit status and the output of `python -m tests.faults.NAME`."""
    command = [sys.executable, "-m", f"tests.faults.{name}", *options]
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
