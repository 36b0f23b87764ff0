"""One request and its answer on a connection of the origin: the record, and what behaviours write with.

A behaviour takes an `Exchange` and a `Resource`. It usually asks `honest` for the proper `Reply`, spoils it,
and sends it; it may as well write any bytes it likes.
"""

import select
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Condition
from typing import Literal

from .content import Blob, Content, Pattern
from .gate import Gate

Headers = Sequence[tuple[str, str]]
Framing = Literal["length", "chunked", "close"]
AS_SENT = "as sent"


class GoneError(Exception):
    """The peer has hung up, or the origin is closing: the behaviour ends."""


@dataclass(frozen=True)
class Resource:
    """What the origin has under a path, served honestly unless a behaviour says otherwise.

    The content is `body`, or else `size` bytes of pattern `seed`. `ranges` False: no range is ever served.
    `framing`: by Content-Length, chunked, or ended by closing. `headers` are added to every answer.
    """

    size: int = 0
    seed: int = 0
    body: bytes | None = None
    etag: str | None = '"v1"'
    last_modified: str | None = None
    date: str | None = None
    content_type: str = "application/octet-stream"
    disposition: str | None = None
    ranges: bool = True
    framing: Framing = "length"
    headers: Headers = ()

    @property
    def content(self) -> Content:
        """The bytes."""
        return Pattern(self.size, self.seed) if self.body is None else Blob(self.body)


@dataclass
class Request:
    """The record of one request. The first fields stand when it arrives, the others change as it is answered.

    `visit` counts the requests for this path from 1, `number` all of them. `sent` are body bytes handed to
    the kernel. `started` and `finished` are places in one common order of events. `concurrent` is how many
    requests were under way when it arrived, itself included. `broken`: it ended before the behaviour had
    done.
    """

    number: int
    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    visit: int = 0
    concurrent: int = 0
    started: int = 0
    finished: int | None = None
    status: int | None = None
    sent: int = 0
    broken: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target's query, empty where there is none."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.header("range")


@dataclass
class Reply:
    """An answer to be sent: a head, and the part of a content from `start` up to `stop`."""

    status: int
    content: Content
    start: int
    stop: int
    framing: Framing = "length"
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.stop - self.start

    def drop(self, name: str) -> None:
        """Take a header out."""
        self.headers = [(key, value) for key, value in self.headers if key.lower() != name.lower()]

    def set(self, name: str, value: str) -> None:
        """Put a header in, instead of those of this name."""
        self.drop(name)
        self.headers.append((name, value))


def honest(
    request: Request, resource: Resource, *, asked: str | None = AS_SENT, blind: bool = False
) -> Reply:
    """The answer of a server that keeps RFC 9110: whole, a part, or 416; If-Range compares strongly.

    `asked` takes the place of the Range header (None: as if there were none), `blind` overlooks If-Range.
    """
    if asked == AS_SENT:
        asked = request.range
    content = resource.content
    reply = Reply(200, content, 0, content.size, resource.framing, _common(resource))
    if not resource.ranges:
        pass
    elif asked is None or not (blind or _may_send_part(request, resource)):
        reply.set("Accept-Ranges", "bytes")
    elif (span := parse_range(asked, content.size)) is not None:
        start, stop = span
        if start >= stop:
            reply = Reply(416, Blob(b""), 0, 0, "length", _common(resource))
            reply.set("Content-Range", f"bytes */{content.size}")
        else:
            reply.status, reply.start, reply.stop = 206, start, stop
            reply.set("Content-Range", f"bytes {start}-{stop - 1}/{content.size}")
    if reply.framing == "length":
        reply.set("Content-Length", str(reply.length))
    elif reply.framing == "chunked":
        reply.set("Transfer-Encoding", "chunked")
    return reply


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """(start, stop) of a Range header with one range; start == stop if it lies outside; None: ignore it."""
    unit, _, spec = value.partition("=")
    first, dash, last = spec.strip().partition("-")
    numbers = [text for text in (first, last) if text]
    if unit.strip() != "bytes" or not dash or not numbers or not all(text.isdecimal() for text in numbers):
        return None
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    return (start, stop) if start < size else (size, size)


