"""The doors: where clients come in, and how many may be inside at once.

Every connection takes a descriptor, and libzmq ends the process where none is left for the next. So those
who come and go are counted, as the monitors of the sockets tell (zmq_socket_monitor(3)). While more than
`most` are inside all doors are shut, and whoever comes waits in the kernel's queue. Room is made at the
expense of the user with most connections: the process of theirs with most loses its oldest. All who come over
TCP count as one user, and a host as a process. So a crowd keeps nobody else out, and whoever had to go may
come again at once.
"""

import logging
import os
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import zmq

from . import sockets

logger = logging.getLogger("fetchd")

AT_ONCE = 500
"""Who come and go, counted in one turn at one door."""

AWAY = 50
"""Connections that are ended in one turn."""

FULL = 1 << 15
"""Bytes that a peer has not read. With a quarter of net.core.wmem_default (212,992) libzmq begins to wait."""

QUIET = 60.0
"""Seconds between two words in the log about a crowd."""


class Guest(NamedTuple):
    """Who is at the other end of connections: a user and one of their processes, or `tcp` and a host."""

    party: str
    source: str


NOBODY = Guest("", "")
"""Somebody who went before we looked."""


class Watcher(Protocol):
    """Calls back when a socket can be read, as the loop does."""

    def add(self, source: Any, callback: Callable[[], None]) -> None: ...

    def remove(self, source: Any) -> None: ...


