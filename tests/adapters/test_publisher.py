"""The events socket: last values for exact subscriptions, numbers that only grow, nobody is waited for."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from fetchd.daemon.core.commands import Event, Progress
from fetchd.daemon.events import outlet
from fetchd.daemon.events import publisher as module
from fetchd.daemon.events.outlet import Outlet
from fetchd.daemon.events.publisher import Publisher
from fetchd.daemon.router.access import Access, Who
from fetchd.daemon.router.loop import Loop
from fetchd.daemon.router.zap import Authorizer
from fetchd.daemon.service.doors import Doors
from fetchd.protocol.codec import encode
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.events import Metrics, WorkerUsage

from .store_jobs import job

BODY = encode({"x": 1})


class Stage:
    """A publisher, the authoriser it needs, and subscribers."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.authorizer = Authorizer(self.context, Access(lambda _pid: False))
        self.doors = Doors(self.context, Loop(), directory, 1000)
        self.publisher = Publisher(self.doors, directory / "events", "epoch")
        self.outlets: dict[str, tuple[Outlet, Callable[[], None]]] = {}
        self.publisher.opened = lambda made, take: self.outlets.update({made.endpoint: (made, take)})
        self.publisher.closed = lambda gone: self.outlets.pop(gone.endpoint, None) and None
        self.subscribers: list[zmq.Socket[bytes]] = []
        self.revision = 0

    def subscriber(self, *topics: bytes, at: str = "") -> "zmq.Socket[bytes]":
        """A subscriber whose subscriptions have been looked at; to everything, or `at` an endpoint."""
        socket: zmq.Socket[bytes] = self.context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        socket.connect(at or self.publisher.endpoint)
        self.subscribers.append(socket)
        for topic in (*topics, b"sys."):
            socket.subscribe(topic)
        self.sync(socket)
        return socket

    def sync(self, socket: "zmq.Socket[bytes]") -> None:
        """Turn until the subscriber hears a heartbeat: by then all its subscriptions are here, too."""
        until = time.monotonic() + 10
        poller = zmq.Poller()
        poller.register(self.authorizer.socket, zmq.POLLIN)
        poller.register(self.publisher.socket, zmq.POLLIN)
        poller.register(socket, zmq.POLLIN)
        outlets = {each.socket: take for each, take in self.outlets.values()}
        for one in outlets:
            poller.register(one, zmq.POLLIN)
        while time.monotonic() < until:
            ready = dict(poller.poll(20))
            if self.authorizer.socket in ready:
                self.authorizer.take()
            if self.publisher.socket in ready:
                self.publisher.take()
            self.publisher.heartbeat(0)
            if socket.poll(20):
                # libzmq knows of a subscription before it has told
                for take in (self.publisher.take, *outlets.values()):
                    take()
                return
        raise TimeoutError("the subscriber hears nothing")

    def announce(self, name: str, kind: str = "queued", *, later: int = 0, owner: str = "uid:1") -> None:
        """A lifecycle event; `later`: µs after the job was created."""
        self.revision += 1
        one = job(1, id=name, revision=self.revision, owner=owner)
        self.publisher.announce(Event(self.revision, kind, one.created + later, one), BODY)

    def progress(self, name: str, on_hand: int = 1, owner: str = "uid:1") -> None:
        self.publisher.progress(Progress(name, 1, on_hand, None, None, owner))

    def endpoint_of(self, owner: str) -> str:
        """Where somebody who is no admin may listen."""
        return self.publisher.endpoint_of(Who(owner, admin=False))

    def close(self) -> None:
        for socket in self.subscribers:
            socket.close(0)
        self.publisher.close()
        self.doors.close()
        self.authorizer.close()
        self.context.destroy(0)


@pytest.fixture
def stage(downloads: Path) -> Iterator[Stage]:
    made = Stage(downloads)
    yield made
    made.close()


def heard(socket: "zmq.Socket[bytes]", wait: int = 200) -> list[tuple[str, str, int]]:
    """(job, type, seq) of everything about jobs that has come; ends after `wait` ms of silence."""
    found = []
    while socket.poll(wait):
        topic, header, _ = socket.recv_multipart()
        fields: list[Any] | dict[str, Any] = msgpack.unpackb(header)
        assert isinstance(fields, dict)
        if topic.startswith(b"job."):
            assert topic.decode() == f"job.{fields['job']}.{fields['type']}"
            found.append((fields["job"], fields["type"], fields["seq"]))
    return found


