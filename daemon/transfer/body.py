"""From a response's body into a stripe of the sink: three ways, of which each falls back to the next.

- `splice`: plain HTTP whose body is not chunked. The kernel moves pages from the socket to the file; nothing
  is copied into this process.
- `direct`: any body that is not chunked. `recv_into` of the socket itself (one TLS record a call), without
  the layers of buffered files above it.
- `buffered`: everything, chunked bodies too.

All of them give the same bytes and the same errors. What the library has read ahead goes first.
"""

import errno
import fcntl
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from fetchd.protocol.errors import Code

from . import gate
from .api import Context, TransferError
from .chunked import Chunked
from .sink import Stripe

CHUNK = 1 << 20
"""Bytes that are claimed and moved at once where they come fast."""

SMALL = 16 << 10
HOLD = 0.25
"""Seconds for which bytes are held back to write them together, and the size of a claim in time."""

BUFFER = 256 << 10
"""Bytes that are gathered for one write: what stays in a core's own cache is copied faster."""

PIPE = 1 << 20
F_SETPIPE_SZ = 1031

UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""What splice(2) says where a socket cannot be spliced, or a sandbox or kernel does not have the call."""

PATHS = ("splice", "direct", "buffered")


class Way(Protocol):
    """One way to move bytes."""

    def move(self, stripe: Stripe, limit: int) -> int:
        """Move at least one and at most `limit` bytes; how many. 0: the connection or the body has ended."""

    def close(self) -> None:
        """Leave the socket as it was."""


class Room:
    """What one connection's thread needs and uses again: a buffer and a pipe, made at first use."""

    def __init__(self) -> None:
        self._buffer: memoryview | None = None
        self._pipe: tuple[int, int] | None = None

    @property
    def buffer(self) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BUFFER))
        return self._buffer

    @property
    def pipe(self) -> tuple[int, int]:
        if self._pipe is None:
            self._pipe = os.pipe2(os.O_CLOEXEC)
            with suppress(OSError):
                # more than an unprivileged user may have in all: the usual 64 KiB serve as well
                fcntl.fcntl(self._pipe[1], F_SETPIPE_SZ, PIPE)
        return self._pipe

    def spoil(self) -> None:
        """The pipe holds bytes that nobody wants any more."""
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def close(self) -> None:
        self.spoil()
        self._buffer = None


class Buffered:
    """Through the library's buffered file, or the decoder of a chunked body."""

    def __init__(self, read: Callable[[memoryview], int], room: Room) -> None:
        self._read = read
        self._room = room

    def move(self, stripe: Stripe, limit: int) -> int:
        return _gather(self._read, stripe, self._room.buffer[:limit])

    def close(self) -> None:
        pass


class Direct:
    """Straight from the socket."""

    def __init__(self, sock: socket.socket, room: Room) -> None:
        self._read = sock.recv_into
        self._room = room

    def move(self, stripe: Stripe, limit: int) -> int:
        return _gather(self._read, stripe, self._room.buffer[:limit])

    def close(self) -> None:
        pass


def _gather(read: Callable[[memoryview], int], stripe: Stripe, view: memoryview) -> int:
    """Read pieces until the view is full, the body ends or time is up, then write them together."""
    filled, until = 0, time.monotonic() + HOLD
    try:
        while filled < len(view):
            count = read(view[filled:])
            filled += count
            if not count or time.monotonic() > until:
                break
    finally:
        # what has come before an error is worth keeping
        if filled:
            stripe.write(view[:filled])
    return filled


class Splice:
    """By splice(2), through a pipe. The socket blocks with a timeout of the kernel's meanwhile."""

    def __init__(self, sock: socket.socket, room: Room, timeout: float) -> None:
        self._sock = sock
        self._room = room
        self._timeout = sock.gettimeout()
        sock.settimeout(None)
        _set_receive_timeout(sock, timeout)

    def move(self, stripe: Stripe, limit: int) -> int:
        reading, writing = self._room.pipe
        try:
            count = os.splice(self._sock.fileno(), writing, limit, flags=os.SPLICE_F_MOVE)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
            raise UnsupportedError from None
        if not count:
            return 0
        began = stripe.position
        try:
            stripe.splice(reading, count)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # this file system cannot: what is in the pipe goes through memory, and so does the rest
            left = count - (stripe.position - began)
            while left:
                left -= len(data := os.read(reading, left))
                stripe.write(data)
            raise UnsupportedError from None
        except BaseException:
            self._room.spoil()
            raise
        return count

    def close(self) -> None:
        with suppress(OSError):
            _set_receive_timeout(self._sock, 0)
            self._sock.settimeout(self._timeout)


