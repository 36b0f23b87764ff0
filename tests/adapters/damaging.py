"""A database in use, what a start makes of it, and what has to hold after a restore; for tests of damage."""

import shutil
from contextlib import closing
from pathlib import Path

from fetchd.daemon.core.core import Loaded
from fetchd.daemon.renewal import sound
from fetchd.daemon.service import report
from fetchd.daemon.store import backup, damage, repair, schema
from fetchd.daemon.store.database import Database
from fetchd.protocol.job import State

from .store_jobs import WALL, event, job, saved

JOBS = 300
DONE = 100
BACKED_UP = 250
LAST = 400
"""Jobs, how many of them have ended, how many are in the backup; the newest revision."""


def fill(state: Path) -> None:
    """A database in use with a backup that is a little older, and a log that is not written back."""
    db = Database(state)
    lineage = db.identity("lineage", 8)
    assert len(lineage) == 8
    db.identity("instance")
    db.load("boot", 0, WALL)
    for first in range(1, BACKED_UP + 1, 50):
        rows = [
            job(seq, State.COMPLETED if seq <= DONE else State.QUEUED, size=9, finished=WALL)
            for seq in range(first, first + 50)
        ]
        db.apply([*saved(rows), *[event(row.seq, row) for row in rows]])
    db.checkpoint()
    backup.make(state)
    rows = [job(seq) for seq in range(BACKED_UP + 1, JOBS + 1)]
    db.apply([*saved(rows), event(LAST, rows[0])])
    # as after a kill: the files are copied while it is open
    shutil.copytree(state, state / "image", ignore=lambda _path, _names: ["image"])
    db.close()


def jobs(db: Database) -> int:
    """How many jobs can be read, every one of them decoded."""
    return len(list_all(db))


def list_all(db: Database) -> list[str]:
    names = ", ".join(schema.COLUMNS)
    return [
        schema.from_row(row).id
        for table in ("jobs", "history")
        for row in db.connection.execute(f"SELECT {names} FROM {table} NOT INDEXED")
    ]


def start(state: Path) -> Database:
    """What a daemon does: open, load, check behind it, and open again where that found something."""
    db = Database(state)

    def load(database: Database) -> Loaded:
        loaded = database.load("boot", 0, WALL)
        with closing(backup.opened(database.path)) as reader:
            damage.check(reader, thorough=True)
        return loaded

    sound(db, load)
    return db


def check_restored(state: Path, db: Database, known: int = BACKED_UP) -> repair.Restored:
    """What took place is as it should be, and was told."""
    assert jobs(db) == known
    restored = db.restored
    assert restored is not None
    assert db.identity("lineage", 8).hex() == restored.lineage
    assert db.load("boot", 0, WALL).revision == restored.revision_before + repair.LEAP
    assert report.read(state)["database"]["lineage"] == restored.lineage
    assert Path(restored.damaged).is_dir()
    assert damage.marked(state) is None
    assert not (state / "fetchd.db.new").exists()
    return restored
