"""FTP and FTPS (implicit TLS) by the standard library's `ftplib`: one file, passive mode, one connection.

RFC 959, 2428 (EPSV), 3659 (SIZE, MDTM, REST), 4217 (PBSZ, PROT). Octets of a URL's path go out as they are,
the server's words come in as ISO-8859-1, so that no reply is undecodable. FTP has no validator: what was kept
is continued where size and modification time are both known and unchanged, or where a checksum will tell.
"""

import ftplib
import re
import socket
import ssl
import time
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from fetchd.protocol import urls
from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.mailbox import Assign, Validator

from .api import Context, NotModifiedError, Transfer, TransferError
from .dial import dial
from .failures import classify
from .sink import Stripe

CHUNK = 256 << 10
MAX_REPLY = 65_536
"""Most characters of one reply, all its lines together."""

REPLY_SECONDS = 120.0
"""Longest time for one reply, however it drips."""

ANONYMOUS = ("anonymous", "anonymous@")

_REPLIES = {
    "421": Code.UNAVAILABLE, "426": Code.SHORT_BODY, "430": Code.UNAUTHORIZED, "530": Code.UNAUTHORIZED,
    "532": Code.UNAUTHORIZED, "550": Code.NOT_FOUND,
}  # fmt: skip
_TYPE = re.compile(r";type=([aid])\Z", re.IGNORECASE)
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.\d{1,9})?")


class _Lines:
    """Lines of a control connection; they have to be there until `until` (monotonic seconds)."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.until = 0.0
        self._sock = sock
        self._timeout = timeout
        self._buffer = b""

    def readline(self, limit: int) -> str:
        """The next line with its end, cut at `limit`; without one where the connection ends."""
        while b"\n" not in self._buffer and len(self._buffer) < limit:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TransferError(Code.TIMEOUT, f"a reply takes longer than {REPLY_SECONDS:g} s")
            self._sock.settimeout(min(self._timeout, left))
            received = self._sock.recv(4096)
            self._sock.settimeout(self._timeout)
            if not received:
                break
            self._buffer += received
        end = self._buffer.find(b"\n", 0, limit) + 1 or limit
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line.decode("latin-1")

    def close(self) -> None:
        """The connection closes its sockets itself."""


class _Connection(ftplib.FTP):
    """A control connection whose replies are bounded and whose sockets can be shut from another thread."""

    def __init__(self, context: Context, tls: ssl.SSLContext | None) -> None:
        super().__init__(timeout=context.task.connect_timeout, encoding="latin-1")
        self.trust_server_pasv_ipv4_address = False
        self._context = context
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._room = MAX_REPLY

    def open(self, host: str, port: int) -> None:
        """Connect and read the greeting."""
        self.host, self.port = host, port
        task = self._context.task
        plain = dial(host, port, task.connect_timeout, task.network, self._sockets.append)
        self.sock = self._prepared(plain)
        self.af = self.sock.family
        self.file = self._lines = _Lines(self.sock, self._context.task.read_timeout)  # type: ignore[assignment]
        self.welcome = self.getresp()

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """Open the data connection, ready to be read."""
        plain, size = super().ntransfercmd(cmd, rest)
        return self._prepared(plain), size

    def makepasv(self) -> tuple[str, int]:
        """Where the data connection goes: to the server that we speak to, whatever address the reply has."""
        host, port = super().makepasv()
        if not 0 < port < 65536:
            # the resolver would take the port modulo 65536
            raise TransferError(Code.BAD_RESPONSE, f"{port} is no port")
        return host, port

    def abort_all(self) -> None:
        """Make whatever waits for the server return. Called from another thread."""
        for sock in self._sockets:
            try:
                # not the method of an encrypted socket: that would have it go on reading without decrypting
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Close every socket; without a word, because a server need not answer to QUIT."""
        super().close()
        for sock in self._sockets:
            sock.close()

    def getline(self) -> str:
        """One line of a reply."""
        line = super().getline()
        self._room -= len(line) + 1
        if self._room < 0:
            raise TransferError(Code.BAD_RESPONSE, "a reply that does not end")
        return line

    def getmultiline(self) -> str:
        """One reply."""
        self._room, self._lines.until = MAX_REPLY, time.monotonic() + REPLY_SECONDS
        return super().getmultiline()

    def _prepared(self, plain: socket.socket) -> socket.socket:
        """A connected socket with its timeout, its encryption, and a place among those that are shut."""
        sock = plain
        plain.settimeout(self._context.task.read_timeout)
        if self._tls is not None:
            # data connections have to resume the session of the control connection: many servers want that
            session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
            sock = self._tls.wrap_socket(
                plain, server_hostname=self.host, do_handshake_on_connect=False, session=session
            )
        self._sockets.append(sock)
        # a stop may have come before it was in the list
        self._context.check()
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        return sock


