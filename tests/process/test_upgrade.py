"""An upgrade loses nothing: what the daemons of earlier schemas have left is opened, resumed and compared.

`make_state.py` says how a golden state is made; every schema has one.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.content import sha256_file
from support.daemon import DaemonProcess, StartError
from support.look import nothing_staged
from support.origin import Origin

from fetchd.daemon.store.schema import MIGRATIONS
from fetchd.protocol.errors import Code

from .golden import HALF, SEEDS, STATES, SYNCED, digest, resource, unpack

SCHEMAS = range(1, len(MIGRATIONS) + 1)
LABELS = {
    "completed": {"batch": "old"}, "queued": {"batch": "new", "who": "\u00e9"},
    **{name: {"a": name} for name in ("waiting", "running", "home")},
}  # fmt: skip


def test_every_schema_has_a_golden_state() -> None:
    """Whoever adds a migration makes one: `python -m tests.process.make_state`."""
    assert {path.name for path in STATES.iterdir()} == {f"schema-{number}.tar.gz" for number in SCHEMAS}
    assert all(path.stat().st_size < 100_000 for path in STATES.iterdir())


@pytest.mark.parametrize("same_boot", [True, False], ids=["same boot", "other boot"])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_upgrade(make_daemon: type[DaemonProcess], origin: Origin, schema: int, same_boot: bool) -> None:
    daemon = make_daemon()
    gate = origin.gate()
    for name in SEEDS:
        origin.add(f"/{name}", resource(name), "stall", gate=gate)
    jobs = unpack(schema, daemon.root, origin.port, same_boot=same_boot)
    assert jobs.keys() == SEEDS.keys()
    daemon.start()
    with daemon.client() as client:
        found = client.find(list(jobs))
        assert found.keys() == jobs.keys()
        for name, before in jobs.items():
            now, may_be = found[name], {before["state"]}
            if name in ("running", "home", "next", "queued", "secret", "waiting"):
                may_be |= {"queued", "running", "waiting"}
            elif name == "publishing":
                may_be.add("completed")
            elif name == "retried":
                # the bulk verb that was under way goes on
                may_be |= {"queued", "running"}
            assert now.state in may_be, name
            assert (now.priority, now.labels) == (before["priority"], LABELS.get(name, {})), name
            assert now.path in (None, str(daemon.root / "downloads" / name))
        past = next(e for e in client.events(since=0) if (e.job, e.type) == ("completed", "completed"))
        assert past.snapshot is not None
        assert past.snapshot.labels == {"batch": "old"}
        gate.open()
        assert client.resume(["paused"])[0].code is None
        codes = {o.id: o.code for o in client.retry(["delayed", "waiting", "failed", "cancelled"])}
        # its wait may be over by now
        assert codes.pop("waiting") in (None, Code.TOO_LATE)
        assert set(codes.values()) == {None}
        for name in jobs:
            path = client.get(name).result(timeout=10).path
            assert path == daemon.root / "downloads" / name
            assert sha256_file(path) == digest(name), name
    nothing_staged(daemon)
    assert daemon.terminate() == 0
    written = HALF if same_boot else SYNCED
    # what a failed attempt has left is not synced
    begun = {"paused": HALF, "running": written, "home": written, "waiting": SYNCED}
    begun |= {"failed": HALF, "retried": HALF} if same_boot else {}
    asked = {name: [request.range for request in origin.requests_for(f"/{name}")] for name in jobs}
    assert asked == {
        name: []
        if name in ("completed", "publishing")
        else [f"bytes={begun[name]}-" if name in begun else None]
        for name in jobs
    }
    assert origin.requests_for("/secret")[0].header("x-key") == "canary"
    with closing(sqlite3.connect(daemon.state / "fetchd.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert database.execute("SELECT name FROM gates").fetchall() == [("uid:77777",)]
        limits = database.execute("SELECT kind, name, rate FROM limits").fetchall()
        assert limits == ([("host", "example.org", 1_000_000)] if schema > 1 else [])
        assert database.execute("SELECT count(*) FROM intents").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM replies").fetchone() > (0,)


BY_THE_WAY = {"lock", "workers.lock", "workers.pids", "fetchd.db-shm"}
"""What a start that was refused may touch: locks, and an index that SQLite makes anew."""


def contents(state: Path) -> dict[str, bytes]:
    """The databases and all workspaces, byte for byte."""
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*") if path.is_file() and path.name not in BY_THE_WAY
    }  # fmt: skip


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_a_newer_schema_is_refused_and_left_alone(
    make_daemon: type[DaemonProcess], origin: Origin, killed: bool
) -> None:
    """Also where the newer daemon was killed, and some of what it knows is in its write-ahead log only."""
    newer = len(MIGRATIONS) + 1
    daemon = make_daemon()
    unpack(len(MIGRATIONS), daemon.root, origin.port, same_boot=True)
    database, aside = daemon.state / "fetchd.db", daemon.root / "aside"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA user_version = {newer}")
        if killed:
            aside.mkdir()
            for name in ("fetchd.db", "fetchd.db-wal"):
                shutil.copy(daemon.state / name, aside)
    if killed:
        for path in aside.iterdir():
            shutil.copy(path, daemon.state)
    before = contents(daemon.state)
    assert ("fetchd.db-wal" in before) is killed
    with pytest.raises(StartError, match=rf"schema {newer}, .* up to {len(MIGRATIONS)}: a newer fetchd"):
        daemon.start()
    assert "Traceback" not in daemon.log()
    assert contents(daemon.state) == before
