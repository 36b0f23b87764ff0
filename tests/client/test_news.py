"""News of jobs: streams, repairs of gaps, callbacks, against a scripted daemon on real sockets."""

import threading
import time
from collections.abc import Callable

import pytest

from fetchd.client import Client, ClientClosedError
from fetchd.protocol.job import State

from .peer import Peer, Thread

URL = "http://h/a.iso"


def test_events_from_now_to_the_end(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        events = job.events()
        first = next(events)
        assert (first.type, first.snapshot and first.snapshot.state) == ("snapshot", State.QUEUED)
        peer.until(lambda: f"job.{job.id}.".encode() in peer.subscriptions)
        peer.mute_waits = True  # so that what comes, comes by events
        peer.change(job.id, State.RUNNING, attempt=1, total=10)
        assert next(events).type == "running"
        peer.progress(job.id, 4)
        progress = next(events)
        assert (progress.type, progress.missed, progress.snapshot and progress.snapshot.bytes) == (
            "progress",
            0,
            4,
        )
        peer.complete(job.id)
        assert [event.type for event in events] == ["completed"]


def test_a_gap_is_repaired_by_a_snapshot(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        events = job.events()
        next(events)
        peer.until(lambda: f"job.{job.id}.".encode() in peer.subscriptions)
        peer.mute_waits = True
        peer.change(job.id, State.RUNNING, publish=False, attempt=1, total=10)
        peer.progress(job.id, 4)
        repaired = next(events)
        assert (repaired.type, repaired.missed) == ("snapshot", 1)
        assert repaired.snapshot is not None
        assert (repaired.snapshot.state, repaired.snapshot.bytes) == (State.RUNNING, 4)
        peer.complete(job.id)
        list(events)


def test_a_lost_last_event_does_no_harm(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        events = job.events()
        next(events)
        peer.complete(job.id, publish=False)
        assert [event.type for event in events] == ["snapshot"]


def test_events_go_on_after_a_restart(peer: Peer, start_peer: Callable[..., Peer]) -> None:
    with Client() as client:
        job = client.submit(URL)
        rest = Thread(lambda: [event.type for event in job.events()])
        peer.until(lambda: f"job.{job.id}.".encode() in peer.subscriptions)
        peer.change(job.id, State.RUNNING, attempt=1)
        peer.close()
        second = start_peer(epoch="e2", name="c2")
        second.until(lambda: f"job.{job.id}.".encode() in second.subscriptions)
        second.until(lambda: bool(second.asked("wait")))
        second.complete(job.id)
        types = rest.result()
        assert types[-1] in {"completed", "snapshot"}


def test_callbacks(peer: Peer) -> None:
    with Client() as client:
        job = client.submit(URL)
        progress: list[int] = []
        done = threading.Event()
        job.on_progress(lambda snapshot: progress.append(snapshot.bytes))
        job.add_done_callback(lambda _job: 1 / 0)  # logged, and no harm to the others
        job.add_done_callback(lambda ended: done.set() if ended.last else None)
        peer.until(lambda: f"job.{job.id}.".encode() in peer.subscriptions)
        peer.change(job.id, State.RUNNING, attempt=1, total=10)
        peer.progress(job.id, 7)
        peer.complete(job.id)
        assert done.wait(10)
        assert progress[-1] == 10
        again = threading.Event()
        job.add_done_callback(lambda _job: again.set())  # over already
        assert again.wait(10)


def test_a_callback_may_close_the_client(peer: Peer) -> None:
    client = Client()
    closed = threading.Event()

    def close(_job: object) -> None:
        client.close()
        closed.set()

    job = client.submit(URL)
    peer.complete(job.id)
    job.add_done_callback(close)
    assert closed.wait(10)
    thread = next((t for t in threading.enumerate() if t.name == "fetchd-callbacks"), None)
    if thread is not None:
        thread.join(10)
    with pytest.raises(ClientClosedError):
        client.status()


def test_subscribe_to_everything(peer: Peer) -> None:
    with Client() as client, client.subscribe("job.") as stream:
        stream.step(time.monotonic() + 0.01)
        while b"job." not in peer.subscriptions:
            stream.step(time.monotonic() + 0.05)
        job = client.submit(URL)
        peer.change(job.id, State.RUNNING, attempt=1)
        peer.change(job.id, State.WAITING, publish=False)
        peer.complete(job.id)
        events = iter(stream)
        assert [(e.type, e.missed) for e in (next(events), next(events))] == [
            ("running", 0),
            ("completed", 1),
        ]


def test_following_job_by_job_asks_little(peer: Peer) -> None:
    with Client() as client, client.follow(events=False) as follower:
        jobs = client.submit_many([{"url": URL, "id": f"j{i}"} for i in range(64)])
        for job in jobs:
            follower.add([job.id])
            follower.step(time.monotonic())
        for job in jobs:
            peer.complete(job.id)
        while follower.live:
            follower.step(time.monotonic() + 10)
        assert len(follower.finished) == 64
