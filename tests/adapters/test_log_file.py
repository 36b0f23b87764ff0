"""The daemon's own log file: rotated, three predecessors kept, stdout and stderr in the newest."""

import subprocess
import sys
from pathlib import Path

from support.tmp import TempDir

PROGRAM = """
import os, sys
from pathlib import Path
from fetchd.daemon.service import log
log.LARGEST = 2000
log.set_up("info", Path(sys.argv[1]))
for number in range(200):
    log.logger.info("line %d %s", number, "x" * 50)
log.logger.debug("not shown")
print("printed", flush=True)
os.write(2, b"a fatal error\\n")
"""


def test_rotation() -> None:
    with TempDir() as directory:
        file = directory / "daemon.log"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, timeout=30, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
        assert sorted(path.name for path in directory.iterdir()) == [
            "daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3",
        ]  # fmt: skip
        assert all(path.stat().st_size <= 2200 for path in directory.iterdir())
        lines = file.read_text().splitlines()
        assert lines[-2:] == ["printed", "a fatal error"]
        newest = [
            line
            for path in ("daemon.log.1", "daemon.log")
            for line in (directory / path).read_text().split("\n")
        ]
        numbers = [int(line.split()[4]) for line in newest if " INFO line " in line]
        assert numbers == list(range(numbers[0], 200))


def test_stderr_without_a_file() -> None:
    program = "from fetchd.daemon.service import log; log.set_up('warning'); log.logger.warning('said')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr.endswith(" WARNING said\n")
    assert not Path("daemon.log").exists()