def _may_send_part(request: Request, resource: Resource) -> bool:
    condition = request.header("if-range")
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        return condition == resource.etag and not condition.startswith("W/")
    return condition == resource.last_modified


def _common(resource: Resource) -> list[tuple[str, str]]:
    optional = {
        "Date": resource.date,
        "ETag": resource.etag,
        "Last-Modified": resource.last_modified,
        "Content-Disposition": resource.disposition,
    }
    found = [("Content-Type", resource.content_type), *resource.headers]
    return found + [(name, value) for name, value in optional.items() if value is not None]


class Exchange:
    """What a behaviour works with: write, wait at a gate, hang up. `keep`: the connection may live on.

    `seen` is what behaviours of this path remember from visit to visit, see `first`.
    """

    def __init__(
        self,
        request: Request,
        connection: socket.socket,
        closing: int,
        changed: Condition,
        keep: bool,
        seen: set[object],
    ) -> None:
        self.request = request
        self.keep = keep
        self._connection = connection
        self._closing = closing
        self._changed = changed
        self._seen = seen

    def first(self, what: object) -> bool:
        """Whether nobody has asked for this at this path before."""
        with self._changed:
            known = what in self._seen
            self._seen.add(what)
        return not known

    def send(self, reply: Reply) -> None:
        """The whole answer."""
        self.begin(reply)
        self.body(reply)
        self.end(reply)

    def begin(self, reply: Reply) -> None:
        """The head of an answer."""
        self.head(reply.status, reply.headers)
        if reply.framing == "close":
            self.keep = False

    def head(self, status: int, headers: Headers, reason: str | None = None) -> None:
        """A status line and exactly these headers (and `Connection: close` where this is the last answer)."""
        phrase = HTTPStatus(status).phrase if reason is None and status in _KNOWN else reason or "Strange"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
        if not self.keep:
            lines.append("Connection: close")
        with self._changed:
            self.request.status = status
        self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def body(self, reply: Reply, start: int = 0, stop: int | None = None) -> None:
        """The bytes of the answer's body from `start` up to `stop`, counted from the body's own start."""
        end = reply.stop if stop is None else min(reply.start + stop, reply.stop)
        for piece in reply.content.pieces(reply.start + start, end):
            self.piece(piece, chunked=reply.framing == "chunked")

    def piece(self, data: bytes, *, chunked: bool = False) -> None:
        """Bytes of the body. They are counted; the body of an answer to HEAD is left out."""
        if self.request.method == "HEAD":
            return
        self.raw(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        with self._changed:
            self.request.sent += len(data)
            self._changed.notify_all()

    def end(self, reply: Reply) -> None:
        """What tells that the body is complete."""
        if reply.framing == "chunked" and self.request.method != "HEAD":
            self.raw(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        """Any bytes, not counted as body."""
        self._connection.sendall(data)

    def wait(self, gate: Gate) -> None:
        """Wait until the test opens the gate; GoneError if the peer hangs up or the origin closes before."""
        gate.enter()
        try:
            self._wait(gate.fileno(), None)
        finally:
            gate.leave()

    def pause(self, seconds: float) -> None:
        """Let time pass (for paced bodies only: to hold a transfer use a gate)."""
        if seconds > 0:
            self._wait(None, seconds)

    def wait_gone(self) -> None:
        """Wait until the peer hangs up or the origin closes."""
        self._wait(None, None)

    def _wait(self, fd: int | None, seconds: float | None) -> None:
        poller = select.poll()
        poller.register(self._closing, select.POLLIN)
        poller.register(self._connection, select.POLLRDHUP)
        if fd is not None:
            poller.register(fd, select.POLLIN)
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            ready = {number for number, _ in poller.poll(None if left is None else left * 1000 + 1)}
            if ready - {fd}:
                raise GoneError
            if fd in ready:
                return

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection after this answer; `reset`: by RST, and the peer may lose what is unread."""
        self.keep = False
        if reset:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return isinstance(self._connection, ssl.SSLSocket)


_KNOWN = frozenset(int(status) for status in HTTPStatus)
