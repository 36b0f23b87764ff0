"""A database put back from an older copy: jobs go on from newer bytes, what it does not know is kept."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until
from support.origin import Origin, Resource
from support.wait import vanished

from fetchd.daemon.service.report import read

SIZE, FIRST = 3_000_000, 1_500_000


def put_back(state: Path, copy: Path) -> None:
    """As a restore does: the older database, of another lineage."""
    for name in ("fetchd.db-wal", "fetchd.db-shm"):
        (state / name).unlink(missing_ok=True)
    shutil.copy(copy, state / "fetchd.db")
    with closing(sqlite3.connect(state / "fetchd.db")) as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'lineage'", (os.urandom(8),))
        database.commit()


def test_an_older_database(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    urls = {
        name: origin.add(f"/{name}", Resource(size=SIZE, seed=5), "hold", times=1, after=FIRST, gate=gate)
        for name in ("known", "lost")
    }
    daemon = make_daemon({"FETCHD_WORKERS": "2"}).start()
    with daemon.client() as client:
        client.pause(all=True)
        client.submit(urls["known"], directory=downloads, id="known", segments=1)
    daemon.terminate()
    copy = daemon.root / "copy.db"
    shutil.copy(daemon.state / "fetchd.db", copy)
    daemon.start()
    with daemon.client() as client:
        client.resume(all=True)
        client.submit(urls["lost"], directory=downloads, id="lost", segments=1)
        for name in urls:
            until(client.get(name), lambda s: s.bytes == FIRST)
    daemon.kill()
    daemon.wait_all_gone()
    put_back(daemon.state, copy)
    daemon.start()
    with daemon.client() as client:
        assert client.find(["lost"]) == {}
        client.resume(all=True)
        assert sha256_file(client.get("known").result(timeout=30).path) == sha256_of(SIZE, 5)
    gate.open()
    assert [request.range for request in origin.requests_for("/known")] == [None, f"bytes={FIRST}-"]
    report = read(daemon.state)["recovery"]
    assert (report["adopted"], report["parked"], report["swept"]) == (1, 1, 0)
    assert "parked" in daemon.log()
    daemon.restart(kill=True)
    with daemon.client() as client:
        (orphan,) = client.workspaces()
        assert (orphan.job, orphan.state) == ("lost", None)
        assert orphan.bytes >= FIRST
        assert client.clean_workspaces(older_than=3600) == []
        other = client.submit(urls["lost"], directory=downloads, id="lost")
        assert sha256_file(other.result(timeout=30).path) == sha256_of(SIZE, 5)
        assert [(o.id, o.code) for o in client.clean_workspaces(orphans=True)] == [("lost", None)]
        vanished(Path(orphan.path))
        assert client.workspaces() == []
    nothing_staged(daemon)
