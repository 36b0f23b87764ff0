"""A hostile-capable HTTP/1.1 origin server of our own, on loopback, with every byte under the test's control.

    origin.add("/f", Resource(size=1 << 20, seed=1))                      # honest
    origin.add("/f", Resource(size=1 << 20), "cut", after=1000, times=2)  # twice cut, then honest
    origin.script("/f", Step(old, "cut", after=1000), Step(new))          # by visit; the last step stays
    gate = origin.gate()
    origin.add("/f", Resource(size=1 << 20), "hold", after=4096, gate=gate)

Each connection has a thread. Everything that happens is recorded under one condition variable; `wait_for`
waits on it. Behaviours are in `behaviours`, one small function each.
"""

import os
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from .behaviours import BEHAVIOURS, checked
from .exchange import Exchange, GoneError, Request, Resource
from .gate import Gate

__all__ = ["Origin", "Request", "Resource", "Step"]

MAX_HEAD = 1 << 20
_NOT_FOUND = Resource(body=b"no such path at this origin\n", etag=None)


class Step:
    """How one visit, or the next `times` visits, to a path are answered."""

    def __init__(
        self, resource: Resource, behaviour: str = "plain", times: int = 1, **options: object
    ) -> None:
        self.resource = resource
        self.behaviour = behaviour
        self.times = times
        self.options = checked(behaviour, options)


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    number: int
    buffer: bytearray = field(default_factory=bytearray)


class Origin:
    """The server. It listens at once; use as a context manager or call `close`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.max_concurrent = 0
        self.errors: list[str] = []
        self._tls = tls
        self._changed = threading.Condition()
        self._routes: dict[str, list[Step]] = {}
        self._visits: dict[str, int] = {}
        self._seen: dict[str, set[object]] = {}
        self._active = 0
        self._order = 0
        self._gates: list[Gate] = []
        self._open: set[_Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    # what a test sets up

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The URL of a path. `host="localhost"` makes it another origin to a client."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def add(
        self,
        path: str,
        resource: Resource,
        behaviour: str = "plain",
        *,
        times: int | None = None,
        **options: object,
    ) -> str:
        """Answer `path` (any query) by a behaviour, `times` times then honestly, or always. Returns the URL.

        A later call for the same path replaces the earlier one and counts visits from 1 again.
        """
        first = Step(resource, behaviour, times or 1, **options)
        return self.script(path, first) if times is None else self.script(path, first, Step(resource))

    def script(self, path: str, *steps: Step) -> str:
        """Answer `path` step by step, each for its `times` visits; the last one stays. Returns the URL."""
        with self._changed:
            self._routes[path] = list(steps)
            self._visits[path] = 0
            self._seen[path] = set()
        return self.url(path)

    def gate(self) -> Gate:
        """A new closed gate for `hold`, `stall` and the like."""
        gate = Gate(self._changed)
        self._gates.append(gate)
        return gate

    # what a test looks at

    def requests_for(self, path: str) -> list[Request]:
        """The records of one path in the order of arrival."""
        with self._changed:
            return [request for request in self.requests if request.path == path]

    def bytes_sent(self, path: str | None = None) -> int:
        """Body bytes handed to the kernel so far, of one path or all.

        The count follows the bytes: a client may have read them already, so ask inside `wait_for`.
        """
        with self._changed:
            return sum(request.sent for request in self.requests if path in (None, request.path))

    @property
    def active(self) -> int:
        """Requests that are being answered now."""
        return self._active

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until `condition()`, about this origin, is true; it is asked after everything that happens.

        It is called with the origin's lock held and must not block. Raises TimeoutError with what was seen.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                seen = "\n".join(map(str, self.requests[-20:])) or "no request"
                raise TimeoutError(f"the condition did not come true within {timeout} s; seen:\n{seen}")

    def close(self) -> None:
        """End all threads, sockets and gates; every handler that waits ends at once."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._closing, 1)
            for connection in self._open:
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        while self._threads:
            thread = next(iter(self._threads))
            thread.join(10)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end")
            self._threads.discard(thread)
        self._listener.close()
        for gate in self._gates:
            gate.close()
        os.close(self._closing)

    def __enter__(self) -> "Origin":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # the threads

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=self._run, args=(target, *args), name=f"origin {self.port}")
        self._threads.add(thread)
        thread.start()

    def _run(self, target: Callable[..., None], *args: object) -> None:
        try:
            target(*args)
        finally:
            if not self._closed:  # close() joins those that are left
                self._threads.discard(threading.current_thread())

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:  # close() has shut the listener down
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                if self._closed:
                    accepted.close()
                    return
                self.connections += 1
                connection = _Connection(accepted, self.connections)
                self._open.add(connection)
                self._start(self._serve, connection)
                self._changed.notify_all()

    def _serve(self, connection: _Connection) -> None:
        try:
            if self._tls is not None:
                with self._changed:
                    raw, context = connection.socket, self._tls
                    connection.socket = context.wrap_socket(raw, True, do_handshake_on_connect=False)
                assert isinstance(connection.socket, ssl.SSLSocket)
                connection.socket.do_handshake()
            while (request := self._read_request(connection)) is not None:
                if not self._answer(connection, request):
                    break
        except OSError:  # the peer broke the connection, or the handshake off
            pass
        except Exception:
            self.errors.append(traceback.format_exc())
        finally:
            with self._changed:
                self._open.discard(connection)
                connection.socket.close()
                self._changed.notify_all()

    def _read_request(self, connection: _Connection) -> Request | None:
        buffer = connection.buffer
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            piece = connection.socket.recv(1 << 16)
            if not piece or len(buffer) > MAX_HEAD:
                return None
            buffer += piece
        line, *rest = buffer[:end].decode("latin-1").split("\r\n")
        del buffer[: end + 4]
        method, target, _version = line.split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (text.partition(":") for text in rest)]
        return Request(0, connection.number, method, target, headers)

    def _answer(self, connection: _Connection, request: Request) -> bool:
        """Answer one request; whether the connection may live on."""
        step = self._arrived(request)
        keep = (request.header("connection") or "").lower() != "close"
        seen = self._seen.get(request.path, set())
        exchange = Exchange(request, connection.socket, self._closing, self._changed, keep, seen)
        try:
            if step is None:
                BEHAVIOURS["status"](exchange, _NOT_FOUND, code=404)
            else:
                BEHAVIOURS[step.behaviour](exchange, step.resource, **step.options)
        except (GoneError, OSError):
            request.broken = True
        except Exception:
            request.broken = True
            self.errors.append(f"{request}\n{traceback.format_exc()}")
        finally:
            with self._changed:
                self._active -= 1
                self._order += 1
                request.finished = self._order
                self._changed.notify_all()
        return exchange.keep and not request.broken

    def _arrived(self, request: Request) -> Step | None:
        with self._changed:
            visit = request.visit = self._visits[request.path] = self._visits.get(request.path, 0) + 1
            self._active += 1
            self._order += 1
            self.max_concurrent = max(self.max_concurrent, self._active)
            request.number, request.started = len(self.requests) + 1, self._order
            request.concurrent = self._active
            self.requests.append(request)
            self._changed.notify_all()
            steps = self._routes.get(request.path, [])
        for step in steps:
            visit -= step.times
            if visit <= 0:
                return step
        return steps[-1] if steps else None
