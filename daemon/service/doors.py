"""The doors: where clients come in, and how many may be inside at once.

Every connection takes a descriptor, and libzmq ends the process where none is left for the next. So those
who come and go are counted, as the monitors of the sockets tell (zmq_socket_monitor(3)). While more than
`most` are inside all doors are shut, and whoever comes waits in the kernel's queue. Room is made at the
expense of the user with most connections: the process of theirs with most loses its oldest. So a crowd keeps
nobody else out, and whoever had to go may come again at once.
"""

import fcntl
import logging
import os
import socket
import struct
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import zmq

from . import sockets

logger = logging.getLogger("fetchd")

BACKLOG = 1024
"""Connections that may wait at a door, at most."""

AT_ONCE = 500
"""Who come and go, counted in one turn at one door."""

AWAY = 50
"""Connections that are ended in one turn."""

FULL = 1 << 15
"""Bytes that a peer has not read. With a quarter of net.core.wmem_default (212,992) libzmq begins to wait."""

QUIET = 60.0
"""Seconds between two words in the log about a crowd."""


class Guest(NamedTuple):
    """Who is at the other end of connections."""

    user: int
    process: int


NOBODY = Guest(-1, -1)
"""Somebody who went before we looked."""


class Watcher(Protocol):
    """Calls back when a socket can be read, as the loop does."""

    def add(self, source: Any, callback: Callable[[], None]) -> None: ...

    def remove(self, source: Any) -> None: ...


