"""Backups: when one is made, what is in it, how many are kept; and the history that forgets."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from fetchd.daemon.config import IN_FORCE, Config, History, load
from fetchd.daemon.core import commands
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.settings import Settings
from fetchd.daemon.housekeeping import Housekeeping
from fetchd.daemon.router.engine import Engine
from fetchd.daemon.router.loop import Loop, boot_time
from fetchd.daemon.store import backup, damage, schema
from fetchd.daemon.store.database import Database
from fetchd.daemon.store.thread import Store
from fetchd.protocol.job import State

from .store_jobs import WALL, job, saved

DAY = 86_400_000_000


def names(state: Path) -> list[str]:
    return [one.path.name for one in backup.found(state)]


def test_a_backup_has_everything_but_secrets(downloads: Path) -> None:
    db = Database(downloads)
    db.apply(saved([job(1), job(2, State.COMPLETED)]))
    db.secrets.execute("INSERT INTO secrets VALUES ('job-1', x'00')")
    made = backup.make(downloads)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert made.name.endswith(f"-{len(schema.MIGRATIONS)}.db")
    with closing(backup.opened(made, alone=True)) as copy:
        assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        assert copy.execute("SELECT count(*) FROM history").fetchone() == (1,)
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master")}
    assert "secrets" not in tables
    assert [path.name for path in made.parent.iterdir()] == [made.name]
    db.close()


def test_the_newest_ones_are_kept(downloads: Path) -> None:
    """Newest by their names, which never go back, whatever the clock does."""
    db = Database(downloads)
    place = backup.directory(downloads)
    place.mkdir()
    ahead = "fetchd-20990101T000000.000000Z-3.db"
    (place / ahead).touch()
    for old in ("fetchd-20200101T000000.000000Z-1.db", "fetchd-20210101T000000.000000Z-1.db"):
        (place / old).touch()
    made = [backup.make(downloads).name for _ in range(3)]
    assert made == sorted(made)
    assert made[0] > ahead
    assert names(downloads) == ["fetchd-20210101T000000.000000Z-1.db", *made]
    db.close()


@pytest.mark.parametrize("schema_before", range(1, len(schema.MIGRATIONS)))
def test_before_a_migration_there_is_a_backup(downloads: Path, schema_before: int) -> None:
    """The frozen beginnings of the migrations are the databases of earlier releases."""
    with closing(sqlite3.connect(downloads / "fetchd.db")) as connection:
        connection.executescript("\n".join(schema.MIGRATIONS[:schema_before]))
        connection.execute(f"PRAGMA user_version = {schema_before}")
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(jobs)")]
        row = dict(zip(schema.COLUMNS, schema.to_row(job(1)), strict=True))
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO jobs VALUES ({marks})", [row[name] for name in columns])
        connection.commit()
    db = Database(downloads)
    assert set(db.by_ids(["job-1"])) == {"job-1"}
    db.close()
    (one,) = backup.found(downloads)
    assert one.schema == schema_before
    # and it is one to go on from
    (downloads / "fetchd.db").write_bytes(b"damaged")
    again = Database(downloads)
    assert again.restored is not None
    assert again.restored.backup == one.path.name
    assert set(again.by_ids(["job-1"])) == {"job-1"}
    assert damage.marked(downloads) is None
    again.close()


def test_a_backup_of_a_damaged_database_is_none(downloads: Path) -> None:
    """It does not replace one that is good."""
    db = Database(downloads)
    db.apply(saved([job(1)]))
    backup.make(downloads)
    before = names(downloads)
    db.connection.execute("UPDATE jobs SET options = x'c1'")
    with pytest.raises(sqlite3.DatabaseError) as caught:
        backup.make(downloads)
    assert damage.is_damage(caught.value)
    assert names(downloads) == before == [path.name for path in backup.directory(downloads).iterdir()]
    db.close()


# what the history forgets


def test_outdated_are_the_oldest_of_which_nothing_is_kept(downloads: Path) -> None:
    db = Database(downloads)
    rows = [job(seq, State.COMPLETED, finished=WALL + 100 - seq) for seq in range(1, 8)]
    rows += [job(8, State.FAILED, finished=WALL, kept_until=WALL + DAY), job(9)]
    db.apply(saved(rows))

    def outdated(before: int, most: int, limit: int = 10) -> list[int]:
        return [one.seq for one in db.outdated(before, most, limit)]

    assert outdated(0, 0) == []
    assert outdated(WALL + 96, 0) == [7, 6, 5]
    assert outdated(WALL + 96, 0, 2) == [7, 6]
    assert outdated(0, 5) == [7, 6]
    assert outdated(WALL + 96, 5) == [7, 6, 5]
    assert outdated(WALL + 94, 3) == [7, 6, 5, 4]
    assert outdated(0, 7) == []
    plan = db.connection.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM history INDEXED BY history_finished WHERE kept_until = 0"
        " AND finished < 5 ORDER BY finished LIMIT 9"
    ).fetchall()
    assert "SCAN" not in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    db.close()


def test_the_history_is_brought_down_to_its_bounds(downloads: Path) -> None:
    """Through the core, many more than in one transaction, and memory and store agree afterwards."""
    store = Store(downloads)
    count, keep = 1300, 40
    store.database.apply(
        saved([job(seq, State.COMPLETED, size=3, finished=WALL + seq) for seq in range(count)])
    )
    loaded = store.database.load("boot", boot_time(), WALL)
    loop = Loop()
    failures: list[BaseException] = []
    engine = Engine(
        Core(Settings(workers=1, default_area="/area"), loaded),
        store.commit,
        lambda error, _tokens: failures.append(error),
    )
    kinds = [kind for kind in vars(commands).values() if isinstance(kind, type)]
    engine.wire(dict.fromkeys(kinds, lambda _command: None))
    loop.after, loop.deadline = engine.turn, engine.deadline
    loop.add(store.wake, store.take)
    history = History(age=0, count=keep)
    keeping = Housekeeping(
        engine=engine, store=store, loop=loop, failed=failures.append, history=lambda: history
    )
    store.start()
    engine.start()
    keeping.do()
    until = boot_time() + 20_000_000
    while sum(engine.core.ledger.counts.values()) > keep:
        assert boot_time() < until
        assert not failures
        loop.turn(0.1)
    while not engine._settled():
        loop.turn(0.1)
    store.close()
    db = Database(downloads)
    again = db.load("boot", boot_time(), WALL)
    assert again.counts == {State.COMPLETED: keep}
    assert again.delivered == engine.core.delivered == 3 * keep
    assert set(db.by_ids([f"job-{seq}" for seq in range(count)])) == {
        f"job-{seq}" for seq in range(count - keep, count)
    }
    db.close()


def test_the_settings(downloads: Path) -> None:
    file = downloads / "fetchd.toml"
    file.write_text("backup_interval = 0\n[keep_history]\nage = 60\n")
    config = load(file, {})
    assert (config.backup_interval, config.keep_history) == (
        0.0,
        History(age=60, count=Config().keep_history.count),
    )
    assert IN_FORCE["backup_interval"] == IN_FORCE["keep_history"] == "live"
