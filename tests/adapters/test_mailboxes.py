"""Mailboxes and who may connect: whatever a worker or a stranger sends, the supervisor goes on."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wait import Deadline

from fetchd.daemon.core import inputs
from fetchd.daemon.router.access import Access, Who
from fetchd.daemon.router.loop import Loop, boot_time
from fetchd.daemon.router.mailbox import Mailboxes
from fetchd.daemon.router.zap import Authorizer
from fetchd.protocol.codec import MAX_MESSAGE, encode
from fetchd.protocol.mailbox import Admitted, Arrived, Assign, Beat, Leave, Locked, Progressed, Validator

SECRET = "0123456789abcdef"
PROGRESS = Progressed(job="job", attempt=1, bytes=5, total=None, speed=1.0)

TASK = Assign(
    job="j", attempt=1, workspace="", url="", headers={}, checksum=None, generation=0, have=[],
    validator=Validator(), total=None, connect_timeout=1.0, read_timeout=1.0,
)  # fmt: skip


class Post:
    """Real mailboxes on a real loop, and what they have heard."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.loop = Loop()
        self.boxes = Mailboxes(self.context, self.loop, directory)
        self.access = Access(lambda pid: pid in self.workers)
        self.authorizer = Authorizer(self.context, self.access)
        self.loop.add(self.authorizer.socket, self.authorizer.take)
        self.workers: set[int] = set()
        self.heard: list[object] = []
        self.boxes.arrived = lambda slot, incarnation, layers: self.heard.append(
            ("arrived", slot, incarnation)
        )
        self.boxes.reported = lambda _slot, _incarnation, report: self.heard.append(report)
        self.boxes.hung = lambda slot, incarnation: self.heard.append(("hung", slot, incarnation))
        self.boxes.feed = self.heard.append
        self.peers: list[zmq.Socket[bytes]] = []

    def peer(self, endpoint: str, *messages: object) -> "zmq.Socket[bytes]":
        """Somebody who connects and says this."""
        socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.connect(endpoint)
        self.peers.append(socket)
        for message in messages:
            self.say(socket, message)
        return socket

    @staticmethod
    def say(socket: "zmq.Socket[bytes]", message: object) -> None:
        if isinstance(message, list):
            socket.send_multipart(message)
        else:
            socket.send(message if isinstance(message, bytes) else encode(message))

    def worker(self, slot: int = 0, incarnation: int = 1, *, busy: bool = True) -> "zmq.Socket[bytes]":
        """A worker that has locked its room, and has an attempt in hand unless it is not to be busy."""
        endpoint = self.boxes.open(slot, incarnation, SECRET)
        socket = self.peer(endpoint, Arrived(secret=SECRET), Locked(layers={}))
        self.until(lambda: ("arrived", slot, incarnation) in self.heard)
        self.heard.clear()
        assert socket.recv() == encode(Admitted())
        if busy:
            self.boxes.send(slot, incarnation, TASK)
            assert socket.recv() == encode(TASK)
        return socket

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = Deadline(10)
        while not condition():
            self.loop.turn(min(0.5, deadline.left("the mailbox")))

    def settle(self, socket: "zmq.Socket[bytes]") -> None:
        """Until everything that the worker has said before is heard."""
        mark = Progressed(job="mark", attempt=1, bytes=0, total=None, speed=None)
        self.say(socket, mark)
        self.until(lambda: mark in self.heard)
        self.heard.remove(mark)

    def close(self) -> None:
        for socket in self.peers:
            socket.close(0)
        self.boxes.close_all()
        self.authorizer.close()
        self.context.destroy(0)


@pytest.fixture
def post(downloads: Path) -> Iterator[Post]:
    made = Post(downloads)
    yield made
    made.close()


def violations(post: Post) -> list[object]:
    return [entry for entry in post.heard if isinstance(entry, inputs.Violation)]


def test_a_worker_speaks_and_is_spoken_to(post: Post) -> None:
    worker = post.worker()
    post.say(worker, PROGRESS)
    post.until(lambda: post.heard == [PROGRESS])
    post.say(worker, Beat())
    post.settle(worker)
    assert post.heard == [PROGRESS]
    post.boxes.send(0, 1, Leave())
    assert worker.recv() == encode(Leave())
    post.boxes.send(0, 2, Leave())
    post.boxes.send(7, 1, Leave())


