"""Makes a golden state directory: what a daemon that was killed in the middle of everything has left.

`python -m tests.process.make_state` writes `states/schema-N.tar.gz` for the schema of the code that it runs
with. That of an older version is made with its own code:

    git worktree add ../old COMMIT
    PYTHONPATH=$(realpath ../old/.dev) python -m tests.process.make_state

Schema 1 was made at a3c7f0a, schema 2 at 8f42680. It needs strace: a real daemon serves a real client and is
killed as it renames a finished file. Only what is there for an instant is put there by hand: a bulk verb that
is under way, a wait, a gate, a workspace that was brought home. `made.json` says where it was made and what
its jobs are; `golden.py` makes it at home elsewhere.
"""

import json
import sqlite3
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource, Step

from fetchd.client import Client
from fetchd.daemon.store.schema import MIGRATIONS
from fetchd.protocol.job import State

from .golden import HALF, STATES, SYNCED, resource

HOUR = 3_600_000_000


def bring_up(client: Client, origin: Origin, downloads: Path) -> None:
    """Jobs in all states, the last of which ends the daemon."""
    gate = origin.gate()

    def submit(name: str, behaviour: str = "plain", **options: Any) -> Any:
        how = {key: options.pop(key) for key in ("after", "gate", "code", "retry_after") if key in options}
        url = origin.add(f"/{name}", resource(name), behaviour, **how)
        return client.submit(url, directory=downloads, id=name, **options)

    submit("completed", labels={"batch": "old"}).result(timeout=60)
    assert submit("failed", "cut", after=HALF, retries=0).exception(timeout=60) is not None
    assert submit("retried", "cut", after=HALF, retries=0).exception(timeout=60) is not None
    assert submit("cancelled", "stall", gate=gate).cancel()
    paused = submit("paused", "hold", after=HALF, gate=gate)
    until(paused, lambda s: s.bytes == HALF, 60)
    client.pause([paused])
    rest = {"after": HALF - SYNCED, "gate": gate}
    for name, second in (
        ("waiting", Step(Resource(), "status", code=503, retry_after="3600")),
        ("running", Step(resource("running"), "hold", **rest)),
        ("home", Step(resource("home"), "hold", **rest)),
    ):
        # a pause has synced the beginning; what came after it is in the page cache
        url = origin.script(f"/{name}", Step(resource(name), "hold", after=SYNCED, gate=gate), second)
        if name == "waiting":
            # another name of the origin: no other job waits for it
            url = url.replace("127.0.0.1", "localhost")
        job = client.submit(url, directory=downloads, id=name, labels={"a": name})
        until(job, lambda s: s.bytes == SYNCED, 60)
        client.pause([name])
        until(job, lambda s: s.state is State.PAUSED, 60)
        client.resume([name])
        until(job, lambda s: s.bytes == HALF or s.state is State.WAITING, 60)
    if len(MIGRATIONS) > 1:
        client.limit(1_000_000, host="example.org")
    # the third worker is for the one that ends it all, and then for the next one, which gets nothing
    publishing = submit("publishing", "stall", gate=(last := origin.gate()), priority=100)
    last.wait_arrived(1, 60)
    submit("next", "stall", gate=gate, priority=50)
    submit("queued", priority=7, labels={"batch": "new", "who": "\u00e9"})
    submit("delayed", priority=-50)
    submit("secret", headers={"X-Key": "canary"}, priority=-100)
    assert publishing.state is State.RUNNING
    last.open()


def put_by_hand(state: Path) -> None:
    """What is in the database for an instant only, and what a sweep that was killed has left."""
    (home,) = state.glob(".fetchd/*/rooms/*/home")
    home.rename(home.parents[2] / "jobs" / "home")
    connection = sqlite3.connect(state / "fetchd.db", isolation_level=None)
    owner, seq = connection.execute("SELECT owner, seq FROM history WHERE id = 'retried'").fetchone()
    (revision,) = connection.execute("SELECT max(revision) FROM events").fetchone()
    # "retry all that has failed" has done `failed` (seq 2) and is to do `retried`
    (done,) = connection.execute("SELECT seq FROM history WHERE id = 'failed'").fetchone()
    connection.execute(
        "INSERT INTO intents VALUES (?, ?, 'retry', 1, ?, 0, ?)", (revision << 10, owner, seq + 1, done)
    )
    connection.execute(
        "UPDATE jobs SET state = 'waiting', reason = 'retry', wait_since = ?, wait_for = ?, wait_until = ?,"
        " attempt = 1, failures = 1, error_code = 'reset', error_message = 'gone' WHERE id = 'delayed'",
        (time.time_ns() // 1000, HOUR, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 + HOUR),
    )
    said = ["a disk is full"] if len(MIGRATIONS) > 2 else []
    connection.execute(
        f"INSERT INTO gates VALUES ('owner', 'uid:77777', 'user', 1, NULL{', ?' * len(said)})", said
    )
    connection.close()


def manifest(daemon: DaemonProcess, origin: Origin) -> dict[str, Any]:
    """What golden.py needs to know, and what every job was."""
    connection = sqlite3.connect(daemon.state / "fetchd.db")
    jobs = {}
    for table in ("jobs", "history"):
        for row in connection.execute(f"SELECT id, state, priority, owner FROM {table}"):
            jobs[row[0]] = {"state": row[1], "priority": row[2]}
            owner = row[3]
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    connection.close()
    assert {job["state"] for job in jobs.values()} == {str(state) for state in State}, jobs
    return {"root": str(daemon.root), "port": origin.port, "owner": owner, "jobs": jobs}


def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what is of that machine alone: sockets, and process IDs that are others' by now."""
    return None if member.name in ("state/run", "state/workers.pids") else member


def main() -> None:
    with Origin() as origin:
        daemon = DaemonProcess({"FETCHD_WORKERS": "3"})
        try:
            downloads = daemon.root / "downloads"
            downloads.mkdir()
            daemon.wrapper = [
                "strace", "-f", "-qq", "-o", "/dev/null", "-P", "publishing",
                "-e", "trace=renameat2", "-e", "inject=renameat2:signal=SIGKILL",
            ]  # fmt: skip
            daemon.start(60)
            with daemon.client() as client:
                bring_up(client, origin, downloads)
                daemon.wait(60)
            daemon.wait_all_gone()
            put_by_hand(daemon.state)
            made = daemon.root / "made.json"
            made.write_text(json.dumps(manifest(daemon, origin), indent=1, sort_keys=True) + "\n")
            path = STATES / f"schema-{len(MIGRATIONS)}.tar.gz"
            with tarfile.open(path, "w:gz") as archive:
                for name in ("made.json", "state", "downloads"):
                    archive.add(daemon.root / name, name, filter=kept)
            print(f"{path.name}: {path.stat().st_size} bytes")
        finally:
            daemon.close()


if __name__ == "__main__":
    main()
