"""Our own memory: whose message it is that does not end."""

import mmap
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.wait import read_line

from fetchd.daemon.router import growth
from fetchd.daemon.router.growth import Growth, memory, senders
from fetchd.daemon.router.loop import Loop
from fetchd.daemon.service import sockets

MIB = 1 << 20
SEND = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(bytes(int(sys.argv[2])))
print(flush=True)
sys.stdin.read()
"""

Sender = Callable[[int], int]


class Box:
    """A mailbox that was heard at some time."""

    heard = 1
    busy = False


class Field:
    """Two workers' mailboxes, and who was ended."""

    def __init__(self) -> None:
        self.boxes = {(0, 1): Box(), (1, 1): Box()}
        self.processes = {(0, 1): 0, (1, 1): 0}
        self.ended: list[int] = []
        self.loop = Loop()
        self.growth = Growth(self.loop, self.boxes)
        self.growth.pids = lambda: self.processes
        self.growth.over = lambda slot, _incarnation: self.ended.append(slot)
        self.growth.look()

    def take(self, size: int) -> mmap.mmap:
        """Grow by so many bytes, and look."""
        before = memory()
        taken = mmap.mmap(-1, size)
        for page in range(0, size, mmap.PAGESIZE):
            taken[page] = 1
        assert memory() - before > size * 0.9
        self.growth.look()
        return taken


@pytest.fixture
def field(monkeypatch: pytest.MonkeyPatch) -> Field:
    monkeypatch.setattr(growth, "STEP", 16 * MIB)
    monkeypatch.setattr(growth, "FAR", 64 * MIB)
    return Field()


@pytest.fixture
def sender(downloads: Path) -> Iterator[Sender]:
    """Starts processes that have sent so many bytes which nobody takes. Their numbers."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(downloads / "listener"))
        listener.listen()

        def start(size: int) -> int:
            process = subprocess.Popen(
                [sys.executable, "-c", SEND, downloads / "listener", str(size)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(process)
            stack.enter_context(listener.accept()[0])
            assert process.stdout is not None
            read_line(process.stdout.fileno(), 10)
            return process.pid

        yield start


def test_who_sends(sender: Sender) -> None:
    much, little = sender(sockets.MUCH), sender(sockets.MUCH - 1)
    assert much in senders()
    assert little not in senders()


def test_the_one_that_sends_is_ended(field: Field, sender: Sender) -> None:
    field.processes = {(0, 1): sender(10), (1, 1): sender(50_000)}
    first = field.take(8 * MIB)
    assert not field.ended
    second = field.take(16 * MIB)
    assert field.ended == [1], "not the other, though it was silent as long"
    field.growth.look()
    assert field.ended == [1], "it is on its way out"
    assert len(first) + len(second) == 24 * MIB


def test_a_whole_message_counts_anew(field: Field, sender: Sender) -> None:
    field.processes = {(0, 1): sender(50_000), (1, 1): sender(50_000)}
    first = field.take(12 * MIB)
    field.boxes[0, 1].heard = 2
    second = field.take(12 * MIB)
    assert field.ended == [1]
    assert len(first) + len(second) == 24 * MIB


def test_nobody_is_seen_to_send(field: Field, sender: Sender) -> None:
    sender(50_000)  # a client, say
    field.boxes[0, 1].heard = 7
    first = field.take(48 * MIB)
    assert not field.ended
    second = field.take(48 * MIB)
    assert field.ended == [1], "silent the longest"
    assert len(first) + len(second) == 96 * MIB


def test_what_has_come_back_does_not_count(field: Field, sender: Sender) -> None:
    field.processes = {(0, 1): sender(50_000), (1, 1): 0}
    first = field.take(17 * MIB)
    assert field.ended == [0]
    first.close()
    field.growth.look()
    second = field.take(17 * MIB)
    assert field.ended == [0, 0], "since then"
    second.close()


def test_it_looks_often_while_somebody_is_busy(field: Field) -> None:
    field.boxes[0, 1].busy = True
    field.growth.begin()
    field.growth.begin()
    looks = []
    field.growth.look = lambda: looks.append(len(looks))  # type: ignore[method-assign]
    while len(looks) < 3:
        field.loop.turn(field.loop._timeout())
        field.boxes[0, 1].busy = len(looks) < 2
    assert not field.loop._timers, "nobody is busy"


def test_it_goes_on_without_descriptors(field: Field) -> None:
    field.boxes[0, 1].busy = True
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = os.open(os.devnull, os.O_RDONLY)
    os.close(unused)
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused, before[1]))
    try:
        field.growth._go_on()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert field.loop._timers, "it looks again"
