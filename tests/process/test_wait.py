"""The `wait` request is the path to the truth: it may be late, it never loses a change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.origin import Origin, Resource
from support.raw import Raw

from fetchd.client import Client


class Blocked:
    """A daemon whose only worker is busy, with three jobs in its queue."""

    def __init__(self, client: Client, raw: Raw, since: int) -> None:
        self.client = client
        self.raw = raw
        self.since = since


@pytest.fixture
def blocked(make_daemon: type[DaemonProcess], origin: Origin, downloads: Path) -> Iterator[Blocked]:
    daemon = make_daemon({"FETCHD_WORKERS": "1"}).start()
    gate = origin.gate()
    with daemon.client() as client, Raw(daemon.endpoint.control) as raw:
        client.submit(
            origin.add("/held", Resource(size=10), "stall", gate=gate), directory=downloads, id="held"
        )
        gate.wait_arrived()
        plain = origin.add("/plain", Resource(size=10))
        for name in ("a", "b", "c"):
            client.submit(plain, directory=downloads, id=name)
        newest = max(snapshot.revision for snapshot in client.snapshots(["a", "b", "c", "held"]))
        yield Blocked(client, raw, newest)
        gate.open()


def test_jobs_that_change_in_one_commit(blocked: Blocked) -> None:
    blocked.raw.tell("wait", {"ids": ["a", "b", "c"], "since": blocked.since, "timeout": 20.0})
    blocked.client.status()  # by now the wait has been taken in
    blocked.client.cancel(["a", "b", "c"])
    answer = blocked.raw.answer()
    told = {job["id"]: job["state"] for job in answer["jobs"]}
    while len(told) < 3:
        blocked.raw.tell("wait", {"ids": ["a", "b", "c"], "since": answer["revision"], "timeout": 2.0})
        answer = blocked.raw.answer()
        assert answer["jobs"], f"nobody told of more than {told}"
        told |= {job["id"]: job["state"] for job in answer["jobs"]}
    assert set(told.values()) == {"cancelled"}


def test_a_removed_job_ends_a_wait(blocked: Blocked) -> None:
    blocked.raw.tell("wait", {"ids": ["a"], "since": blocked.since, "timeout": 20.0, "final": True})
    blocked.client.status()
    blocked.client.remove(["a"])
    answer = blocked.raw.answer()
    assert (answer["jobs"], answer["missing"]) == ([], ["a"])


def test_only_ends_count_where_only_they_were_asked_for(blocked: Blocked) -> None:
    blocked.raw.tell("wait", {"ids": ["a", "b"], "since": 0, "timeout": 20.0, "final": True})
    blocked.client.pause(["a", "b"])
    blocked.client.resume(["a"])
    blocked.client.cancel(["b"])
    assert [(job["id"], job["state"]) for job in blocked.raw.answer()["jobs"]] == [("b", "cancelled")]


def test_time_runs_out(blocked: Blocked) -> None:
    blocked.raw.tell("wait", {"ids": ["a"], "since": blocked.since, "timeout": 0.0})
    answer = blocked.raw.answer()
    assert (answer["jobs"], answer["missing"]) == ([], [])
    assert answer["revision"] >= blocked.since


def test_nobody_to_wait_for(blocked: Blocked) -> None:
    blocked.raw.tell("wait", {"ids": ["x", "y"], "since": 0, "timeout": 20.0})
    assert blocked.raw.answer()["missing"] == ["x", "y"]
