"""Watchers in processes of their own: late, stopped for a while, over restarts. All end with the truth."""

import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import Fetchd, Running
from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource
from support.wait import IN_MODIFY, Watch

from fetchd.client import Client, Job
from fetchd.client.link import EVENTS_HWM
from fetchd.protocol.job import State

SIZE = 2_000_000
HALF = 1_000_000
JOBS = 200
QUEUES = 2 * EVENTS_HWM
"""Events that the daemon and a stopped subscriber hold between them before some are lost (and some more in
the kernel)."""

MakeDaemon = Callable[..., DaemonProcess]


@pytest.fixture
def command(downloads: Path) -> Iterator[Callable[[DaemonProcess], Fetchd]]:
    """Commands for a daemon."""
    made: list[Fetchd] = []

    def make(daemon: DaemonProcess) -> Fetchd:
        made.append(Fetchd(daemon.env, downloads))
        return made[-1]

    yield make
    for fetchd in made:
        fetchd.close()


def held(client: Client, origin: Origin, downloads: Path, name: str = "held") -> Job:
    """A job that runs and has got half-way."""
    url = origin.add(
        f"/{name}", Resource(size=SIZE, seed=3, etag='"e"'), "hold", times=1, after=HALF, gate=origin.gate()
    )
    job = client.submit(url, directory=downloads, id=name)
    until(job, lambda s: s.bytes == HALF)
    return job


def table(daemon: DaemonProcess) -> list[tuple[int, str, str]]:
    """The daemon's own record: (revision, job, kind) of each event."""
    database = sqlite3.connect(f"file:{daemon.state}/fetchd.db?mode=ro", uri=True)
    try:
        return database.execute("SELECT revision, job, kind FROM events ORDER BY revision").fetchall()
    finally:
        database.close()


def told(lines: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(line["revision"], line["job"], line["type"]) for line in lines]


def read_to(stream: Running, revision: int, lines: list[dict[str, Any]]) -> None:
    """Read JSON lines until that of a revision has come."""
    while not lines or lines[-1]["revision"] < revision:
        lines += stream.read()


def test_early_late_and_stopped_watchers_end_with_the_truth(
    make_daemon: MakeDaemon, origin: Origin, downloads: Path, command: Callable[[DaemonProcess], Fetchd]
) -> None:
    """Two follow the same jobs and one reads all events; one of each is stopped until events were lost."""
    daemon = make_daemon({"FETCHD_WORKERS": "1"}).start()
    fetchd = command(daemon)
    with daemon.client() as client:
        held(client, origin, downloads)
        url = origin.add("/small", Resource(size=10))
        ids = [f"j{number}" for number in range(JOBS)]
        client.submit_many(
            [{"url": url, "directory": downloads, "name": job_id, "id": job_id} for job_id in ids]
        )
        stopped = fetchd.begin("follow", *ids, "--progress", "json", quiet=True)
        awake = fetchd.begin("follow", "held", *ids, "--progress", "json", quiet=True)
        events = fetchd.begin("events", "--since", "0", quiet=True)
        heard = [fetchd.begin("events", "--since", "0"), stopped, awake, events]
        lines: list[dict[str, Any]] = []
        read_to(heard[0], client.status().revision, lines)
        stopped.signal(signal.SIGSTOP)
        events.signal(signal.SIGSTOP)
        before = client.status().revision
        while client.status().revision < before + QUEUES + JOBS * 30:
            client.pause(ids)
            client.resume(ids)
            read_to(heard[0], client.status().revision, lines)
        late = fetchd.begin("follow", *ids, "--progress", "json", quiet=True)
        stopped.signal(signal.SIGCONT)
        events.signal(signal.SIGCONT)
        for gate in origin._gates:
            gate.open()
        for watcher in (stopped, awake, late):
            done = watcher.end(120)
            assert done.code == 0, done.out[-2000:]
            last = {entry["job"]: entry for entry in map(json.loads, done.out.splitlines())}
            assert {last[job_id]["data"]["state"] for job_id in ids} == {"completed"}
            if watcher is stopped:
                kinds = [json.loads(line)["type"] for line in done.out.splitlines()]
                assert len(kinds) < client.status().revision - before, (
                    "nothing was lost: the test is too small"
                )
        end = client.status().revision
        read_to(heard[0], end, lines)
        heard[0].interrupt()
        assert heard[0].end().code == 130
        follower = fetchd("events", "--since", "0", "--no-follow")
    truth = table(daemon)
    assert told(lines) == truth
    assert told(list(map(json.loads, follower.out.splitlines()))) == truth
    _ends_with(events, truth)