class UnsupportedError(Exception):
    """Socket, sandbox or file system do not know splice(2); everything read so far has been written."""


def _set_receive_timeout(sock: socket.socket, seconds: float) -> None:
    # 0 is for ever: a very short time must not become that
    whole, parts = divmod(max(1, int(seconds * 1e6)) if seconds else 0, 1_000_000)
    value = struct.pack("ll", whole, parts)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)


class Body:
    """The body of one response. `length` is what is to come of it, None where only its end tells.

    `whole`: it has been read to its end, and the connection can be used again.
    """

    def __init__(
        self,
        response: gate.Response,
        sock: socket.socket,
        length: int | None,
        room: Room,
        paths: tuple[str, ...],
        timeout: float,
    ) -> None:
        self._left = length
        self._file: Any = response.fp
        self._sock = sock
        self._room = room
        self._timeout = timeout
        self._chunked: Chunked | None = None
        if response.chunked:
            seconds = gate.TIMES * timeout
            self._chunked = Chunked(self._file, lambda limit: response.lines(seconds).readline(limit))
        usable = [path for path in paths if self._suits(path)]
        self._paths = usable or ["buffered"]
        self._ahead: int | None = None if self._chunked is None else 0
        self._way: Way | None = None

    @property
    def whole(self) -> bool:
        if self._chunked is not None:
            return self._chunked.ended
        return self._left == 0

    def receive(self, context: Context, stripe: Stripe, wanted: Callable[[], bool]) -> None:
        """Fill the stripe until it is complete, the body ends, or this connection is not wanted any more.

        Raises what breaks the connection, `short_body` where the body ends before its length.
        """
        size = SMALL
        try:
            while wanted() and (count := stripe.claim(size)):
                began = time.monotonic()
                moved = self._move(context, stripe, count)
                if not moved:
                    context.check()
                    self._ended(stripe)
                    return
                took = time.monotonic() - began
                # as much as comes in a moment: what is claimed cannot be taken over by a faster connection
                size = min(CHUNK, 4 * size, max(SMALL, int(moved * HOLD / max(took, 1e-6))))
            context.check()
        finally:
            self.close()

    def _move(self, context: Context, stripe: Stripe, count: int) -> int:
        if self._left is not None:
            count = min(count, self._left)
            if not count:
                return 0
        context.check()
        allowed = context.pace(count)
        moved = self._step(stripe, allowed)
        context.received(moved, allowed)
        if self._left is not None:
            self._left -= moved
        return moved

    def _step(self, stripe: Stripe, limit: int) -> int:
        if self._ahead is None:
            self._ahead = self._read_ahead()
        if self._ahead:
            data = self._file.read(min(limit, self._ahead))
            self._ahead -= len(data)
            stripe.write(data)
            return len(data)
        if self._way is None:
            self._way = self._make()
        before = stripe.position
        try:
            return self._way.move(stripe, limit)
        except UnsupportedError:
            self._way.close()
            self._way, self._paths = None, self._paths[1:] or ["buffered"]
            # nothing would mean the end of the body
            return (stripe.position - before) or self._step(stripe, limit)

    def _read_ahead(self) -> int:
        """How many bytes lie in the buffer of the library's file; does not wait for any."""
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            return len(self._file.peek())
        except (BlockingIOError, ssl.SSLError):
            return 0
        finally:
            self._sock.settimeout(timeout)

    def _make(self) -> Way:
        if self._chunked is not None:
            return Buffered(self._chunked.readinto, self._room)
        match self._paths[0]:
            case "splice":
                return Splice(self._sock, self._room, self._timeout)
            case "direct":
                return Direct(self._sock, self._room)
            case _:
                return Buffered(self._file.readinto1, self._room)

    def _suits(self, path: str) -> bool:
        if self._chunked is not None:
            return path == "buffered"
        # a tunnel through an encrypted proxy has no socket of its own at all
        plain = isinstance(self._sock, socket.socket) and not isinstance(self._sock, ssl.SSLSocket)
        return path != "splice" or plain

    def _ended(self, stripe: Stripe) -> None:
        if self._left:
            raise TransferError(Code.SHORT_BODY, f"the body ended {self._left} bytes before its end")
        # a length that has come in full may be less than was asked for (RFC 9110 section 15.3.7)
        if self._left is None and stripe.end is not None and not stripe.complete:
            raise TransferError(Code.SHORT_BODY, f"the body ended {stripe.end - stripe.position} bytes early")

    def close(self) -> None:
        if self._way is not None:
            self._way.close()
            self._way = None
