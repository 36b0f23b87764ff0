"""The control socket: frames in, a checked request to its handler, a reply out. Never blocks, never raises.

A client that is gone or does not read loses its reply; it asks again under the same request ID.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from msgspec import Struct
from msgspec.structs import replace

from fetchd.daemon.service.doors import Doors
from fetchd.daemon.service.tcp import Tcp
from fetchd.protocol.codec import MAX_MESSAGE, decode, encode
from fetchd.protocol.control import REQUESTS, ErrorBody, ReplyHeader, RequestHeader
from fetchd.protocol.errors import Code, FetchdError, ProtocolError
from fetchd.protocol.frames import split_control
from fetchd.protocol.version import PROTOCOL

from .access import Access

logger = logging.getLogger("fetchd")

AT_ONCE = 200
"""Requests taken in one turn."""

MAX_TEXT = 4096
"""Longest text of an error, in characters."""


class Caller(Struct, frozen=True):
    """Who asked (an `Asker` of `core.rights`), and how to answer. `digest` is of type and body."""

    route: bytes
    envelope: tuple[bytes, ...]
    type: str
    req: str
    owner: str
    digest: bytes
    admin: bool = False


Handler = Callable[[Caller, Any], None]


class Control:
    """The ROUTER at the control endpoint, and at that of `tcp`. `handlers`: by the type of request."""

    def __init__(
        self,
        doors: Doors,
        path: Path,
        access: Access,
        *,
        epoch: str,
        lineage: str,
        passed: int | None = None,
        tcp: Tcp | None = None,
    ) -> None:
        self._access = access
        self._epoch = epoch
        self.lineage = lineage
        self.path = path
        self.handlers: dict[str, Handler] = {}
        options = {
            zmq.ROUTER_MANDATORY: 1,
            zmq.MAXMSGSIZE: MAX_MESSAGE,
            zmq.SNDHWM: 500,
        }
        self._door = doors.make(zmq.ROUTER, b"control", options)
        self.socket = self._door.socket
        self.endpoint = self._door.listen(path, passed)
        if tcp is not None:
            tcp.bind(self._door, tcp.control)

    def close(self) -> None:
        self._door.close()

    def take(self) -> None:
        """Handle the requests that are there, up to a bound so that others get their turn."""
        for _ in range(AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._handle(frames)

    def reply(self, caller: Caller, body: Struct) -> None:
        """Answer a request; one too large to send becomes `too_large`."""
        try:
            self._send(caller, ok=True, body=encode(body))
        except ProtocolError as error:
            self.refuse(caller, FetchdError(Code.TOO_LARGE, error.message))

    def reply_encoded(self, caller: Caller, body: bytes) -> None:
        """Answer with a stored reply."""
        self._send(caller, ok=True, body=body)

    def refuse(self, caller: Caller, error: FetchdError) -> None:
        """Answer with an error."""
        # a message may quote what cannot be sent: too long, or a file name that is not UTF-8
        message = error.message[:MAX_TEXT].encode("utf-8", "replace").decode()
        body = ErrorBody(
            code=error.code, message=message, retry_after=error.retry_after, details=dict(error.details)
        )
        try:
            self._send(caller, ok=False, body=encode(body))
        except ProtocolError:
            bare = ErrorBody(code=error.code, message=message, retry_after=error.retry_after, details={})
            self._send(caller, ok=False, body=encode(bare))

    def _handle(self, messages: list[zmq.Frame]) -> None:
        frames = [message.bytes for message in messages]
        route, rest = frames[0], frames[1:]
        caller = Caller(route, (b"",) if rest and not rest[0] else (), "", "", "", b"")
        try:
            envelope, head, payload = split_control(rest)
            header = decode(head, RequestHeader)
            digest = hashlib.blake2b(header.type.encode() + b"\0" + payload, digest_size=16).digest()
            caller = Caller(route, tuple(envelope), header.type, header.req, "", digest)
            who = self._access.sender(messages[-1])
            if who is None:
                raise FetchdError(Code.DENIED)
            caller = replace(caller, owner=who.owner, admin=who.admin)
            if header.v != PROTOCOL:
                raise FetchdError(Code.UNSUPPORTED_VERSION, supported=[PROTOCOL])
            kind = REQUESTS.get(header.type)
            handler = self.handlers.get(header.type)
            if kind is None or handler is None:
                raise FetchdError(Code.UNKNOWN_TYPE, f"no request type {header.type!r}")
            handler(caller, decode(payload, kind))
        except FetchdError as error:
            self.refuse(caller, error)
        except Exception:
            logger.exception("request %s of %s", caller.type, caller.owner)
            self.refuse(caller, FetchdError(Code.INTERNAL))

    def _send(self, caller: Caller, *, ok: bool, body: bytes) -> None:
        header = ReplyHeader(PROTOCOL, caller.type, caller.req, ok, self._epoch, self.lineage)
        if len(body) > MAX_MESSAGE:
            raise ProtocolError(Code.TOO_LARGE, "the answer does not fit into one message; ask for less")
        try:
            self.socket.send_multipart([caller.route, *caller.envelope, encode(header), body], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            logger.debug("a client does not hear its reply: %s", error)
