"""Rows that hold nonsense: the store refuses them with an error of the database, and nothing else escapes."""

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fetchd.daemon.core.core import Core
from fetchd.daemon.core.settings import Settings
from fetchd.daemon.store.database import Database
from fetchd.daemon.store.schema import MIGRATIONS

from ..process.golden import unpack

ABSURD = [2**63 - 1, "nonsense\0", b"\x91" * 2000]


def columns(database: Path, table: str) -> list[str]:
    """The names of a table's columns."""
    with closing(sqlite3.connect(database)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


@pytest.mark.parametrize("table", ["jobs", "history", "gates", "intents", "limits", "areas", "lanes"])
def test_nonsense_in_a_column(downloads: Path, table: str) -> None:
    golden, copy = downloads / "golden", downloads / "copy"
    for path in (golden, copy):
        path.mkdir()
    unpack(len(MIGRATIONS), golden, 1, same_boot=False)
    some = {"state", "labels", "size", "seq"}
    for column in columns(golden / "state" / "fetchd.db", table):
        if table == "history" and column not in some:
            continue  # as in `jobs`
        for value in ABSURD:
            for name in ("fetchd.db", "secrets.db"):
                shutil.copy(golden / "state" / name, copy)
            with closing(sqlite3.connect(copy / "fetchd.db", isolation_level=None)) as connection:
                try:
                    connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))
                except sqlite3.Error:
                    continue  # the schema has refused it
            with closing(Database(copy)) as database, suppress(sqlite3.Error):
                Core(Settings(default_area="/"), database.load("boot", 10**9, 10**15))
