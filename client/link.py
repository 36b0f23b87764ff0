"""One conversation with the daemon: a DEALER socket, its monitor, and on demand a SUB socket.

A link belongs to one thread at a time; `Client` hands links out. It knows sockets and clocks and leaves all
decisions about repeating and merging to `session`. It makes its sockets anew whenever the connection breaks
or answers stop coming, after reading the endpoint again, since a restarted daemon may have moved. What is
subscribed and what is unanswered carries over.
"""

import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

import zmq
from msgspec import Struct

from fetchd.protocol import codec
from fetchd.protocol.control import REQUESTS, ErrorBody, Hello, ReplyHeader, RequestHeader, Welcome
from fetchd.protocol.errors import Code, FetchdError, ProtocolError
from fetchd.protocol.events import EventHeader
from fetchd.protocol.ids import new_request_id
from fetchd.protocol.version import PROTOCOL, __version__

from .locate import Finder
from .monitor import Monitor
from .remote import Contact
from .session import Exchange, Outbox

if TYPE_CHECKING:
    from fetchd.protocol.inotify import Watch

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between looks for a daemon that went away, where nothing announces its return."""

WATCHED_PAUSE = 5.0
"""The same where a watch on its endpoint file does announce it."""

EVENTS_HWM = 10_000
"""Events kept for a slow receiver; past it the daemon's socket drops, and the numbering shows the gap."""

T = TypeVar("T", bound=Struct)
RawEvent = tuple[bytes, EventHeader, bytes]
_KINDS = {kind: name for name, kind in REQUESTS.items()}


class ClientClosedError(RuntimeError):
    """The client was closed, perhaps by another thread."""


def refusal(body: ErrorBody) -> FetchdError:
    """The exception for a refused request. A code newer than this client becomes `internal`, named in it."""
    try:
        error = FetchdError(Code(body.code), body.message, retry_after=body.retry_after)
    except ValueError:
        error = FetchdError(Code.INTERNAL, f"{body.code}: {body.message}", raw_code=body.code)
    error.details.update(body.details)
    return error