def test_events_are_numbered_for_each_job(stage: Stage) -> None:
    everything = stage.subscriber(b"job.")
    one = stage.subscriber(b"job.a.")
    for name in ("a", "b"):
        stage.announce(name)
    stage.announce("a", "running", later=5)
    stage.progress("a")
    stage.progress("b")
    stage.announce("a", "completed", later=9)
    of_a = [("a", "queued", 1), ("a", "running", 2), ("a", "progress", 3), ("a", "completed", 4)]
    assert [event for event in heard(everything) if event[0] == "a"] == of_a
    assert heard(one) == of_a
    assert (stage.publisher.seq("a"), stage.publisher.seq("b"), stage.publisher.seq("c")) == (4, 2, 0)


def test_the_last_value_is_sent_to_whoever_asks_for_exactly_one_job(stage: Stage) -> None:
    stage.announce("a")
    stage.announce("a", "running", later=5)
    stage.progress("a")
    last = [("a", "running", 2), ("a", "progress", 3)]
    assert heard(stage.subscriber(b"job.a.")) == last
    # each of several equal subscriptions gets it, not only the first
    assert heard(stage.subscriber(b"job.a.")) == last


@pytest.mark.parametrize(
    "topic", [b"", b"job.", b"job.a", b"job.a.running", b"job.b.", b"job.a.x.", b"\xff."]
)
def test_no_last_value_for_other_subscriptions(stage: Stage, topic: bytes) -> None:
    stage.announce("a")
    assert heard(stage.subscriber(topic)) == []


def test_progress_of_a_state_that_is_over_is_not_told_again(stage: Stage) -> None:
    stage.announce("a", "running")
    stage.progress("a")
    stage.announce("a", "completed", later=5)
    assert heard(stage.subscriber(b"job.a.")) == [("a", "completed", 3)]


def test_numbers_never_go_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a job that was forgotten for others that changed since: a jump tells of the gap."""
    monkeypatch.setattr(module, "KEEP", 10)
    everything = stage.subscriber(b"job.")
    stage.announce("old")
    for _ in range(7):
        stage.progress("old")
    for number in range(30):
        stage.announce(f"new-{number}")
    stage.progress("old")
    numbers = [seq for name, _, seq in heard(everything) if name == "old"]
    assert numbers[:8] == list(range(1, 9))
    assert numbers[8] > 8
    assert len(stage.publisher._last) <= 10


def test_a_flood_of_subscriptions_leaves_the_others_their_turn(stage: Stage) -> None:
    socket = stage.subscriber()
    for number in range(5 * outlet.AT_ONCE):
        socket.subscribe(f"job.{number}.".encode())
    assert stage.publisher.socket.poll(5000)
    taken: list[int] = []
    real = stage.publisher.socket

    class Counting:
        """The socket, counting what is received."""

        def recv(self, flags: int) -> bytes:
            frame: bytes = real.recv(flags)
            taken.append(1)
            return frame

    stage.publisher._everything.socket = Counting()
    stage.publisher.take()
    stage.publisher._everything.socket = real
    assert len(taken) <= outlet.AT_ONCE


ONE = f"uid:{os.geteuid()}"
"""An owner whose socket this process may subscribe to. It is an admin, and may subscribe to all."""


def test_an_owner_hears_of_their_own_jobs_with_the_same_numbers(stage: Stage) -> None:
    assert stage.publisher.endpoint_of(Who(ONE, admin=True)) == stage.publisher.endpoint
    places = [stage.endpoint_of(owner) for owner in (ONE, "uid:7", ONE)]
    assert places[0] == places[2]
    assert len({*places, stage.publisher.endpoint}) == 3
    everything = stage.subscriber(b"job.")
    mine, others = (stage.subscriber(b"job.", at=place) for place in places[:2])
    for name, owner in (("a", ONE), ("b", "uid:7")):
        stage.announce(name, owner=owner)
        stage.progress(name, owner=owner)
    told = {name: [(name, "queued", 1), (name, "progress", 2)] for name in "ab"}
    assert heard(mine) == told["a"]
    assert heard(others) == told["b"]
    assert heard(everything) == told["a"] + told["b"]
    # last values too
    assert heard(stage.subscriber(b"job.b.", at=places[0])) == []
    assert heard(stage.subscriber(b"job.b.", at=places[1])) == told["b"]
    assert heard(stage.subscriber(b"job.b.")) == told["b"]


def test_what_is_no_subscription_ends_none(stage: Stage) -> None:
    stage.subscriber()
    odd: zmq.Socket[bytes] = stage.context.socket(zmq.XSUB)
    stage.subscribers.append(odd)
    odd.connect(stage.publisher.endpoint)
    for said in (b"\x01sys.", b"\x02sys."):
        odd.send(said)
    stage.sync(odd)
    assert stage.publisher.listeners() == [None]


def test_each_is_told_of_their_own_workers(stage: Stage) -> None:
    """What others' take shows when their jobs are busy. A heartbeat after it tells that no more comes."""
    everything, *each = (stage.subscriber(at=at) for at in ("", *map(stage.endpoint_of, ("uid:1", "uid:2"))))
    stage.endpoint_of("uid:3")
    assert stage.publisher.listeners() == [None, "uid:1", "uid:2"]
    usage = {
        owner: Metrics(workers=[WorkerUsage(slot=slot, memory=1, cpu=0.5)])
        for slot, owner in enumerate((None, "uid:1", "uid:3"))
    }
    stage.publisher.metrics(usage, 7)
    stage.publisher.heartbeat(7)
    assert of_system(everything, 7) == [0]
    assert [of_system(one, 7) for one in each] == [[1], []]