class Ftp(Transfer):
    """The transfer of `ftp:` and `ftps:`. Nothing is kept from one attempt to the next."""

    def run(self, context: Context) -> int:
        try:
            _check_possible(context.task)
            parts = urls.split_url(context.task.url)
            scheme = parts.scheme.lower()
            connection = _Connection(context, _tls(context) if scheme == "ftps" else None)
            context.speaks_to(urls.origin(context.task.url))
            try:
                with context.abortable(connection.abort_all):
                    connection.open(parts.hostname or "", parts.port or urls.DEFAULT_PORTS[scheme])
                    return _fetch(context, connection)
            finally:
                connection.close()
        except (TransferError, NotModifiedError):
            context.check()
            raise
        except Exception as error:
            context.check()
            raise _classified(error) from error

    def close(self) -> None:
        pass


def _fetch(context: Context, connection: _Connection) -> int:
    task, path = context.task, _path(context.task.url)
    _log_in(connection, task)
    total, modified = _size(connection, path), _asked(connection, f"MDTM {path}")
    when = _micros(modified)
    if task.newer_than is not None and when is not None and when <= task.newer_than:
        raise NotModifiedError
    _check_size(task, total)
    validator = Validator(last_modified=modified if when is not None else None)
    offset = _offset(context, connection, validator, total)
    # a file that is all there is not asked for again; an empty one is, for it may not exist
    data = None if offset and offset == total else connection.ntransfercmd(f"RETR {path}", offset or None)[0]
    context.responded(
        status=150,
        url=_bare(task.url),
        total=total,
        kept=offset,
        validator=validator,
        disposition=None,
        modified=when,
    )
    context.sink.begin(validator, total, context.task.generation, ((0, offset),) if offset else ())
    if data is not None:
        # there is none of an empty file
        stripe = context.sink.stripe(connection)
        _copy(context, data, stripe, total)
        if total is None:
            # the end of a connection says nothing by itself
            connection.voidresp()
    return context.sink.finish()


def _copy(context: Context, data: socket.socket, stripe: Stripe | None, total: int | None) -> None:
    view = memoryview(bytearray(CHUNK))
    while count := data.recv_into(view[: (allowed := context.pace(CHUNK))]):
        context.check()
        if stripe is None or (total is not None and stripe.position + count > total):
            raise TransferError(Code.BAD_RESPONSE, "the server sent more than it announced")
        stripe.write(view[:count])
        context.received(count, allowed)
    context.check()
    data.close()
    if stripe is not None and total is not None and stripe.position != total:
        raise TransferError(Code.SHORT_BODY, f"the file ended after {stripe.position} of {total} bytes")


def _log_in(connection: _Connection, task: Assign) -> None:
    user, password = (_wire(text) for text in urls.userinfo(task.url) or task.credentials or ANONYMOUS)
    connection.login(user, password)
    if urls.split_url(task.url).scheme.lower() == "ftps":
        connection.voidcmd("PBSZ 0")
        connection.voidcmd("PROT P")
    connection.voidcmd("TYPE I")


