"""A small hostile-capable FTP server of our own: loopback, passive mode only, one thread a connection.

    with FtpServer({"f": content}) as server:                     # honest
        server.replies["SIZE"] = "500 what?"                      # another answer to one command
        server.replies["RETR"] = None                             # none at all
        server.cut = 1000                                         # once, both connections end here

`commands` are all that came, in order; `resumed` tells of each encrypted connection whether it continued a
session. A reply may have several lines; what ends in `+` never ends, in `~` drips; an empty one is the end of
the connection.
"""

import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType

from .net import listen

_PLAIN = {
    "USER": "331 password", "PASS": "230 in", "TYPE": "200 ok", "PBSZ": "200 ok", "PROT": "200 ok",
}  # fmt: skip


class _EndedError(Exception):
    """The conversation is over."""


class FtpServer:
    """The server. It listens at once; use as a context manager or call `close`."""

    def __init__(self, files: dict[str, bytes], tls: ssl.SSLContext | None = None) -> None:
        self.files = files
        self.modified = "20240102030405"
        self.greeting: str | None = "220 ready"
        self.goodbye = "226 done"
        self.address = "127,0,0,1"
        self.replies: dict[str, str | None] = {}
        self.cut: int | None = None
        self.stall: int | None = None
        self.extra = b""
        self.data_port: int | None = None
        self.commands: list[str] = []
        self.resumed: list[bool] = []
        self._tls = tls
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._listener = listen()
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def url(self, path: str, userinfo: str = "", host: str = "127.0.0.1") -> str:
        """The URL of a path."""
        return f"{'ftps' if self._tls else 'ftp'}://{userinfo}{host}:{self.port}/{path}"

    def wait_for(self, start: str, timeout: float = 10.0) -> None:
        """Until a command that starts so has come."""
        with self._changed:
            came = self._changed.wait_for(lambda: any(c.startswith(start) for c in self.commands), timeout)
        assert came, f"no {start}: {self.commands}"

    def close(self) -> None:
        """End every conversation."""
        self._closed.set()
        for sock in [self._listener, *self._sockets]:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def __enter__(self) -> "FtpServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="ftp")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, plain)

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError, _EndedError):
            _Conversation(self, plain).run()

    def secured(self, plain: socket.socket) -> socket.socket:
        """With the encryption of the server, if any, and among those that are closed at the end."""
        self._sockets.append(plain)
        if self._tls is None:
            return plain
        sock = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._sockets[-1] = sock
        sock.do_handshake()
        self.resumed.append(bool(sock.session_reused))
        return sock

    def came(self, command: str) -> None:
        """Record a command."""
        with self._changed:
            self.commands.append(command)
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait a little, or until the test is over."""
        if self._closed.wait(seconds):
            raise _EndedError

    def wait_closed(self) -> None:
        """Until the test is over: what a server does that says nothing."""
        self._closed.wait(60)
        raise _EndedError


class _Conversation:
    """One control connection."""

    def __init__(self, server: FtpServer, plain: socket.socket) -> None:
        self._server = server
        self._control = server.secured(plain)
        self._passive: socket.socket | None = None
        self._rest = 0

    def run(self) -> None:
        try:
            self._say(self._server.greeting)
            with self._control.makefile("r", encoding="utf-8", errors="replace", newline="\r\n") as lines:
                for line in lines:
                    self._obey(line.rstrip("\r\n"))
        finally:
            if self._passive is not None:
                self._passive.close()
            # not the method of an encrypted socket, which would wait for an answer
            with suppress(OSError):
                socket.socket.shutdown(self._control, socket.SHUT_RDWR)

    def _say(self, text: str | None) -> None:
        if text is None:
            self._server.wait_closed()
        assert text is not None
        if text == "":
            raise _EndedError
        while text.endswith("~"):
            self._control.sendall(text[:1].encode())
            self._server.pause(0.02)
        data = (text.rstrip("+").replace("\n", "\r\n") + "\r\n").encode("latin-1")
        self._control.sendall(data)
        while text.endswith("+"):
            self._control.sendall(data * 100)

    def _obey(self, line: str) -> None:
        server = self._server
        server.came(line)
        verb, _, argument = line.partition(" ")
        if verb in ("PASV", "EPSV"):
            self._listen()
        content = server.files.get(argument)
        if verb in server.replies:
            self._say(server.replies[verb])
        elif verb in _PLAIN:
            self._say(_PLAIN[verb])
        elif verb == "REST":
            self._rest = int(argument)
            self._say("350 from there")
        elif verb == "PASV":
            self._say(f"227 passive ({server.address},{self._port >> 8},{self._port & 255})")
        elif verb in ("SIZE", "MDTM", "RETR") and content is None:
            self._say("550 no such file")
        elif verb == "SIZE":
            self._say(f"213 {len(content or b'')}")
        elif verb == "MDTM":
            self._say(f"213 {server.modified}")
        elif verb == "RETR" and content is not None:
            self._send(content)
        else:
            self._say("502 not implemented")

    @property
    def _port(self) -> int:
        assert self._passive is not None
        return self._server.data_port or int(self._passive.getsockname()[1])

    def _listen(self) -> None:
        if self._passive is not None:
            self._passive.close()
        self._passive = listen()

    def _send(self, content: bytes) -> None:
        server = self._server
        assert self._passive is not None
        plain, _ = self._passive.accept()
        self._say("150 here it comes")
        data = server.secured(plain)
        rest = content[self._rest :] + server.extra
        self._rest = 0
        cut, server.cut = server.cut, None
        data.sendall(rest[: server.stall if cut is None else cut])
        if server.stall is not None:
            server.wait_closed()
        data.close()
        if cut is not None:
            raise _EndedError
        self._say(server.goodbye)
