"""ruff and mypy are content. Quick when repeated, thanks to their caches."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy", ".dev/fetchd", "tests/support", "tests/conftest.py"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_is_content(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *CHECKS[name]],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": "tests"},  # where the tests find `support`
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout}{done.stderr}"
