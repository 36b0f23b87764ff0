"""Connections to servers and proxies, kept for the next request, and what proves who they are.

`urllib3` dials, encrypts and pools; its connections are given our header gate, and tell which socket they
wait at. `requests` is not in the way of a request: its session costs twice what the pools below it do.
"""

import contextlib
import fcntl
import logging
import os
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from fetchd.protocol import urls
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Assign, Network

from . import gate
from .api import TransferError
from .dial import dial
from .policy import check_address, check_name

POOLS = 3
"""Hosts whose connections are kept."""

HOSTED = 32
"""Connections that are kept to one host."""

# whoever asks for no certificate to be checked is told so once, by us
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


class Wait:
    """One request's wait for a head of up to `seconds`. `fresh`: its connection has been made for it."""

    def __init__(self, seconds: float, rules: Network) -> None:
        self.seconds = seconds
        self.rules = rules
        self.fresh = False

    def dialled(self, sock: socket.socket) -> None:
        """A connection is about to be made; a proxy or encryption may come before the request."""

    def sent(self, connection: "Connection") -> None:
        """The request has been sent, its answer is waited for."""


_waiting = threading.local()


# it quotes whole URLs where it warns of headers, and a worker's stderr is the daemon's log
logging.getLogger("urllib3").setLevel("CRITICAL")


class _Mixin:
    """What both kinds of connection add: the gate, and their socket to whoever asked for this thread."""

    sock: Any
    answering: Any = None
    latest: gate.Response
    _tunnelling = False

    def response_class(self, sock: socket.socket, *args: Any, **options: Any) -> gate.Response:
        # the connection lets go of its socket where the answer is the last one
        self.answering = sock
        self.latest = gate.Response(sock, *args, **options)
        wait = _current()
        if wait is not None:
            self.latest.seconds = wait.seconds
        if self._tunnelling:
            self.latest.guard()
        return self.latest

    def _new_conn(self) -> socket.socket:
        wait = _current()
        assert wait is not None, "requests are made in `waiting`"
        wait.fresh = True
        return self._dial(wait)

    def _dial(self, wait: Wait) -> socket.socket:
        connection = cast(Connection, self)
        try:
            return dial(connection._dns_host, connection.port, connection.timeout, wait.rules, wait.dialled)
        except socket.gaierror as error:
            raise NameResolutionError(connection.host, connection, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, f"no connection to {connection.host} in time") from error
        except OSError as error:
            raise NewConnectionError(connection, f"no connection: {error}") from error

    def _tunnel(self) -> None:
        self._tunnelling = True
        try:
            super()._tunnel()  # type: ignore[misc]
        finally:
            self._tunnelling = False

    def getresponse(self) -> Any:
        if (wait := _current()) is not None:
            wait.sent(cast(Connection, self))
        return super().getresponse()  # type: ignore[misc]


def _current() -> Wait | None:
    return getattr(_waiting, "wait", None)


class Plain(_Mixin, HTTPConnection):  # type: ignore[misc]  # a method takes the place of a class
    """A plain connection."""


class Encrypted(_Mixin, HTTPSConnection):  # type: ignore[misc]
    """An encrypted one."""


class _Socks(_Mixin):
    """What connections through a SOCKS proxy add: the proxy's address is judged, and that one is used."""

    _socks_options: dict[str, Any]

    def _dial(self, wait: Wait) -> socket.socket:
        options = self._socks_options
        host, port = options["proxy_host"], options["proxy_port"]
        check_name(wait.rules, host, port)
        address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        check_address(wait.rules, host, address)
        self._socks_options = {**options, "proxy_host": address}
        sock: socket.socket = super(_Mixin, self)._new_conn()  # type: ignore[misc]
        wait.dialled(sock)
        return sock


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = Plain


class _EncryptedPool(HTTPSConnectionPool):
    ConnectionCls = Encrypted


Connection = Plain | Encrypted


@contextlib.contextmanager
def waiting(wait: Wait) -> Iterator[None]:
    """In this block `wait` hears of the connection of this thread."""
    _waiting.wait = wait
    try:
        yield
    finally:
        _waiting.wait = None