def test_only_the_secret_makes_a_worker(post: Post) -> None:
    """And who has not got it does no harm to the one who has: nothing that it says counts."""
    endpoint = post.boxes.open(0, 1, SECRET)
    wrong = [
        *(Arrived(secret=secret) for secret in ("wrong", "", "\u00e9", SECRET + "x")),
        PROGRESS, Beat(), b"", b"\xc1rubbish", [b"two", b"frames"], [encode(PROGRESS)] * 50,
    ]  # fmt: skip
    for message in wrong:
        post.peer(endpoint, message)
    post.peer(endpoint, Arrived(secret=SECRET), Locked(layers={}))
    post.until(lambda: ("arrived", 0, 1) in post.heard)
    assert post.heard == [("arrived", 0, 1)]


def test_a_stranger_cannot_have_a_worker_killed(post: Post) -> None:
    worker = post.worker()
    endpoint = f"ipc://{post.boxes._boxes[0, 1].path}"
    stranger = post.peer(endpoint)
    for message in (PROGRESS, Arrived(secret="x"), b"\xc1", [b"a", b"b", b"c"]):
        post.say(stranger, message)
    post.peer(endpoint, Arrived(secret=SECRET))
    for _ in range(20):
        post.settle(worker)
    assert post.heard == []


@pytest.mark.parametrize(
    "message",
    [
        Arrived(secret=SECRET),
        Locked(layers={}),
        b"",
        b"\xc1",
        b"\x80",
        [b"two", b"frames"],
        encode({"t": "progressed", "job": "j", "attempt": 1, "bytes": -1, "total": None, "speed": None}),
        encode({"t": "progressed", "job": "j", "attempt": 1, "bytes": 2**60, "total": None, "speed": None}),
        encode({"t": "progressed", "job": "j", "attempt": 1, "bytes": 1, "total": None, "speed": -1.0}),
        encode({"t": "assign"}),
        encode({"t": "failed", "job": "j", "attempt": 1, "code": "x", "message": "x" * 3000, "bytes": 0}),
        encode({"t": "synced", "job": "j", "attempt": 1, "generation": 0, "ranges": [[0, 1]] * 2000}),
        b"\x91" * 5000,
    ],
    ids=[
        "a second arrival", "locked twice", "empty", "rubbish", "no type", "two frames", "negative",
        "too large", "slow", "a message for workers", "a long text", "many ranges", "deep",
    ],
)  # fmt: skip
def test_what_a_worker_may_not_say(post: Post, message: object) -> None:
    worker = post.worker()
    post.say(worker, message)
    post.until(lambda: bool(post.heard))
    assert [type(entry) for entry in post.heard] == [inputs.Violation]
    assert (post.heard[0].slot, post.heard[0].incarnation) == (0, 1)  # type: ignore[attr-defined]


def test_hostile_reports_never_raise(post: Post) -> None:
    worker = post.worker()

    @settings(max_examples=300, deadline=None)
    @given(
        st.binary(max_size=100)
        | st.dictionaries(
            st.sampled_from(["t", "job", "attempt", "bytes", "total", "speed", "secret", "layers", "code"]),
            st.sampled_from(["arrived", "beat", "failed", "\u00e9", 1, 1.5, -1, 2**53, None, True, [], {}]),
        ).map(encode)
    )
    def check(payload: bytes) -> None:
        post.heard.clear()
        post.say(worker, payload)
        post.settle(worker)
        assert len(post.heard) <= 1

    check()


def test_a_report_that_is_too_large_ends_the_connection(post: Post) -> None:
    worker = post.worker()
    other = post.worker(slot=1)
    post.say(worker, bytes(MAX_MESSAGE + 1))
    post.say(worker, PROGRESS)
    for _ in range(5):
        post.settle(other)
    assert PROGRESS not in post.heard


def test_a_flood_leaves_the_others_their_turn(post: Post) -> None:
    noisy, quiet = post.worker(), post.worker(slot=1)
    for _ in range(900):
        noisy.send(encode(Beat()), zmq.NOBLOCK)
    post.say(quiet, PROGRESS)
    post.until(lambda: PROGRESS in post.heard)


def test_a_mailbox_that_cannot_be_made_is_an_error_of_the_system(post: Post, downloads: Path) -> None:
    (downloads / "w3-1").mkdir()
    with pytest.raises(OSError, match=r"\w+") as caught:
        post.boxes.open(3, 1, SECRET)
    assert caught.value.errno
    (downloads / "w3-1").rmdir()


# silence


def test_silence_is_found(post: Post) -> None:
    post.boxes.hang_timeout = 200_000
    post.worker()
    box = post.boxes._boxes[0, 1]
    box.needs = 0
    post.boxes.watch()
    post.until(lambda: ("hung", 0, 1) in post.heard)