def _ends_with(events: Running, truth: list[tuple[int, str, str]]) -> None:
    """The stopped stream has caught up: its output grows until the last revision is in it."""
    assert events._file is not None
    name = Path(f"/proc/self/fd/{events._file.fileno()}")
    with Watch(name, mask=IN_MODIFY) as watch:
        watch.until(lambda: f'"revision":{truth[-1][0]},"time"' in name.read_text()[-2000:], 30)
    events.interrupt()
    done = events.end()
    lines = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
    assert told(lines) == truth


def test_a_follower_goes_on_over_a_restart(
    daemon: DaemonProcess, origin: Origin, downloads: Path, command: Callable[[DaemonProcess], Fetchd]
) -> None:
    fetchd = command(daemon)
    with daemon.client() as client:
        held(client, origin, downloads)
    follower = fetchd.begin("follow", "held", "--progress", "plain", "--json")
    follower.until("held: held: running")
    daemon.kill()
    follower.until("the daemon is gone")
    daemon.start()
    follower.until("the daemon is back")
    origin._gates[0].open()
    done = follower.end()
    assert done.code == 0, done
    assert [job["state"] for job in done.json()] == ["completed"]
    assert "held: completed: " in done.err


def test_following_everything_goes_on_over_a_restart(
    daemon: DaemonProcess, origin: Origin, downloads: Path, command: Callable[[DaemonProcess], Fetchd]
) -> None:
    fetchd = command(daemon)
    with daemon.client() as client:
        held(client, origin, downloads)
    follower = fetchd.begin("follow", "--progress", "plain", "--json")
    follower.until("held: held: running")
    daemon.restart(kill=True)
    follower.until("the daemon is back")
    with daemon.client() as client:
        url = origin.add("/new", Resource(size=10))
        origin._gates[0].open()
        client.get("held").result(timeout=30)
        follower.until("held: completed")
        client.submit(url, directory=downloads, id="new").result(timeout=30)
    follower.until("new: completed")
    follower.interrupt()
    done = follower.end()
    assert done.code == 130
    assert sorted(job["id"] for job in done.json()) == ["held", "new"]


def test_events_over_restarts_are_those_of_the_table(
    daemon: DaemonProcess, origin: Origin, downloads: Path, command: Callable[[DaemonProcess], Fetchd]
) -> None:
    fetchd = command(daemon)
    stream = fetchd.begin("events", "--since", "0")
    lines: list[dict[str, Any]] = []
    url = origin.add("/f", Resource(size=10))
    for turn in range(4):
        with daemon.client() as client:
            jobs = client.submit_many(
                [{"url": url, "directory": downloads, "name": f"{turn}-{n}"} for n in range(20)]
            )
            if turn % 2:
                client.pause(jobs[10:])
            client.wait(jobs[:10], timeout=60)
            # a command that finds no daemon when it begins starts one
            read_to(stream, 1, lines)
            if turn < 3:
                daemon.restart(kill=turn != 1)  # what is under way is told by the next life
    with daemon.client() as client:
        client.resume(all=True)
        client.wait([job.id for job in client.list()], timeout=60)
        read_to(stream, client.status().revision, lines)
    stream.interrupt()
    assert stream.end().code == 130
    truth = table(daemon)
    assert [revision for revision, _, _ in truth] == list(range(1, len(truth) + 1))
    assert told(lines) == truth
    assert len({line["epoch"] for line in lines}) > 1
    middle = truth[len(truth) // 2][0]
    rest = fetchd("events", "--since", str(middle), "--no-follow")
    assert told(list(map(json.loads, rest.out.splitlines()))) == truth[middle:]
    states = {line["job"]: line["type"] for line in lines}
    assert set(states.values()) == {str(State.COMPLETED)}


def test_history_that_is_gone(
    daemon: DaemonProcess, origin: Origin, downloads: Path, command: Callable[[DaemonProcess], Fetchd]
) -> None:
    fetchd = command(daemon)
    with daemon.client() as client:
        client.submit(origin.add("/f", Resource(size=10)), directory=downloads).result(timeout=30)
        end = client.status().revision
    daemon.terminate()
    database = sqlite3.connect(f"{daemon.state}/fetchd.db")
    database.execute("DELETE FROM events WHERE revision <= 2")
    database.commit()
    database.close()
    daemon.start()
    for since in ("0", "1", str(end + 1)):
        gone = fetchd("events", "--since", since)
        assert gone.code == 1, gone
        assert gone.out == ""
        assert gone.err.startswith("fetchd: history_gone: ")
    kept = fetchd("events", "--since", "2", "--no-follow")
    assert [json.loads(line)["revision"] for line in kept.out.splitlines()] == list(range(3, end + 1))
