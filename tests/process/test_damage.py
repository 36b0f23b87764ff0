"""A database that is damaged under a daemon's hands, or while it was away: it goes on from a backup."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.origin import Origin, Resource
from support.wait import Watch

from fetchd.client import Client
from fetchd.protocol.errors import FetchdError

JOBS = 20


def backed_up(daemon: DaemonProcess) -> None:
    """Wait until there is a backup with all jobs, and none is being made."""
    place = daemon.state / "backups"

    def complete() -> bool:
        for path in sorted(place.glob("fetchd-*.db")):
            try:
                with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as copy:
                    if copy.execute("SELECT count(*) FROM jobs").fetchone() == (JOBS,):
                        return True
            except sqlite3.Error:
                continue
        return False

    place.mkdir(mode=0o700, exist_ok=True)
    with Watch(place) as watch:
        watch.until(complete, 30, "a backup with all jobs")


def fill(client: Client, origin: Origin, downloads: Path) -> None:
    """Jobs that are held, so that they are only in the database."""
    client.pause(all=True)
    url = origin.add("/f", Resource(size=1000, seed=4))
    for number in range(JOBS):
        client.submit(url, directory=downloads, name=f"f-{number}", id=f"j-{number}")


def begun_anew(daemon: DaemonProcess) -> None:
    """Wait until a running daemon has dealt with what it found."""
    with Watch(daemon.log_path.parent) as watch:
        watch.until(lambda: "started anew" in daemon.log(), 30, "the daemon to start anew")


def overwrite(state: Path) -> None:
    """Garbage in the pages of the live database and its log."""
    for name in ("fetchd.db", "fetchd.db-wal"):
        with open(state / name, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for at in range(4096 if name == "fetchd.db" else 32, size, 512):
                file.seek(at)
                file.write(os.urandom(min(512, size - at)))


def test_damage_while_it_runs(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """The daemon lives on, its jobs go on, and whoever replays events learns that it is another history."""
    daemon = make_daemon({"FETCHD_BACKUP_INTERVAL": "0.2"}).start()
    with daemon.client() as client:
        fill(client, origin, downloads)
        backed_up(daemon)
        pid, before = daemon.pid, client.status()
        overwrite(daemon.state)
        with contextlib.suppress(FetchdError):
            # it may be refused, or answered by the restored one
            list(client.list())
        begun_anew(daemon)
        after = client.status()
        assert (daemon.pid, after.pid) == (pid, pid)
        assert after.lineage != before.lineage
        assert after.revision > before.revision + (1 << 31)
        assert {row.id for row in client.list()} == {f"j-{number}" for number in range(JOBS)}
        client.resume(all=True)
        for number in range(JOBS):
            assert client.get(f"j-{number}").result(timeout=30).path.exists()
    said = json.loads((daemon.state / "recovery.json").read_text())["database"]
    assert said["lineage"] == after.lineage
    assert "jobs submitted after" in said["message"]
    assert said["message"] in daemon.log()
    assert "Traceback" not in daemon.log()


def test_damage_while_it_was_away(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    daemon = make_daemon({"FETCHD_BACKUP_INTERVAL": "0.2"}).start()
    with daemon.client() as client:
        fill(client, origin, downloads)
        backed_up(daemon)
    daemon.kill()
    overwrite(daemon.state)
    daemon.restart()
    with daemon.client() as client:
        assert {row.id for row in client.list()} == {f"j-{number}" for number in range(JOBS)}
        client.resume(all=True)
        assert client.get("j-7").result(timeout=30).path.exists()
    assert daemon.log().count("jobs submitted after") == 1
    assert "Traceback" not in daemon.log()


def test_damage_that_only_the_check_behind_the_start_finds(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """A row that nobody asks for. The daemon is ready before, and doctor tells of it afterwards."""
    daemon = make_daemon({"FETCHD_BACKUP_INTERVAL": "0.2"}).start()
    with daemon.client() as client:
        fill(client, origin, downloads)
        backed_up(daemon)
    daemon.kill()
    with closing(sqlite3.connect(daemon.state / "fetchd.db")) as connection:
        connection.execute("UPDATE jobs SET options = x'c1' WHERE seq = 7")
        connection.commit()
    daemon.env["FETCHD_BACKUP_INTERVAL"] = "3600"
    daemon.restart()
    begun_anew(daemon)
    assert daemon.log().rindex("ready:") < daemon.log().index("is damaged")
    with daemon.client() as client:
        assert {row.id for row in client.list()} == {f"j-{number}" for number in range(JOBS)}
    command = [sys.executable, "-m", "fetchd.daemon", "doctor"]
    done = subprocess.run(command, env=daemon.env, capture_output=True, text=True, timeout=30, check=False)
    assert "backups, the newest 0 h 0 min old" in done.stdout
    assert "1 damaged ones were put aside" in done.stdout
    assert "last repair: the database was damaged" in done.stdout


@pytest.mark.parametrize("interval", ["0", "0.3"])
def test_no_backup_without_a_change_and_none_where_it_is_off(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, interval: str
) -> None:
    daemon = make_daemon({"FETCHD_BACKUP_INTERVAL": interval}).start()
    place = daemon.state / "backups"
    with daemon.client() as client:
        fill(client, origin, downloads)
        if interval == "0":
            place.mkdir(exist_ok=True)
        else:
            backed_up(daemon)
        before = list(place.glob("fetchd-*"))
        with Watch(place) as watch, pytest.raises(TimeoutError):
            # one more may have been due when the last job came
            watch.until(lambda: len({*place.glob("fetchd-*")} - {*before}) > 1, 2)
        assert (interval == "0") == (list(place.glob("fetchd-*")) == [])


@pytest.mark.parametrize("away", [True, False])
def test_credentials_that_are_gone(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, away: bool
) -> None:
    """A damaged secrets.db costs the jobs that need it, with a word that says so, and nothing else."""
    daemon = make_daemon().start()
    url = origin.add("/f", Resource(size=1000, seed=4))
    with daemon.client() as client:
        client.pause(all=True)
        client.submit(url, directory=downloads, id="open", name="open")
        client.submit(url, directory=downloads, id="hidden", name="hidden", headers={"Authorization": "x"})
    if away:
        daemon.kill()
    with open(daemon.state / "secrets.db", "r+b") as file:
        file.write(b"no database" * 999)
    if away:
        daemon.restart()
    with daemon.client() as client:
        client.resume(all=True)
        assert client.get("open").result(timeout=20).path.exists()
        error = client.get("hidden").exception(timeout=20)
        assert error is not None
        assert error.code == "secrets_gone"
    assert list(daemon.state.glob("damaged/*/secrets.db"))
