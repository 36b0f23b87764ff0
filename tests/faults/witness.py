"""An origin that sees whether two attempts at one job are ever alive at once, and what was fetched twice.

A connection is alive while the kernel has it as established: that of a process that has ended is not, even
where the origin's own thread has not noticed yet.
"""

import socket
from collections import defaultdict

from support.exchange import Request
from support.origin import Origin, Step

from .goods import PIECE

ESTABLISHED = 1
"""TCP_ESTABLISHED, the first byte of `struct tcp_info` (tcp(7))."""


class Witness(Origin):
    """The hostile origin, with its eyes open. `single` are paths that are fetched by one connection only."""

    def __init__(self) -> None:
        self.single: set[str] = set()
        self.overlaps: list[str] = []
        self._old = 0
        self._under_way: dict[str, list[Request]] = defaultdict(list)
        super().__init__()

    def new_life(self) -> None:
        """A new daemon starts: whoever has connected so far must be dead before it works at the same job."""
        with self._changed:
            self._old = self.connections

    def wait_bytes(self, count: int, timeout: float) -> bool:
        """Wait until so many more bytes have been sent; whether they have within so many seconds."""
        with self._changed:
            first = len(self.requests)
            old = [request for requests in self._under_way.values() for request in _unfinished(requests)]
            wanted = count + sum(request.sent for request in old)

            def sent() -> bool:
                return sum(request.sent for request in [*old, *self.requests[first:]]) >= wanted

            return self._changed.wait_for(sent, timeout)

    def twice(self, path: str, size: int) -> tuple[int, int, int]:
        """(connections that broke, bytes sent beyond the size, those that may have been under way)."""
        requests = self.requests_for(path)
        broken = sum(request.broken for request in requests)
        beyond = max(0, sum(request.sent for request in requests) - size)
        return broken, beyond, min(beyond, broken * PIECE)

    def _arrived(self, request: Request) -> Step | None:
        with self._changed:
            earlier = self._under_way[request.path] = _unfinished(self._under_way[request.path])
            sockets = {connection.number: connection.socket for connection in self._open}
            for other in earlier:
                known = other.connection <= self._old < request.connection
                if (known or request.path in self.single) and _is_alive(sockets.get(other.connection)):
                    self.overlaps.append(f"{request.path}: {other} was alive when there came {request}")
            earlier.append(request)
        return super()._arrived(request)


def _unfinished(requests: list[Request]) -> list[Request]:
    return [request for request in requests if request.finished is None]


def _is_alive(connection: socket.socket | None) -> bool:
    if connection is None:
        return False
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED
    except OSError:
        return False