class Door:
    """A public socket at an ipc path; `Doors.make` makes it."""

    def __init__(self, doors: "Doors", public: Any, path: Path, passed: int | None) -> None:
        self._doors = doors
        self._path = path
        self._passed = passed is not None
        self._listener = _listener(path) if passed is None else socket.socket(fileno=passed)
        self._listener.setblocking(False)
        self._listener.listen(min(BACKLOG, doors.most))
        self._inside: dict[int, Guest] = {}
        self._unread: dict[int, int] = {}
        self._tried = False
        self._open = True
        self._behind = False
        self.endpoint = f"ipc://{path}"
        self.socket = public
        self.news = self._monitor()
        # libzmq accepts from this descriptor. Told to stop it would end all connections: it goes on, and what
        # the descriptor stands for changes
        self._accepting = os.dup(self._listener.fileno())
        self.socket.setsockopt(zmq.USE_FD, self._accepting)
        self.socket.bind(self.endpoint)

    def admit(self, yes: bool) -> None:
        """Let in who waits and who comes, as long as their number is known; or nobody.

        Until somebody has come in, libzmq may still be about to look what it accepts from.
        """
        yes = yes and not self._behind
        if yes != self._open and self._tried:
            source = self._listener if yes else self._doors.wall
            os.dup2(source.fileno(), self._accepting, inheritable=False)
            self._open = yes

    def take(self) -> None:
        """Count who came and went."""
        self._behind = True
        for _ in range(AT_ONCE):
            try:
                event, fd = struct.unpack("=Hi", self.news.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                self._behind = False
                break
            if fd in self._inside:
                self._doors.left(self._inside.pop(fd), (self, fd))
            if event == zmq.EVENT_ACCEPTED:
                self._tried = True
                self._inside[fd] = self._look(fd)
                self._doors.came(self._inside[fd], (self, fd))
        self._doors.settle()

    def look(self) -> None:
        """End connections whose buffers have been full since the last look, and nothing of them was read.

        libzmq would not notice: its PING waits behind what cannot be written.
        """
        unread = {fd: count for fd in self._inside if (count := _unread(fd)) > FULL}
        for fd, count in unread.items():
            if count == self._unread.get(fd):
                self.send_away(fd)
        self._unread = unread

    def send_away(self, fd: int) -> None:
        """End a connection."""
        self._look(fd, end=self._inside[fd])

    def close(self) -> None:
        """End all connections and listen no more; where the service manager listens, too, it goes on."""
        for fd, guest in self._inside.items():
            self._doors.left(guest, (self, fd))
        self._doors.closed(self)
        self._behind = False
        self.admit(True)  # what libzmq has to know again before it can close it
        self.socket.monitor(None, 0)
        self.news.close(0)
        self.socket.close(0)
        self._listener.close()
        if not self._passed:
            self._path.unlink(missing_ok=True)

    def _monitor(self) -> Any:
        """Where libzmq tells who comes and goes. It would wait for a queue that is full, so none is."""
        name = f"inproc://{self._path}"
        self.socket.monitor(name, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        news = self.socket.context.socket(zmq.PAIR)
        news.setsockopt(zmq.RCVHWM, 0)
        news.connect(name)
        return news

    def _look(self, fd: int, end: Guest | None = None) -> Guest:
        """Who is connected at a descriptor of libzmq's. If it is `end`, end the connection.

        The descriptor may have been closed since it was named and be anything by now; a copy stays the same.
        """
        try:
            copy = os.dup(fd)
        except OSError:
            return NOBODY
        try:
            peer = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            return NOBODY
        with peer:
            if peer.family != socket.AF_UNIX or peer.getsockname() != str(self._path):
                return NOBODY
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            guest = Guest(uid, pid)
            if guest == end:
                peer.shutdown(socket.SHUT_RDWR)
            return guest


Place = tuple[Door, int]
"""A connection: the door it came by, and its descriptor."""


class Doors:
    """All doors together, those behind a file in `directory`. `count` includes who is about to go."""

    def __init__(self, context: "zmq.Context[Any]", watcher: Watcher, directory: Path, most: int) -> None:
        self._context = context
        self._watcher = watcher
        self._doors: list[Door] = []
        self._places: dict[Guest, dict[Place, None]] = {}
        self._of_user: Counter[int] = Counter()
        self._told = -QUIET
        self.most = most
        self.count = 0
        self.wall = _wall(directory)

    def close(self) -> None:
        """When all doors are closed."""
        self.wall.close()

    def make(
        self, kind: int, path: Path, domain: bytes, options: Mapping[Any, int], passed: int | None = None
    ) -> Door:
        """An open door, its socket made by `sockets.public`. `passed`: what listens at the path already."""
        door = Door(self, sockets.public(self._context, kind, domain, options), path, passed)
        self._doors.append(door)
        self._watcher.add(door.news, door.take)
        return door

    def look(self) -> None:
        """To be called every minute: end the connections of those who have stopped reading."""
        for door in self._doors:
            door.look()

    def closed(self, door: Door) -> None:
        """This door is no more."""
        self._watcher.remove(door.news)
        self._doors.remove(door)

    def came(self, guest: Guest, place: Place) -> None:
        """A connection more."""
        self.count += 1
        self._places.setdefault(guest, {})[place] = None
        self._of_user[guest.user] += 1
        if self.count > self.most:
            for door in self._doors:
                door.admit(False)

    def left(self, guest: Guest, place: Place) -> None:
        """A connection less."""
        self.count -= 1
        self._strike(guest, place)

    def settle(self) -> None:
        """Make room where there is none, and let in who waits where there is."""
        over = self._of_user.total() - self.most
        if over > 0:
            self._tell()
        for _ in range(min(over, AWAY)):
            self._send_away()
        for door in self._doors:
            door.admit(self.count <= self.most)

    def _send_away(self) -> None:
        user, _ = self._of_user.most_common(1)[0]
        guest = max(
            (each for each in self._places if each.user == user), key=lambda each: len(self._places[each])
        )
        door, fd = place = next(iter(self._places[guest]))
        self._strike(guest, place)
        door.send_away(fd)

    def _strike(self, guest: Guest, place: Place) -> None:
        places = self._places.get(guest, {})
        if place in places:
            del places[place]
            self._of_user[guest.user] -= 1
        if not places:
            self._places.pop(guest, None)
        if not self._of_user[guest.user]:
            del self._of_user[guest.user]

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= QUIET:
            self._told = now
            ((user, count),) = self._of_user.most_common(1)
            logger.warning(
                "more than %d connections, %d of user %d: who has most loses the oldest",
                self.most,
                count,
                user,
            )


def _listener(path: Path) -> socket.socket:
    """A socket for us alone; who listened at the path before is forgotten."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o600)
    return made


def _unread(fd: int) -> int:
    """Bytes in the kernel that the peer has not read; 0 where it has gone."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def _wall(directory: Path) -> socket.socket:
    """Where nobody can come: a socket that listens and has no name."""
    path = directory / "wall"
    made = _listener(path)
    path.unlink()
    made.setblocking(False)
    made.listen(0)
    return made
