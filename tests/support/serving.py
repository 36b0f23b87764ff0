"""Small servers on loopback, a thread for each connection, and one that says just what a test tells it to.

    talker = Talker(lambda peer: peer.send(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello"))

Nothing is left of them after `close`: it ends every connection and joins every thread.
"""

import select
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Server:
    """Listens at once; `serve` of a subclass gets each connection, which is closed behind it."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.errors: list[str] = []
        self.connections = 0
        self.changed = threading.Condition()
        self._tls = tls
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def serve(self, connection: socket.socket) -> None:
        """Everything that is said on one connection."""
        raise NotImplementedError

    def wait_for(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until it is true; it is asked after every connection that comes or ends."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise TimeoutError(f"the condition did not come true within {timeout} s")

    @property
    def open_connections(self) -> int:
        """Sockets that are open now."""
        return len(self._open)

    def dial(self, host: str, port: int) -> socket.socket:
        """A connection of the server's own to somewhere else; closed with it at the latest."""
        made = socket.create_connection((host, port), timeout=10)
        made.settimeout(None)
        self._keep(made)
        return made

    def drop(self, connection: socket.socket) -> None:
        """Close one of its sockets."""
        with self.changed:
            if connection in self._open:
                self._open.remove(connection)
            connection.close()
            self.changed.notify_all()

    def close(self) -> None:
        """End everything; whatever went wrong inside is raised."""
        with self.changed:
            self._closed = True
            for connection in self._open:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        if self.errors:
            raise AssertionError("\n".join(self.errors))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=f"{type(self).__name__} {self.port}")
        self._threads.append(thread)
        thread.start()

    def _keep(self, connection: socket.socket) -> None:
        with self.changed:
            if self._closed:
                connection.close()
                raise ConnectionAbortedError
            self._open.append(connection)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
                self._keep(accepted)
            except OSError:
                return
            with self.changed:
                self.connections += 1
                self.changed.notify_all()
            self._start(self._run, accepted)

    def _run(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                plain = connection
                with self.changed:
                    connection = self._tls.wrap_socket(plain, True, do_handshake_on_connect=False)
                    self._open[self._open.index(plain)] = connection
                assert isinstance(connection, ssl.SSLSocket)
                connection.do_handshake()
            self.serve(connection)
        except OSError:  # the peer is gone
            pass
        except Exception:
            self.errors.append(traceback.format_exc())
        finally:
            self.drop(connection)


class Peer:
    """One connection of a `Talker`, counted from 1 by `number`."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection = connection
        self.number = number

    def read(self) -> str:
        """The head of the next request; an OSError at the end of the connection."""
        data = read_head(self.connection)
        if data is None:
            raise ConnectionResetError
        return data.decode("latin-1")

    def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        self.connection.sendall(data)

    def drip(self, data: bytes, interval: float) -> None:
        """Byte by byte, one each interval, again and again; an OSError when the peer is gone."""
        while True:
            for at in range(len(data)):
                self.send(data[at : at + 1])
                if self.gone(interval):
                    raise ConnectionResetError

    def gone(self, seconds: float) -> bool:
        """Whether the peer hangs up within this time."""
        return bool(select.select([self.connection], [], [], seconds)[0])

    def wait_gone(self) -> None:
        """Until the peer hangs up (what it says is not read), or the server is closed."""
        while self.connection.recv(1 << 16):
            pass


class Talker(Server):
    """Does on each connection what a function says."""

    def __init__(
        self,
        talk: Callable[[Peer], None],
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self._talk = talk
        self._peers = 0
        super().__init__(tls, address)

    def url(self, path: str = "/f") -> str:
        """A URL of this server."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"

    def serve(self, connection: socket.socket) -> None:
        with self.changed:
            self._peers += 1
            peer = Peer(connection, self._peers)
        self._talk(peer)


def read_head(connection: socket.socket) -> bytes | None:
    """A head and nothing behind it, or None at the end of the connection."""
    data = bytearray()
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return None
        data += piece
    return bytes(data)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends. Encrypted sockets may hold bytes that no poll shows."""
    pairs = {one: other, other: one}
    while True:
        held = [s for s in pairs if isinstance(s, ssl.SSLSocket) and s.pending()]
        for source in held or select.select(list(pairs), [], [])[0]:
            data = source.recv(1 << 16)
            if not data:
                return
            pairs[source].sendall(data)
