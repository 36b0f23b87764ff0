"""Who comes in by the doors, who has to go, who waits: with real peers, some in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq
from support import zmtp
from support.person import IS_ROOT, NEEDED
from support.tmp import TempDir
from support.wait import Deadline, read_line

from fetchd.daemon.router.access import Access
from fetchd.daemon.router.loop import Loop
from fetchd.daemon.router.zap import Authorizer
from fetchd.daemon.service import doors
from fetchd.daemon.service.doors import Door, Doors

MOST = 20
STRANGER = 65534
FILL = 5000
"""Messages of 1,000 bytes that do not fit into the buffers of a connection."""

CROWD = """
import os, socket, sys
os.setuid(int(sys.argv[3]))
crowd = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for each in crowd:
    each.connect(sys.argv[1])
    each.setblocking(False)
print("there", flush=True)
for line in sys.stdin:
    left = 0
    for each in crowd:
        try:
            while each.recv(65536):
                pass
        except BlockingIOError:
            left += 1
        except ConnectionError:
            pass
    print(left, flush=True)
"""
"""A process of a user with so many connections that say nothing. For each line it says how many are left."""

STOPPED = """
import sys, zmq
subscriber = zmq.Context().socket(zmq.SUB)
subscriber.rcvhwm = 1
subscriber.subscribe(b"")
subscriber.connect("ipc://" + sys.argv[1])
subscriber.recv()
print("there", flush=True)
sys.stdin.read()
"""
"""A subscriber that has heard one message."""


class House:
    """Doors with room for few, their loop, and whoever comes."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        directory = self._stack.enter_context(TempDir())
        self.path = directory / "door"
        self.context: zmq.Context[Any] = zmq.Context()
        self._stack.callback(self.context.destroy, 0)
        self.loop = Loop()
        authorizer = Authorizer(self.context, Access(lambda _pid: False))
        self._stack.callback(authorizer.close)
        self.loop.add(authorizer.socket, authorizer.take)
        self.doors = Doors(self.context, self.loop, directory, MOST)
        self._stack.callback(self.doors.close)

    def door(self, kind: int = zmq.ROUTER, **options: int) -> Door:
        """A door that does not mind who says nothing. An XPUB answers subscriptions."""
        chosen = {zmq.HANDSHAKE_IVL: 0, **{getattr(zmq, name): value for name, value in options.items()}}
        domain = b"events" if kind == zmq.XPUB else b"control"
        made = self.doors.make(kind, domain, chosen)
        made.listen(self.path)
        self._stack.callback(self.shut, made)
        answer = made.socket.send if kind == zmq.XPUB else lambda _frame: None
        self.loop.add(made.socket, lambda: answer(made.socket.recv(zmq.NOBLOCK)))
        return made

    def shut(self, door: Door) -> None:
        """Close a door, once."""
        if not door.socket.closed:
            self.loop.remove(door.socket)
            door.close()

    def guest(self) -> socket.socket:
        """Somebody who connects, as soon as there is room in the queue, and says nothing."""
        made = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        made.setblocking(False)
        self.until(lambda: made.connect_ex(str(self.path)) == 0, "a place in the queue")
        return made

    def process(self, program: str, *arguments: object) -> "subprocess.Popen[bytes]":
        """A process of ours; it will say something when it has got so far."""
        made = subprocess.Popen(
            [sys.executable, "-c", program, str(self.path), *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._stack.callback(made.communicate)
        self._stack.callback(made.kill)
        return made

    def crowd(self, count: int, user: int = os.getuid()) -> "subprocess.Popen[bytes]":
        """A process with so many silent connections, all of them made."""
        made = self.process(CROWD, count, user)
        self.line(made)
        return made

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Turn until it is so."""
        deadline = Deadline(20)
        while not condition():
            self.loop.turn(deadline.left(what))

    def hears(self, fd: int) -> None:
        """Turn until a descriptor can be read."""
        heard: list[int] = []
        self.loop.add(fd, lambda: heard.append(fd))
        self.until(lambda: bool(heard), "something to read")
        self.loop.remove(fd)

    def line(self, process: "subprocess.Popen[bytes]") -> bytes:
        """What a process says next; turn until then."""
        assert process.stdout is not None
        self.hears(process.stdout.fileno())
        return read_line(process.stdout.fileno(), 20).strip()

    def full(self) -> socket.socket:
        """Everybody who has come so far has been counted, and there is no more than there may be.

        They came in before a guest of ours that hears its greeting.
        """
        last = self.guest()
        self.hears(last.fileno())
        self.until(lambda: self.doors.count == MOST, "a house that is full")
        return last

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def is_open(peer: socket.socket) -> bool:
    """Whether a connection has not been ended; what was said on it is forgotten."""
    peer.setblocking(False)
    try:
        while peer.recv(65536):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    return False


def test_as_much_news_as_is_taken_in_one_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last of it the door is open again, although nothing more comes."""
    monkeypatch.setattr(doors, "AT_ONCE", 1)
    house.door()
    house.guest()
    house.until(lambda: house.doors.count == 1, "the first")
    house.guest()
    house.until(lambda: house.doors.count == 2, "the second")


def test_who_comes_and_goes_is_counted(house: House) -> None:
    house.door()
    guests = [house.guest() for _ in range(5)]
    house.until(lambda: house.doors.count == 5, "five guests")
    for guest in guests[1:]:
        guest.close()
    house.until(lambda: house.doors.count == 1, "one guest")
    assert is_open(guests[0])


def test_the_oldest_makes_room(house: House) -> None:
    house.door()
    guests = [house.guest() for _ in range(MOST)]
    house.until(lambda: house.doors.count == MOST, "a full house")
    guests.append(house.guest())
    house.until(lambda: not is_open(guests[0]), "the end of the oldest")
    house.until(lambda: house.doors.count == MOST, "room")
    assert all(map(is_open, guests[1:]))


@pytest.mark.parametrize("first", ["ours", "the crowd"])
def test_a_crowd_makes_room_for_everybody_else(house: House, first: str) -> None:
    """It may be much larger than the house: of other processes of its user every connection stays."""
    house.door()
    crowd = [house.crowd(MOST * 20)] if first == "the crowd" else []
    ours = house.crowd(4)
    crowd = crowd or [house.crowd(MOST * 20)]
    last = house.full()
    assert ours.stdin is not None
    ours.stdin.write(b"\n")
    ours.stdin.flush()
    assert house.line(ours) == b"4"
    assert is_open(last)


@pytest.mark.skipif(not IS_ROOT, reason=NEEDED)
def test_another_user_is_not_in_the_way(house: House) -> None:
    """The user with most connections makes room, even if one process of ours has more than each of theirs."""
    house.door()
    house.path.parent.chmod(0o711)
    house.path.chmod(0o666)
    ours = [house.guest() for _ in range(6)]
    for _ in range(5):
        house.crowd(5, STRANGER)
    last = house.full()
    assert all(map(is_open, [*ours, last]))


def test_a_crowd_over_tcp_is_in_nobodys_way(house: House) -> None:
    """All who come over TCP are one user; the oldest of a host make room for the newest."""
    door = house.door()
    ours = [house.guest() for _ in range(MOST // 2 - 1)]
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        where = listener.getsockname()
        door.bind(listener, f"tcp://127.0.0.1:{where[1]}")
        far = []
        for _ in range(2 * MOST):
            far.append(stack.enter_context(socket.create_connection(where)))
            house.hears(far[-1].fileno())
        ours.append(house.full())
        assert all(map(is_open, ours))
        assert not is_open(far[0])
        assert is_open(far[-1])


def test_who_waits_comes_in_when_there_is_room(house: House) -> None:
    door = house.door()
    first = house.guest()
    house.until(lambda: house.doors.count == 1, "the first")
    door.admit(False)
    waiting = [house.guest() for _ in range(3)]
    first.close()
    house.until(lambda: house.doors.count == 0, "the end of the first")
    assert house.doors.count == 0
    house.until(lambda: house.doors.count == 3, "those who waited")
    assert all(map(is_open, waiting))


def test_a_door_that_closes_makes_room(house: House) -> None:
    """Even if who was sent away has not gone before."""
    closing = house.door()
    guests = [house.guest() for _ in range(MOST)]
    house.until(lambda: house.doors.count == MOST, "a full house")
    path = house.path
    house.path = path.with_name("other")
    house.door()
    guests.append(house.guest())
    house.until(lambda: house.doors.count == MOST and not is_open(guests[0]), "a guest at the other door")
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(path))
        assert closing.news.poll(20_000)
        closing.take()
        assert house.doors.count == MOST + 1
        house.shut(closing)
    house.guest()
    house.until(lambda: house.doors.count == 2, "another guest at the other door")


def test_a_guest_who_has_said_too_much_has_gone_when_they_go(house: House) -> None:
    """Nothing that a second peer of one identity says is ever taken, and where libzmq has no room for it, it
    would not notice that the peer has gone, and end the process when its PING is due."""
    house.door(HEARTBEAT_IVL=0)
    for _ in range(2):
        twin = house.guest()
        twin.sendall(zmtp.GREETING + zmtp.ready(b"DEALER", b"twin"))
        heard = b""
        while b"READY" not in heard:
            house.hears(twin.fileno())
            heard += twin.recv(1000)
        twin.sendall(b"\x00\x01x" * 5000)
    house.until(lambda: house.doors.count == 2, "two guests")
    twin.close()
    house.until(lambda: house.doors.count == 1, "the end of the second")


def test_a_silent_peer_is_dropped(house: House) -> None:
    """One that has introduced itself and does not answer PING (RFC 37)."""
    house.door(HEARTBEAT_IVL=50, HEARTBEAT_TIMEOUT=100)
    peer = house.guest()
    peer.sendall(zmtp.GREETING + zmtp.ready(b"DEALER"))
    house.until(lambda: house.doors.count == 1, "a guest")
    house.until(lambda: house.doors.count == 0, "its end")
    peer.settimeout(20)
    heard = b"".join(iter(lambda: peer.recv(1000), b""))
    assert b"\x04PING" in heard


@pytest.mark.parametrize("full", [False, True])
def test_a_stopped_subscriber_is_dropped_with_its_queue(house: House, full: bool) -> None:
    """By PING; and where a PING would have to wait behind what cannot be written, by looking twice."""
    beats = {} if full else {"HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 100}
    door = house.door(zmq.XPUB, SNDHWM=2 * FILL, **beats)
    subscriber = house.process(STOPPED)
    house.line(subscriber)
    assert house.doors.count == 1
    subscriber.send_signal(signal.SIGSTOP)
    if full:
        for _ in range(FILL):
            door.socket.send(bytes(1000), zmq.NOBLOCK)
    deadline = Deadline(20)
    while house.doors.count:
        if full:
            house.doors.look()
        house.loop.turn(min(0.1, deadline.left("its end")))