def test_a_worker_that_shows_that_it_lives_is_let_live(post: Post) -> None:
    """Also where the time was made shorter since it was told how often to: it keeps to what it was told."""
    assert post.boxes.beat == 5.0
    post.worker()
    post.boxes.hang_timeout = 1_000_000
    box = post.boxes._boxes[0, 1]
    box.heard = boot_time() - 14_000_000
    post.boxes.look_for_hung()
    assert post.heard == []
    box.heard = boot_time() - 16_000_000
    post.boxes.look_for_hung()
    assert post.heard == [("hung", 0, 1)]
    assert post.boxes.beat < 0.2


@pytest.mark.parametrize(("away", "hung"), [(600, False), (1, True)])
def test_time_in_which_the_loop_did_not_turn_counts_for_nobody(post: Post, away: int, hung: bool) -> None:
    """A machine that slept for ten minutes has not heard anybody, and nobody is to blame."""
    post.worker()
    now = boot_time()
    box = post.boxes._boxes[0, 1]
    box.heard = now - max(31, away) * 1_000_000
    post.boxes._looked = now - away * 1_000_000
    post.boxes.look_for_hung()
    assert (post.heard == [("hung", 0, 1)]) is hung


# who may connect

CLIENT = """
import os, sys, zmq
endpoint, uid, message = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
context = zmq.Context()
if uid:
    os.setgid(uid)
    os.setuid(uid)
socket = context.socket(zmq.DEALER)
socket.setsockopt(zmq.LINGER, 0)
socket.setsockopt(zmq.HANDSHAKE_IVL, 1000)
socket.connect(endpoint)
socket.send(message)
print("said", flush=True)
sys.stdin.read()
socket.close()
context.term()
"""


@pytest.fixture
def listen(post: Post, downloads: Path) -> Iterator[Callable[[bytes], "zmq.Socket[bytes]"]]:
    made: list[zmq.Socket[bytes]] = []
    downloads.chmod(0o755)

    def listen(domain: bytes) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = post.context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain)
        socket.bind(f"ipc://{downloads}/door")
        (downloads / "door").chmod(0o777)
        made.append(socket)
        return socket

    yield listen
    for socket in made:
        socket.close(0)


def heard_from(post: Post, door: "zmq.Socket[bytes]", uid: int, *, worker: bool) -> str | None:
    """The user that a process counts as, or None where its message does not come."""
    endpoint = door.LAST_ENDPOINT
    name = endpoint.decode() if isinstance(endpoint, bytes) else str(endpoint)
    verdicts: list[Who | None] = []
    real = post.access.connects

    def noting(domain: str, address: str, key: str) -> Who | None:
        if worker:
            post.workers.add(int(address.split(":")[3]))
        verdicts.append(real(domain, address, key))
        return verdicts[-1]

    post.access.connects = noting  # type: ignore[method-assign]
    command = [sys.executable, "-c", CLIENT, name.rstrip("\0"), str(uid), "hello"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        found: list[str] = []

        def look() -> bool:
            try:
                frames = door.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None in verdicts
            found.append(str(frames[-1].get("User-Id")))
            return True

        post.loop.add(door, lambda: None)
        post.until(look)
        post.loop.remove(door)
        assert not door.poll(200), "a message of somebody who was refused"
        assert process.stdin is not None
        process.stdin.close()
        process.kill()
    return found[0] if found else None


@pytest.mark.parametrize("domain", [b"control", b"events", b"reader", b"mailbox"])
def test_our_own_user_is_let_in(
    post: Post, listen: Callable[[bytes], "zmq.Socket[bytes]"], domain: bytes
) -> None:
    assert heard_from(post, listen(domain), 0, worker=False) == f"uid:{os.geteuid()}"


@pytest.mark.parametrize(
    ("domain", "let_in"), [(b"control", False), (b"events", False), (b"reader", False), (b"mailbox", True)]
)
def test_our_own_workers_are_no_clients(
    post: Post, listen: Callable[[bytes], "zmq.Socket[bytes]"], domain: bytes, let_in: bool
) -> None:
    """Nor are they the reading helper, whose answers would be believed."""
    heard = heard_from(post, listen(domain), 0, worker=True)
    assert (heard is not None) == let_in


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("domain", [b"control", b"mailbox"])
def test_other_users_are_kept_out(
    post: Post, listen: Callable[[bytes], "zmq.Socket[bytes]"], domain: bytes
) -> None:
    assert heard_from(post, listen(domain), 65534, worker=False) is None


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "localhost:x:0:1", "localhost:0:0", "a:b:c:d:e", "::::"]
)
def test_addresses_that_say_nothing(post: Post, address: str) -> None:
    assert post.access.connects("control", address) is None
