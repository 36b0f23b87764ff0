"""The locks by which SQLite knows that a database is in use stay with the daemon that uses it."""

import subprocess
import sys
from pathlib import Path

from fetchd.daemon.store.database import Database

ASK = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
# UNIX_SHM_DMS of os_unix.c in SQLite: whoever finds nobody there empties the index
asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 128, 1, 0)
print(struct.unpack("hhqqi", fcntl.fcntl(fd, fcntl.F_GETLK, asked))[0] == fcntl.F_UNLCK)
"""


def test_a_database_that_is_opened_again_is_known_to_be_in_use(downloads: Path) -> None:
    """Closing any descriptor of a file drops all POSIX locks that the process has on it (fcntl(2))."""
    for _ in range(2):
        database = Database(downloads)
        try:
            free = subprocess.run(
                [sys.executable, "-c", ASK, str(downloads / "fetchd.db-shm")],
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
        finally:
            database.close()
        assert free.stdout == "False\n"
