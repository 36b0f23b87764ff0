"""The memory of the supervisor, watched for a message that does not end: often while workers are busy.

libzmq keeps the frames of a message until the last one has come, tells nobody, and has no limit for all of
them together: ZMQ_MAXMSGSIZE is of one frame, ZMQ_RCVHWM counts whole messages (zmq_setsockopt(3)). So what
such a worker or a client may take is bounded by looking often, and not prevented.
"""

import contextlib
import ctypes
import logging
import os
import resource
import socket
import termios
from collections.abc import Callable, Mapping
from typing import Protocol

from fetchd.daemon.service import sockets

from .loop import Loop, boot_time

logger = logging.getLogger("fetchd")

STEP = 128 << 20
"""Bytes by which we may have grown since the last whole message of a worker that is sending much."""

FAR = 4 * STEP
"""The same where none is seen to send: then it is the one that was silent the longest."""

PERIOD = 100_000
"""µs between two looks while a worker is busy."""

LETTING_GO = 500_000
"""µs after which libzmq has freed what a worker sent that is gone."""

Key = tuple[int, int]


class Box(Protocol):
    """A mailbox as it is needed here."""

    @property
    def heard(self) -> int: ...
    @property
    def busy(self) -> bool: ...


class Growth:
    """`over(slot, incarnation)` hears of workers that have to end, `pids` are their processes.

    `end_clients` ends the connections of clients who are sending much now, and says how many these were.
    `let_go` is to give free memory back.
    """

    def __init__(self, loop: Loop, boxes: Mapping[Key, Box]) -> None:
        self._loop = loop
        self._boxes = boxes
        self._near = False
        self._levels: dict[Key, tuple[int, int]] = {}
        self._level = memory()
        self.end_clients: Callable[[], int] = lambda: 0
        self.let_go: Callable[[], None] = lambda: None
        self.over: Callable[[int, int], None]
        self.pids: Callable[[], Mapping[Key, int]]

    def begin(self) -> None:
        """A worker has got something to do: look often, until none is busy any more."""
        if not self._near:
            self._near = True
            self._loop.at(boot_time() + PERIOD, self._go_on)

    def _go_on(self) -> None:
        self._near = False
        if any(box.busy for box in self._boxes.values()):
            self.begin()
        self.look()

    def look(self) -> None:
        """End workers whose messages have become too large, and connections of clients who may send such."""
        try:
            now = memory()
        except OSError:
            return  # no descriptors: another time
        self._level = min(self._level, now)
        before, self._levels = self._levels, {}
        for key, box in self._boxes.items():
            heard, level = before.get(key, (None, now))
            self._levels[key] = (box.heard, min(level, now) if heard == box.heard else now)
        grown = {key: now - level for key, (_, level) in self._levels.items() if now - level > STEP}
        found: list[Key] = []
        if grown:
            sending, pids = senders(), self.pids()
            found = [key for key in grown if pids.get(key) in sending]
        if not found and not self._clients_sent(now) and max(grown.values(), default=0) > FAR:
            found = [min(grown, key=lambda key: self._levels[key])]
        if found:
            self._forgive(now)
        for key in found:
            text = "worker %d sends a message without end, and is ended: %d MiB"
            logger.warning(text, key[0], grown[key] >> 20, extra={"worker": key[0]})
            self.over(*key)

    def _clients_sent(self, now: int) -> bool:
        """Whether clients are sending while we grow. It is not known who has sent a whole message, so all of
        them have to connect anew. Where nobody is, we have grown for an honest reason."""
        grown = now - self._level
        if grown <= STEP:
            return False
        self._level = now
        ended = self.end_clients()
        if ended:
            self._forgive(now)
            logger.warning(
                "clients who send while we grow are cut off: %d of them, %d MiB", ended, grown >> 20
            )
        return bool(ended)

    def _forgive(self, now: int) -> None:
        """What somebody has taken comes back in a moment, and then is of no use to us."""
        self._loop.at(boot_time() + LETTING_GO, self.let_go)
        self._level = now
        self._levels = {key: (heard, now) for key, (heard, _) in self._levels.items()}


def memory() -> int:
    """Resident bytes of this process (proc(5))."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def give_back() -> None:
    """Give free memory back to the system, where the C library can (malloc_trim(3)). May take its time."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def senders() -> set[int]:
    """The processes on this machine that have sent much that we have not taken yet (unix(7))."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        ours = sockets.copied(int(name))
        if ours is None:
            continue
        # libzmq has the sockets, and may close them at any time
        with ours, contextlib.suppress(OSError):
            if (
                ours.family == socket.AF_UNIX
                and sockets.queued(ours.fileno(), termios.FIONREAD) >= sockets.MUCH
            ):
                found.add(sockets.peer_of(ours)[0])
    return found