class _Place:
    """Where a door listens. libzmq accepts from a descriptor of its own, and would end all connections if it
    were told to stop: it goes on, and what the descriptor stands for changes."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.accepting = os.dup(listener.fileno())
        self.tried = False
        self.open = True

    def admit(self, wall: socket.socket, *, yes: bool) -> None:
        """Until somebody has come in, libzmq may still be about to look what it accepts from."""
        if yes != self.open and self.tried:
            os.dup2((self.listener if yes else wall).fileno(), self.accepting, inheritable=False)
            self.open = yes


class Door:
    """A public socket and where it listens; `Doors.make` makes it."""

    def __init__(self, doors: "Doors", public: Any) -> None:
        self._doors = doors
        self._places: dict[bytes, _Place] = {}
        self._inside: dict[int, Guest] = {}
        self._unread: dict[int, int] = {}
        self._behind = False
        self._cleanup = ExitStack()
        self.socket = public
        self.news = self._monitor()

    def listen(self, path: Path, passed: int | None = None) -> str:
        """Listen at an ipc path; `passed` is a descriptor that does so already. The endpoint."""
        listener = self._cleanup.enter_context(sockets.listener(path, passed))
        if passed is None:
            self._cleanup.callback(path.unlink, missing_ok=True)
        endpoint = f"ipc://{path}"
        self.bind(listener, endpoint)
        return endpoint

    def bind(self, listener: socket.socket, endpoint: str) -> None:
        """Listen at an endpoint by a socket that stays the caller's."""
        listener.setblocking(False)
        listener.listen(min(sockets.BACKLOG, self._doors.most))
        place = _Place(listener)
        self.socket.setsockopt(zmq.USE_FD, place.accepting)
        self.socket.bind(endpoint)
        self._places[endpoint.partition(":")[0].encode()] = place

    def admit(self, yes: bool) -> None:
        """Let in who waits and who comes, as long as their number is known; or nobody."""
        for place in self._places.values():
            place.admit(self._doors.wall, yes=yes and not self._behind)

    def take(self) -> None:
        """Count who came and went."""
        for _ in range(AT_ONCE):
            try:
                news, endpoint = self.news.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            event, fd = struct.unpack("=Hi", news)
            if fd in self._inside:
                self._doors.left(self._inside.pop(fd), (self, fd))
            if event == zmq.EVENT_ACCEPTED:
                if (place := self._places.get(endpoint.partition(b":")[0])) is not None:
                    place.tried = True
                self._inside[fd] = self._look(fd)
                self._doors.came(self._inside[fd], (self, fd))
        # while there is more to count nobody comes in, and with nothing to count nobody would open again
        self._behind = bool(self.news.getsockopt(zmq.EVENTS) & zmq.POLLIN)
        self._doors.settle()

    def look(self) -> None:
        """End connections in whose buffers there is as much as at the last look: they are not read any more.

        libzmq would not notice where they are full: its PING waits behind what cannot be written.
        """
        unread = {fd: count for fd in self._inside if (count := sockets.queued(fd, termios.TIOCOUTQ)) > FULL}
        for fd, count in unread.items():
            if count == self._unread.get(fd):
                self.send_away(fd)
        self._unread = unread

    def end_senders(self) -> int:
        """End the connections of those who have sent much that we have not taken yet; how many these are."""
        sending = [fd for fd in self._inside if sockets.queued(fd, termios.FIONREAD) >= sockets.MUCH]
        for fd in sending:
            self.send_away(fd)
        return len(sending)

    def send_away(self, fd: int) -> None:
        """End a connection."""
        self._look(fd, end=self._inside[fd])

    def close(self) -> None:
        """End all connections and listen no more; whoever listens there, too, goes on."""
        for fd, guest in self._inside.items():
            self._doors.left(guest, (self, fd))
        self._doors.closed(self)
        self._behind = False
        self.admit(True)  # what libzmq has to know again before it can close it
        self.socket.monitor(None, 0)
        self.news.close(0)
        self.socket.close(0)
        self._cleanup.close()

    def _monitor(self) -> Any:
        """Where libzmq tells who comes and goes. It would wait for a queue that is full, so none is."""
        name = f"inproc://news-{id(self)}"
        self.socket.monitor(name, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        news = self.socket.context.socket(zmq.PAIR)
        news.setsockopt(zmq.RCVHWM, 0)
        news.connect(name)
        return news

    def _look(self, fd: int, end: Guest | None = None) -> Guest:
        """Who is connected at a descriptor of libzmq's. If it is `end`, end the connection."""
        if (peer := sockets.copied(fd)) is None:
            return NOBODY
        with peer, suppress(OSError):
            if not any(_came_by(peer, place.listener) for place in self._places.values()):
                return NOBODY
            guest = _guest(peer)
            if guest == end:
                peer.shutdown(socket.SHUT_RDWR)
            return guest
        return NOBODY


Connection = tuple[Door, int]
"""The door that it came by, and its descriptor."""


class Doors:
    """All doors together, those behind a file in `directory`. `count` includes who is about to go."""

    def __init__(self, context: "zmq.Context[Any]", watcher: Watcher, directory: Path, most: int) -> None:
        self._context = context
        self._watcher = watcher
        self._doors: list[Door] = []
        self._of: dict[Guest, dict[Connection, None]] = {}
        self._of_party: Counter[str] = Counter()
        self._told = -QUIET
        self.most = most
        self.count = 0
        self.wall = _wall(directory)

    def close(self) -> None:
        """When all doors are closed."""
        self.wall.close()

    def make(self, kind: int, domain: bytes, options: Mapping[Any, int]) -> Door:
        """A door for a socket as `sockets.public` makes it; it does not listen yet."""
        door = Door(self, sockets.public(self._context, kind, domain, options))
        self._doors.append(door)
        self._watcher.add(door.news, door.take)
        return door

    def look(self) -> None:
        """To be called every minute: end the connections of those who have stopped reading."""
        for door in self._doors:
            door.look()

    def end_senders(self) -> int:
        """End the connections of those who are sending much now. Honest ones connect and ask again."""
        return sum(door.end_senders() for door in self._doors)

    def closed(self, door: Door) -> None:
        """This door is no more."""
        self._watcher.remove(door.news)
        self._doors.remove(door)
        self.settle()

    def came(self, guest: Guest, connection: Connection) -> None:
        """A connection more."""
        self.count += 1
        self._of.setdefault(guest, {})[connection] = None
        self._of_party[guest.party] += 1
        if self.count > self.most:
            for door in self._doors:
                door.admit(False)

    def left(self, guest: Guest, connection: Connection) -> None:
        """A connection less."""
        self.count -= 1
        self._strike(guest, connection)

    def settle(self) -> None:
        """Make room where there is none, and let in who waits where there is."""
        over = self._of_party.total() - self.most
        if over > 0:
            self._tell()
        for _ in range(min(over, AWAY)):
            self._send_away()
        for door in self._doors:
            door.admit(self.count <= self.most)

    def _send_away(self) -> None:
        ((party, _),) = self._of_party.most_common(1)
        theirs = (guest for guest in self._of if guest.party == party)
        guest = max(theirs, key=lambda each: len(self._of[each]))
        door, fd = connection = next(iter(self._of[guest]))
        self._strike(guest, connection)
        door.send_away(fd)

    def _strike(self, guest: Guest, connection: Connection) -> None:
        """It is about to go, or has gone."""
        if connection in self._of.get(guest, ()):
            del self._of[guest][connection]
            if not self._of[guest]:
                del self._of[guest]
            self._of_party[guest.party] -= 1
            if not self._of_party[guest.party]:
                del self._of_party[guest.party]

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= QUIET:
            self._told = now
            ((party, count),) = self._of_party.most_common(1)
            logger.warning(
                "more than %d connections, %d of %s: who has most loses the oldest", self.most, count, party
            )


def _came_by(peer: socket.socket, listener: socket.socket) -> bool:
    """Whether a connection was made where this one listens: at the path or port."""
    if peer.family != listener.family:
        return False
    if peer.family == socket.AF_UNIX:
        return bool(peer.getsockname() == listener.getsockname())
    return bool(peer.getsockname()[1] == listener.getsockname()[1])


def _guest(peer: socket.socket) -> Guest:
    """Who has connected. OSError where they have gone."""
    if peer.family != socket.AF_UNIX:
        return Guest("tcp", peer.getpeername()[0])
    pid, uid = sockets.peer_of(peer)
    return Guest(f"uid:{uid}", str(pid))


def _wall(directory: Path) -> socket.socket:
    """Where nobody can come: a socket that listens and has no name."""
    path = directory / "wall"
    made = sockets.listener(path)
    path.unlink()
    made.setblocking(False)
    made.listen(0)
    return made
