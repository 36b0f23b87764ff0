"""Runs benchmarks by the numbers of their rows in the performance goals, each in a process of its own.

python tests/benchmarks/run.py [ROW …] [options of the benchmarks, such as --quick]

Without a row: all of them. The exit status is that of the first benchmark that failed; a missed goal is no
failure.
"""

import subprocess
import sys
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ROWS = {
    "1": ["one_file"],
    "2": ["one_file", "--https"],
    "3": ["one_file", "--checksum"],
    "4": ["small_files"],
    "5": ["segments"],
    "6": ["submits"],
    "9": ["memory"],
    "11": ["cold_start"],
}
"""The program of each row, and the options that make it that row."""


def main(arguments: list[str]) -> int:
    """Run what was asked for, one after the other."""
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return 0
    # `--rounds 2` is no row
    chosen = list(takewhile(ROWS.__contains__, arguments))
    others = arguments[len(chosen) :]
    for row in chosen or ROWS:
        program, *own = ROWS[row]
        command = [sys.executable, "-m", f"tests.benchmarks.{program}", *own, *others]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