class Link:
    """A connection that outlives the daemon's restarts.

    `finder` names a daemon's control endpoint, or None; `closing` is a descriptor that turns readable when
    the client is closed; an answer that does not come is asked for again after `resend_after` seconds, and
    `patience` seconds of silence end in `no_daemon`.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", finder: Finder, closing: int, patience: float,
        resend_after: float,
    ) -> None:  # fmt: skip
        self._context = context
        self._finder = finder
        self._closing = closing
        self._patience = patience
        self._outbox = Outbox(resend_after)
        self._greeting: Exchange[Welcome] | None = None
        self._dealer: zmq.Socket[bytes] | None = None
        self._monitor: Monitor | None = None
        self._sub: zmq.Socket[bytes] | None = None
        self._topics: set[bytes] = set()
        self._watch: Watch | None = None
        self._retry_at = 0.0
        self._pause = FIRST_PAUSE
        self._contact = None if finder.remote is None else Contact(finder.remote)
        self._address: tuple[str, str | None] = ("", None)
        self._silent_since: float | None = None
        self.welcome: Welcome | None = None
        self.endpoint: str | None = None
        self.events: deque[RawEvent] = deque()

    @property
    def connected(self) -> bool:
        """Whether a daemon has greeted this connection and it has not broken since."""
        return self.welcome is not None

    # -- requests

    def ask(self, request: Struct, reply_type: type[T], *, hold: float = 0.0) -> Exchange[T]:
        """Start a request; the answer comes during some later `step`."""
        exchange = self._exchange(request, reply_type, hold)
        self._outbox.add(exchange)
        return exchange

    def abandon(self, exchange: Exchange[T]) -> None:
        """Ignore the answer to a request. The daemon is not told; it has nothing to undo."""
        self._outbox.forget(exchange)

    def call(self, request: Struct, reply_type: type[T], *, hold: float = 0.0) -> T:
        """Ask and block for the answer; raises what the daemon refuses with, or `no_daemon`."""
        exchange = self.ask(request, reply_type, hold=hold)
        while not exchange.done:
            self.step(None)
        return exchange.result()

    def subscribe(self, topics: Iterable[bytes]) -> None:
        """Receive events whose topic begins so, from now on; they gather in `events`."""
        new = set(topics) - self._topics
        self._topics |= new
        if self._sub is not None:
            for topic in new:
                self._sub.subscribe(topic)
        elif self.welcome is not None:
            self._open_sub(self.welcome.events)

    def unsubscribe(self, topics: Iterable[bytes]) -> None:
        """Receive them no more."""
        for topic in set(topics) & self._topics:
            self._topics.discard(topic)
            if self._sub is not None:
                self._sub.unsubscribe(topic)

    def rest(self) -> None:
        """Forget what was asked and subscribed, keep the connection: another call may use it."""
        self._outbox.forget()
        self._topics.clear()
        self.events.clear()
        self._close_sub()

    def close(self) -> None:
        """Close the sockets. Changes nothing at the daemon."""
        self.rest()
        self._drop()
        self._unwatch()

    # -- one turn

    def step(self, until: float | None, fds: Collection[int] = ()) -> set[int]:
        """Send what is due, wait for something to come or `until` (monotonic), and take it in.

        Returns those of `fds` that are readable. Raises `no_daemon` after `patience` seconds of silence,
        and ClientClosedError.
        """
        now = time.monotonic()
        if self._dealer is None and now >= self._retry_at:
            self._connect(now)
        self._send_due(now)
        ready = self._poll(until, now, fds)
        now = time.monotonic()
        if self._dealer is not None:
            self._receive(now)
            if self._broken() or self._outbox.overdue(now) or self._greeting_overdue(now):
                if self._outbox.hopeless(now):
                    raise self._finder.absent()
                self._lost(now)
        if self._silent_since is not None and now - self._silent_since >= self._patience:
            raise self._finder.absent()
        return ready

    def refresh(self) -> bool:
        """Notice now whether the connection broke while nobody used it; whether it stands."""
        if self._dealer is not None and self._broken():
            self._drop()
            self._retry_at, self._pause = 0.0, FIRST_PAUSE
        self._silent_since = None
        return self._dealer is not None

    def _poll(self, until: float | None, now: float, fds: Collection[int]) -> set[int]:
        times = [until, self._outbox.next_time() if self.connected else None]
        if self._dealer is None:
            times.append(self._retry_at)
        elif self._greeting is not None:
            times += self._greeting.due, self._greeting.overdue
        if self._silent_since is not None:
            times.append(self._silent_since + self._patience)
        end = min((t for t in times if t is not None), default=None)
        poller = zmq.Poller()
        poller.register(self._closing, zmq.POLLIN)
        for fd in fds:
            poller.register(fd, zmq.POLLIN)
        for sock in (self._dealer, self._monitor and self._monitor.socket, self._sub):
            if sock is not None:
                poller.register(sock, zmq.POLLIN)
        if self._watch is not None:
            poller.register(self._watch.fd, zmq.POLLIN)
        timeout = None if end is None else max(0, int((end - now) * 1000) + 1 if end > now else 0)
        ready = {key for key, _ in poller.poll(timeout)}
        if self._closing in ready:
            raise ClientClosedError("the client is closed")
        if self._watch is not None and self._watch.fd in ready and self._watch.changed():
            self._retry_at = 0.0
        return {fd for fd in fds if fd in ready}

    # -- connection

    def _connect(self, now: float) -> None:
        self.endpoint = self._look()
        if self.endpoint is None:
            self._silent_since = self._silent_since if self._silent_since is not None else now
            self._put_off(now)
            return
        self._unwatch()
        address, host = self._address
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.maxmsgsize = codec.MAX_MESSAGE
        dealer.reconnect_ivl = -1  # one socket is one connection: a broken one is noticed, never mended
        self._monitor = Monitor(self._context, dealer)
        try:
            self._secure(dealer, address)
            dealer.connect(address)
        except zmq.ZMQError as error:
            self._drop()
            dealer.close()
            raise FetchdError(Code.NO_DAEMON, f"cannot connect to {self.endpoint}: {error}") from None
        self._dealer = dealer
        hello = Hello(client=f"fetchd.client/{__version__}", host=host)
        self._greeting = self._exchange(hello, Welcome, 0.0)

    def _look(self) -> str | None:
        """Where the daemon is. While it is nowhere, its place is watched."""
        try:
            found = self._finder.find()
            if found is None:
                self._unwatch()  # the directory may have been replaced
                self._watch = self._finder.watch()
                found = self._finder.find() if self._watch is not None else None
            if found is not None:
                self._address = (found, None) if self._contact is None else self._contact.address()
        except FetchdError:
            if self._silent_since is None:
                raise
            return None  # a daemon that is starting: its socket is its own before it is opened for others
        return found

    def _put_off(self, now: float) -> None:
        if self._watch is not None:
            self._retry_at = now + WATCHED_PAUSE
        else:
            self._retry_at, self._pause = now + self._pause, min(self._pause * 2, LONGEST_PAUSE)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _greeting_overdue(self, now: float) -> bool:
        greeting = self._greeting
        return greeting is not None and greeting.overdue is not None and greeting.overdue <= now

    def _broken(self) -> bool:
        """Whether the monitor has reported the end of the connection."""
        assert self._monitor is not None
        ends = self._monitor.ends()
        if ends and self._contact is not None:
            self._contact.ended(ends, met=self._finder.met)
        if zmq.EVENT_HANDSHAKE_FAILED_AUTH in ends:
            raise FetchdError(Code.DENIED, f"the daemon at {self.endpoint} does not admit this user")
        return bool(ends)

    def _lost(self, now: float) -> None:
        self._drop()
        if self._contact is not None:
            self._contact.turn += 1
        self._outbox.disconnected(now)
        self._silent_since = self._silent_since if self._silent_since is not None else now
        self._put_off(now)

    def _drop(self) -> None:
        self._close_sub()
        if self._monitor is not None:
            self._monitor.close()
        if self._dealer is not None:
            self._dealer.close()
        self._dealer = self._monitor = self.welcome = self._greeting = None

    def _open_sub(self, endpoint: str) -> None:
        if not self._topics:
            return
        sub = self._context.socket(zmq.SUB)
        sub.linger = 0
        sub.rcvhwm = EVENTS_HWM
        sub.maxmsgsize = codec.MAX_MESSAGE
        for topic in self._topics:
            sub.subscribe(topic)
        self._sub = sub
        self._secure(sub, endpoint)
        sub.connect(endpoint)

    def _secure(self, sock: "zmq.Socket[bytes]", address: str) -> None:
        if self._contact is not None:
            self._contact.remote.secure(sock, address)

    def _close_sub(self) -> None:
        if self._sub is not None:
            self._sub.close()
            self._sub = None

    # -- messages

    def _exchange(self, request: Struct, reply_type: type[T], hold: float) -> Exchange[T]:
        kind, req = _KINDS[type(request)], new_request_id()
        frames = [codec.encode(RequestHeader(v=PROTOCOL, type=kind, req=req)), codec.encode(request)]
        if len(frames[1]) > codec.MAX_MESSAGE:
            raise FetchdError(Code.TOO_LARGE, f"a request of {len(frames[1])} bytes exceeds 1 MiB")
        return Exchange(
            req, kind, frames, reply_type, hold=hold, now=time.monotonic(), patience=self._patience + hold
        )

    def _send_due(self, now: float) -> None:
        if self._greeting is not None:
            if self._greeting.due is not None and self._greeting.due <= now:
                self._send(self._greeting, now)
        elif self.connected:
            for exchange in self._outbox.due(now):
                if not self._send(exchange, now):
                    break

    def _send(self, exchange: Exchange[T], now: float) -> bool:
        assert self._dealer is not None
        try:
            self._dealer.send_multipart(exchange.frames, zmq.NOBLOCK)
        except zmq.Again:
            # The queue to the daemon is full, so it has not read for long: as good as unanswered.
            exchange.due = now + FIRST_PAUSE
            return False
        self._outbox.sent(exchange, now)
        return True

    def _receive(self, now: float) -> None:
        assert self._dealer is not None
        while True:
            try:
                frames = self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._on_reply(frames, now)
        while self._sub is not None and len(self.events) < EVENTS_HWM:
            try:
                parts = self._sub.recv_multipart(zmq.NOBLOCK)
                self.events.append((parts[0], codec.decode(parts[1], EventHeader), parts[2]))
            except zmq.Again:
                break
            except (ProtocolError, IndexError):
                continue  # not of this protocol; the numbering will show what it was

    def _on_reply(self, frames: list[bytes], now: float) -> None:
        if len(frames) != 2:
            return
        try:
            header = codec.decode(frames[0], ReplyHeader)
        except ProtocolError:
            return
        self._silent_since = None
        if self._greeting is not None and header.req == self._greeting.req:
            self._on_welcome(self._greeting, header, frames[1], now)
            return
        exchange = self._outbox.expects(header.req)
        if exchange is None:
            return
        try:
            if header.ok:
                self._outbox.answered(exchange, header, codec.decode(frames[1], exchange.reply_type))
            else:
                self._outbox.refused(exchange, refusal(codec.decode(frames[1], ErrorBody)), now)
        except ProtocolError as error:
            self._outbox.refused(exchange, error, now)

    def _on_welcome(self, greeting: Exchange[Welcome], header: ReplyHeader, body: bytes, now: float) -> None:
        if not header.ok:
            greeting.refused(refusal(codec.decode(body, ErrorBody)), now)
            if greeting.error is not None:
                raise greeting.error
            return
        self._greeting = None
        self.welcome = codec.decode(body, Welcome)
        self._finder.met = True
        self._pause = FIRST_PAUSE
        self._open_sub(self.welcome.events)