def _offset(context: Context, connection: _Connection, validator: Validator, total: int | None) -> int:
    """How many kept bytes stay; where they cannot, the attempt has been restarted."""
    task = context.task
    offset = task.have[0][1] if task.have and task.have[0][0] == 0 else 0
    if offset == 0:
        if task.have:
            # they are about to be overwritten, and the row says that they were synced
            context.restart("what is kept does not begin at the start")
        return 0
    pairs = ((task.validator.last_modified, validator.last_modified), (task.total, total))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs) or offset > (total or MAX_INT):
        why = "the file has changed"
    elif task.checksum is None and any(None in pair for pair in pairs):
        why = "size and time do not tell whether it is the same file, and there is no checksum"
    elif not task.ranges or (offset != total and not _may_resume(connection, offset)):
        why = "the server cannot resume"
    else:
        return offset
    context.restart(why)
    return 0


def _may_resume(connection: _Connection, offset: int) -> bool:
    try:
        connection.sendcmd(f"REST {offset}")
    except ftplib.error_perm:
        return False
    return True


def _size(connection: _Connection, path: str) -> int | None:
    text = _asked(connection, f"SIZE {path}")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > MAX_INT:
        raise TransferError(Code.BAD_RESPONSE, "the size of the file is not a number")
    return int(text)


def _asked(connection: _Connection, command: str) -> str | None:
    """What the server answers to SIZE or MDTM, or None where it does not; RETR will say why."""
    try:
        reply = connection.sendcmd(command)
    except ftplib.error_perm:
        return None
    return reply[3:].strip()[:64] if reply.startswith("213") else None


def _micros(text: str | None) -> int | None:
    """A time of RFC 3659 section 2.3 in µs UTC."""
    match = _TIME.fullmatch(text or "")
    if match is None:
        return None
    try:
        seconds = datetime(*map(int, match.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    return int(seconds) * 1_000_000 if seconds >= 0 else None


def _place(url: str) -> str:
    """The path in a URL: FTP has no queries, and `;type=` is none of it (RFC 1738 section 3.2)."""
    parts = urls.split_url(url)
    return _TYPE.sub("", parts.path + ("%3F" + parts.query if parts.query else ""))


def _path(url: str) -> str:
    """The path as it goes over the wire, relative to where the login leads; `%2F` in front is the root."""
    path = unquote_to_bytes(_place(url)[1:]).decode("latin-1")
    if not path or path.endswith("/"):
        raise TransferError(Code.INVALID_URL, "the URL names a directory")
    return _checked(path)


def _wire(text: str) -> str:
    return _checked(text.encode("utf-8", "surrogateescape").decode("latin-1"))


def _checked(text: str) -> str:
    """Nothing that would end the line, and with it begin another command."""
    if any(c in text for c in "\r\n\0"):
        raise TransferError(Code.INVALID_URL, "line breaks and NUL cannot be sent to an FTP server")
    return text


def _bare(url: str) -> str:
    """The URL without userinfo and type: its last segment is the file's name."""
    parts = urls.split_url(url)
    netloc = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=netloc, path=_place(url), query="", fragment="").geturl()


def _check_possible(task: Assign) -> None:
    if task.proxy:
        raise TransferError(Code.PROXY, "FTP does not go through a proxy")
    if task.client_certificate:
        raise TransferError(Code.CLIENT_CERT, "FTP does not use client certificates")


def _check_size(task: Assign, size: int | None) -> None:
    if task.max_size is not None and size is not None and size > task.max_size:
        raise TransferError(Code.FILE_TOO_LARGE, f"more than {task.max_size} bytes")


def _tls(context: Context) -> ssl.SSLContext:
    task = context.task
    made = ssl.create_default_context(cafile=None if task.ca else context.ca_bundle or None, cadata=task.ca)
    if task.options.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _classified(error: Exception) -> TransferError:
    match error:
        case FetchdError():
            return TransferError(error.code, error.message)
        case ftplib.error_perm() | ftplib.error_temp():
            text = str(error)
            other = Code.HTTP_ERROR if isinstance(error, ftplib.error_perm) else Code.SERVER_ERROR
            return TransferError(_REPLIES.get(text[:3], other), _words(text))
        case ftplib.Error():
            return TransferError(Code.BAD_RESPONSE, _words(str(error)))
        case EOFError():
            return TransferError(Code.RESET, "the server closed the connection")
    return classify(error)


def _words(text: str) -> str:
    """What the server said, short and printable."""
    decoded = text[:500].encode("latin-1", "replace").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in decoded)