def of_system(socket: "zmq.Socket[bytes]", revision: int) -> list[int]:
    """The slots of the workers that are told of at a revision, up to a heartbeat."""
    found: list[int] = []
    while True:
        _topic, head, body = socket.recv_multipart()
        header = msgpack.unpackb(head)
        if header["revision"] == revision:
            if header["type"] == "heartbeat":
                return found
            found += [worker["slot"] for worker in msgpack.unpackb(body)["workers"]]


def test_sockets_of_owners_are_bounded_in_number(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that nobody listens to make way, others do not."""
    monkeypatch.setattr(module, "MOST", 2)
    first = stage.endpoint_of("uid:1")
    stage.subscriber(b"job.", at=stage.endpoint_of("uid:2"))
    third = stage.endpoint_of("uid:3")
    assert first not in stage.outlets
    assert not Path(first.removeprefix("ipc://")).exists()
    stage.subscriber(b"job.", at=third)
    with pytest.raises(FetchdError) as caught:
        stage.endpoint_of("uid:4")
    assert caught.value.code == "busy"
    assert stage.endpoint_of("uid:3") == third


SUBSCRIBER = """
import sys, zmq
context = zmq.Context()
socket = context.socket(zmq.SUB)
socket.setsockopt(zmq.LINGER, 0)
socket.connect(sys.argv[1])
socket.subscribe(b"")
socket.recv_multipart()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_stopped_subscriber_delays_nobody(stage: Stage) -> None:
    """20,000 messages past its queue: the publisher drops them for it and never waits."""
    command = [sys.executable, "-c", SUBSCRIBER, stage.publisher.endpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        until = time.monotonic() + 10
        while not select.select([process.stdout], [], [], 0.02)[0]:
            assert time.monotonic() < until
            stage.authorizer.take()
            stage.publisher.take()
            stage.publisher.heartbeat(0)
        os.kill(process.pid, signal.SIGSTOP)
        lively = stage.subscriber(b"job.quick.")
        body = bytes(500)
        slowest = 0.0
        for number in range(20_000):
            began = time.perf_counter()
            one = job(1, id=f"j{number % 50}")
            stage.publisher.announce(Event(number, "queued", one.created + 1, one), body)
            slowest = max(slowest, time.perf_counter() - began)
        stage.announce("quick")
        assert ("quick", "queued", 1) in heard(lively)
        # far above what a send costs, far below what waiting for the stopped one would
        assert slowest < 2.0
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_messages_that_are_not_subscriptions(stage: Stage) -> None:
    sender: zmq.Socket[bytes] = stage.context.socket(zmq.XSUB)
    sender.setsockopt(zmq.LINGER, 0)
    sender.connect(stage.publisher.endpoint)
    stage.subscribers.append(sender)
    for frame in (b"", b"\x00", b"\x02rubbish", b"\x01", b"\x01job.\xff.", b"\x01" + b"x" * 3000):
        sender.send(frame)
    stage.announce("a")
    assert heard(stage.subscriber(b"job.a.")) == [("a", "queued", 1)]


@pytest.mark.parametrize("owner", ["", "uid:7"])
def test_everybody_has_to_come_in_anew(stage: Stage, owner: str) -> None:
    at = stage.endpoint_of(owner) if owner else stage.publisher.endpoint
    path = Path(at.removeprefix("ipc://"))
    mode = path.stat().st_mode
    stage.announce("a", owner=owner)
    socket = stage.subscriber(b"job.a.", at=at)
    assert heard(socket) == [("a", "queued", 1)]
    for number in range(2, 6):
        was = stage.outlets[at][0].socket if owner else stage.publisher.socket
        stage.publisher.renew()
        assert was.closed
        stage.announce("a", f"n{number}", later=number, owner=owner)
        stage.sync(socket)
        assert heard(socket)[-1] == ("a", f"n{number}", number), "the last value at least"
    assert path.stat().st_mode == mode