class Managers:
    """The pools of one worker: those for one proxy, and for what proves who the two sides are, at a time.

    A worker seldom needs others, and idle connections of all kinds together would be more than it may have.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._manager: Any = None
        self._lock = threading.Lock()

    def find(self, url: str, task: Assign, ca_bundle: str) -> Any:
        """The pools for this task (a `PoolManager`), fit for this URL.

        Raises `tls` where no certificates can be read, `client_cert`, and `proxy` where SOCKS is not there.
        """
        key = (task.proxy, ca_bundle, task.ca, task.client_certificate, task.options.insecure)
        with self._lock:
            if key != self._key:
                self.close()
                self._manager, self._key = _manager(task, ca_bundle), key
            manager = self._manager
            if urls.scheme(url) == "https" and "ssl_context" not in manager.connection_pool_kw:
                # only now: reading a bundle of authorities takes 20 ms and more
                manager.connection_pool_kw["ssl_context"] = tls_context(task, ca_bundle)
            return manager

    def close(self) -> None:
        if self._manager is not None:
            self._manager.clear()
        self._key = self._manager = None


def _manager(task: Assign, ca_bundle: str) -> Any:
    options: dict[str, Any] = {"num_pools": POOLS, "maxsize": HOSTED, "block": False}
    proxy = task.proxy
    if proxy is not None and proxy.startswith("socks"):
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError:
            raise TransferError(Code.PROXY, "a SOCKS proxy needs: pip install 'fetchd[socks]'") from None
        manager: Any = SOCKSProxyManager(proxy, **options)
        manager.pool_classes_by_scheme = _behind_socks(manager.pool_classes_by_scheme)
        return manager
    if proxy is None:
        manager = urllib3.PoolManager(**options)
    else:
        if proxy.startswith("https:"):
            options["proxy_ssl_context"] = tls_context(task, ca_bundle)
        pair = urls.userinfo(proxy)
        headers = None if pair is None else {"Proxy-Authorization": basic(pair)}
        manager = urllib3.ProxyManager(_without_userinfo(proxy), proxy_headers=headers, **options)
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}
    return manager


def _behind_socks(pools: dict[str, Any]) -> dict[str, Any]:
    """Pools of connections through a SOCKS proxy, with our mixin."""
    found = {}
    for scheme, pool in pools.items():
        connection = type("Socks", (_Socks, pool.ConnectionCls), {})
        found[scheme] = type("SocksPool", (pool,), {"ConnectionCls": connection})
    return found


_known: dict[tuple[object, ...], ssl.SSLContext] = {}
"""By the file that its authorities were read from, as it was then."""


def read_authorities(ca_bundle: str) -> None:
    """Read a bundle once, in the fork server: it takes 30 ms and more, and workers share what comes of it.

    One that cannot be read is left to them.
    """
    context: ssl.SSLContext = urllib3.util.ssl_.create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    with contextlib.suppress(OSError, ValueError):
        file = _identity(ca_bundle)
        context.load_verify_locations(cafile=ca_bundle)
        _known[file] = context


def _identity(path: str) -> tuple[object, ...]:
    found = os.stat(path)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def tls_context(task: Assign, ca_bundle: str) -> ssl.SSLContext:
    """What a task trusts, and how it shows who it is itself."""
    if task.ca is None and task.client_certificate is None and not task.options.insecure:
        with contextlib.suppress(OSError):
            if (known := _known.get(_identity(ca_bundle))) is not None:
                return known
    context: ssl.SSLContext = urllib3.util.ssl_.create_urllib3_context()
    if task.options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            if task.ca is not None:
                context.load_verify_locations(cadata=task.ca)
            else:
                context.load_verify_locations(cafile=ca_bundle or _bundled())
        except (OSError, ValueError) as error:
            where = "of the job" if task.ca is not None else ca_bundle
            text = f"the certificates {where} cannot be read: {getattr(error, 'strerror', None) or error}"
            raise TransferError(Code.TLS, text) from None
    if task.client_certificate is not None:
        _load_chain(context, task.client_certificate)
    return context


PIPE = 1 << 16
"""Bytes that a pipe holds in any case (pipe(7))."""


def _load_chain(context: ssl.SSLContext, text: str) -> None:
    """The ssl module takes it from files only, one for the chain and one for the key: here two pipes."""
    with contextlib.ExitStack() as pipes:
        try:
            chain, key = (f"/dev/fd/{_filled(text.encode(), pipes)}" for _ in range(2))
            # a password cannot be asked for: without the argument the terminal would be
            context.load_cert_chain(chain, key, password=lambda: b"")
        except (OSError, ValueError) as error:
            text = f"the client certificate cannot be used: {getattr(error, 'reason', None) or error}"
            raise TransferError(Code.CLIENT_CERT, text) from None


def _filled(content: bytes, pipes: contextlib.ExitStack) -> int:
    """The reading end of a pipe that holds all of the content."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pipes.callback(os.close, reading)
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, max(len(content), PIPE))
        if os.write(writing, content) != len(content):
            raise ValueError("it is too large")
    finally:
        os.close(writing)
    return reading


def _bundled() -> str:
    """The authorities that come with requests, for machines that have none."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return DEFAULT_CA_BUNDLE_PATH


def basic(pair: tuple[str, str]) -> str:
    """Credentials as the value of a header (RFC 7617)."""
    return "Basic " + b64encode(":".join(pair).encode()).decode()


def _without_userinfo(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def shut(sock: Any) -> None:
    """Make whoever waits at this socket return."""
    while sock is not None and not isinstance(sock, socket.socket):
        # encryption within encryption is no socket, but has one
        sock = getattr(sock, "socket", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            # not the method of an encrypted socket: that would have it go on reading without decrypting
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
