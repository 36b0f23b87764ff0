"""What others see of a database: that it is in use, and in a copy all that there was."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from fetchd.daemon.store.database import Database

from .store_jobs import job, saved

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


def test_a_closed_database_is_in_one_file(downloads: Path) -> None:
    """Although a helper has not closed it yet: who copies it then has everything."""
    db = Database(downloads)
    with closing(sqlite3.connect(downloads / "fetchd.db")) as helper:
        helper.execute("SELECT count(*) FROM jobs").fetchall()
        db.apply(saved([job(1)]))
        db.close()
        shutil.copy(downloads / "fetchd.db", downloads / "copy.db")
    with closing(sqlite3.connect(downloads / "copy.db")) as copy:
        assert copy.execute("SELECT seq FROM jobs").fetchall() == [(1,)]
