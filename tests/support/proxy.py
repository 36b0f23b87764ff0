"""Proxies of our own: HTTP (absolute-form GET and CONNECT) and SOCKS5, which record what they saw.

All names lead to `to` where that is given, so that a test can use any host name.
"""

import socket
import ssl
import struct
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .serving import Server, read_head, relay


@dataclass(frozen=True)
class Seen:
    """One request to a proxy: `method` is GET, CONNECT or SOCKS; `target` as it was sent."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    names: tuple[str, ...] = ()
    """The same, in order, repeated ones too."""
    user: tuple[str, str] | None = None
    """Credentials of SOCKS."""


class HttpProxy(Server):
    """An HTTP proxy. `refuse` is a status for everything, `hang`: it never answers; `auth`: it wants these.

    Each connection to an origin ends with the answer, as those of many proxies do.
    """

    def __init__(
        self,
        *,
        auth: tuple[str, str] | None = None,
        refuse: int | None = None,
        hang: bool = False,
        to: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self._auth = auth
        self._refuse = refuse
        self._hang = hang
        self._to = to
        super().__init__(tls)

    def url(self, userinfo: str = "", host: str = "127.0.0.1") -> str:
        """Where it is, with credentials in front."""
        return f"{'https' if self._tls else 'http'}://{userinfo and userinfo + '@'}{host}:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        head = read_head(connection)
        if head is None:
            return
        line, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        pairs = [(name.lower(), value.strip()) for name, _, value in (text.partition(":") for text in rest)]
        self.seen.append(Seen(method, target, dict(pairs), tuple(name for name, _ in pairs)))
        if self._hang:
            connection.recv(1)
        elif self._auth is not None and dict(pairs).get("proxy-authorization") != self._wanted():
            self._say(connection, "407 Who Are You", 'Proxy-Authenticate: Basic realm="test"\r\n')
        elif self._refuse is not None:
            self._say(connection, f"{self._refuse} No")
        elif method == "CONNECT":
            host, _, port = target.rpartition(":")
            other = self._dial(host.strip("[]"), int(port))
            connection.sendall(b"HTTP/1.1 200 Connected\r\nX-Proxy: test\r\n\r\n")
            self._relay(connection, other)
        else:
            self._forward(connection, method, target, rest)

    def _wanted(self) -> str:
        assert self._auth is not None
        return "Basic " + b64encode(":".join(self._auth).encode()).decode()

    def _say(self, connection: socket.socket, status: str, headers: str = "") -> None:
        body = "the proxy says no"
        connection.sendall(
            f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def _forward(self, connection: socket.socket, method: str, target: str, headers: list[str]) -> None:
        parts = urlsplit(target)
        other = self._dial(parts.hostname or "", parts.port or 80)
        own = ("proxy-", "connection:")
        lines = [text for text in headers if not text.lower().startswith(own)]
        path = parts._replace(scheme="", netloc="").geturl() or "/"
        head = [f"{method} {path} HTTP/1.1", *lines, "Connection: close", "", ""]
        other.sendall("\r\n".join(head).encode("latin-1"))
        self._relay(connection, other)

    def _dial(self, host: str, port: int) -> socket.socket:
        return self.dial(host, port) if self._to is None else self.dial("127.0.0.1", self._to)

    def _relay(self, connection: socket.socket, other: socket.socket) -> None:
        try:
            relay(connection, other)
        finally:
            self.drop(other)


class SocksProxy(Server):
    """A SOCKS5 proxy (RFC 1928, 1929). `auth`: it wants these; `refuse` is an error code of the RFC."""

    def __init__(
        self,
        *,
        auth: tuple[str, str] | None = None,
        refuse: int | None = None,
        hang: bool = False,
        to: int | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self._auth = auth
        self._refuse = refuse
        self._hang = hang
        self._to = to
        super().__init__()

    def url(self, userinfo: str = "", scheme: str = "socks5") -> str:
        """Where it is, with credentials in front."""
        return f"{scheme}://{userinfo and userinfo + '@'}127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        if self._hang:
            connection.recv(1 << 10)
            connection.recv(1 << 10)
            return
        _, count = _exactly(connection, 2)
        methods = _exactly(connection, count)
        user = None
        if self._auth is not None:
            if 2 not in methods:
                connection.sendall(b"\x05\xff")
                return
            connection.sendall(b"\x05\x02")
            _exactly(connection, 1)
            name, word = (_exactly(connection, _exactly(connection, 1)[0]).decode() for _ in range(2))
            user = (name, word)
            connection.sendall(b"\x01\x00" if user == self._auth else b"\x01\x01")
            if user != self._auth:
                return
        else:
            connection.sendall(b"\x05\x00")
        _, _, _, kind = _exactly(connection, 4)
        if kind == 3:
            host = _exactly(connection, _exactly(connection, 1)[0]).decode()
        elif kind == 1:
            host = socket.inet_ntop(socket.AF_INET, _exactly(connection, 4))
        else:
            host = socket.inet_ntop(socket.AF_INET6, _exactly(connection, 16))
        (port,) = struct.unpack("!H", _exactly(connection, 2))
        self.seen.append(Seen("SOCKS", f"{host}:{port}", user=user))
        if self._refuse is not None:
            connection.sendall(bytes([5, self._refuse, 0, 1]) + bytes(6))
            return
        other = self.dial("127.0.0.1" if self._to else host, self._to or port)
        connection.sendall(bytes([5, 0, 0, 1]) + bytes(6))
        try:
            relay(connection, other)
        finally:
            self.drop(other)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data
