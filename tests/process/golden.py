"""Golden state directories of earlier schemas: unpacked, and made at home where a test is.

Paths, ports and the owner are in the rows of the database, so they are rewritten there before a daemon sees
it. The inode of a sealed file is a new one after unpacking. With `same_boot` the workspaces were written
under this boot.
"""

import json
import os
import sqlite3
import tarfile
import time
from pathlib import Path
from typing import Any

import msgspec
from support.content import sha256_of
from support.origin import Resource

from fetchd.protocol.journal import boot_id

STATES = Path(__file__).with_name("states")
SIZE, SYNCED, HALF = 6000, 1000, 2500
SEEDS = {
    name: number
    for number, name in enumerate(
        ["completed", "failed", "retried", "cancelled", "paused", "waiting", "running", "home", "next",
         "publishing", "queued", "delayed", "secret"], 1,
    )
}  # fmt: skip
"""Every job of a golden state; the path at the origin and the file's name are the same."""


def resource(name: str) -> Resource:
    """What the origin has for a job."""
    return Resource(size=SIZE, seed=SEEDS[name], etag=f'"{name}"')


def digest(name: str) -> str:
    """The SHA-256 of it."""
    return sha256_of(SIZE, SEEDS[name])


def unpack(schema: int, root: Path, port: int, *, same_boot: bool) -> dict[str, Any]:
    """Put a golden state into `root` (`state`, `downloads`); what `made.json` says of its jobs."""
    with tarfile.open(STATES / f"schema-{schema}.tar.gz") as archive:
        archive.extractall(root, filter="tar")
    made: dict[str, Any] = json.loads((root / "made.json").read_text())
    changes = [
        (made["root"], str(root)), (f":{made['port']}", f":{port}"), (made["owner"], f"uid:{os.geteuid()}"),
    ]  # fmt: skip
    database = sqlite3.connect(root / "state" / "fetchd.db", isolation_level=None)
    try:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            _rewrite(database, table, changes)
        (path,) = root.glob("state/.fetchd/*/jobs/publishing/data")
        found = path.stat()
        database.execute(
            "UPDATE jobs SET inode = ?, mtime_ns = ? WHERE id = 'publishing'",
            (found.st_ino, found.st_mtime_ns),
        )
        # a long wait is as long as it was, however old the archive is
        now = time.time_ns() // 1000
        database.execute("UPDATE jobs SET wait_since = ? WHERE id = 'delayed'", (now,))
        # whose clock it was is never known here
        database.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
    finally:
        database.close()
    for frontier in root.glob("state/.fetchd/**/frontier"):
        data = bytearray(frontier.read_bytes())
        data[8:24] = bytes.fromhex(boot_id().replace("-", "")) if same_boot else bytes(16)
        frontier.write_bytes(data)
    jobs: dict[str, Any] = made["jobs"]
    return jobs


def _rewrite(database: sqlite3.Connection, table: str, changes: list[tuple[str, str]]) -> None:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    for row in cursor.fetchall():
        new = [_changed(value, changes) for value in row]
        if new != list(row):
            where = " AND ".join(f"{name} IS ?" for name in names)
            values = ", ".join(f"{name} = ?" for name in names)
            database.execute(f"UPDATE {table} SET {values} WHERE {where}", (*new, *row))


def _changed(value: Any, changes: list[tuple[str, str]]) -> Any:
    """A value of a row, or of what is packed into one, for another place."""
    if isinstance(value, str):
        for old, new in changes:
            value = value.replace(old, new)
    elif isinstance(value, dict):
        return {key: _changed(inner, changes) for key, inner in value.items()}
    elif isinstance(value, list):
        return [_changed(inner, changes) for inner in value]
    elif isinstance(value, bytes):
        try:
            plain = msgspec.msgpack.decode(value)
        except (msgspec.MsgspecError, ValueError):
            return value
        if isinstance(plain, dict):
            return msgspec.msgpack.encode(_changed(plain, changes))
    return value
