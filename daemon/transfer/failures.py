"""From exceptions and statuses to error codes. Nothing that a server or a library does escapes uncoded."""

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from email.message import Message

import urllib3.exceptions

from fetchd.protocol.errors import Code

from . import plan
from .api import TransferError
from .sink import SinkError

_STATUS = {
    401: Code.UNAUTHORIZED, 407: Code.UNAUTHORIZED, 403: Code.FORBIDDEN, 404: Code.NOT_FOUND, 410: Code.GONE,
    408: Code.SERVER_ERROR, 425: Code.SERVER_ERROR, 429: Code.RATE_LIMITED, 503: Code.UNAVAILABLE,
}  # fmt: skip

_UNREACHABLE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EACCES,
     errno.EPERM, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
)  # fmt: skip
_TUNNEL = re.compile(r"Tunnel connection failed: (\d+)")
_BROKEN = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN})


def status_error(status: int, reason: str | None, headers: Message) -> TransferError:
    """The error for a final status without a body for us."""
    if status in _STATUS:
        code = _STATUS[status]
    elif 400 <= status < 500:
        code = Code.HTTP_ERROR
    elif 500 <= status < 600:
        code = Code.SERVER_ERROR
    else:
        code = Code.BAD_RESPONSE
    text = "".join(c for c in (reason or "")[:200] if c.isprintable())
    asked = (
        plan.retry_after(headers.get("retry-after"), headers.get("date")) if status in (429, 503) else None
    )
    return TransferError(code, f"{status} {text}".strip(), asked)


def classify(error: BaseException) -> TransferError:
    """The error code for any exception of `urllib3` and what lies below it."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, TransferError):
            return cause
        if isinstance(cause, SinkError):
            return TransferError(cause.code, cause.message)
    if (code := _proxy_code(chain)) is not None:
        return TransferError(code, _text(chain[0]))
    for cause in chain:
        if (code := _code(cause)) is not None:
            return TransferError(code, _text(cause))
    return TransferError(Code.INTERNAL, f"{type(error).__name__}: {_text(error)}")


def _proxy_code(chain: list[BaseException]) -> Code | None:
    """The code where a proxy is to blame, whatever the causes are called."""
    for cause in chain:
        if isinstance(cause, OSError) and (refused := _TUNNEL.match(str(cause))) is not None:
            # http.client says no more about a proxy's answer
            return Code.UNAUTHORIZED if refused[1] == "407" else Code.PROXY
    # PySocks may not be there
    socks = {type(cause).__name__ for cause in chain if type(cause).__module__ == "socks"}
    if any("Auth" in name for name in socks):
        return Code.UNAUTHORIZED
    if socks and any(isinstance(cause, socket.gaierror) for cause in chain):
        return Code.DNS
    if socks or any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in chain):
        return Code.PROXY
    return None


def _code(error: BaseException) -> Code | None:
    match error:
        case ssl.SSLCertVerificationError():
            return Code.TLS_CERT
        case urllib3.exceptions.NameResolutionError() | socket.gaierror() | UnicodeError():
            return Code.DNS
        case urllib3.exceptions.IncompleteRead() | http.client.IncompleteRead():
            return Code.SHORT_BODY
        case TimeoutError() | urllib3.exceptions.TimeoutError():
            return Code.TIMEOUT
        case http.client.RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
            return Code.RESET
        case ssl.SSLError():
            return Code.TLS
        case http.client.HTTPException() | urllib3.exceptions.InvalidChunkLength() | OverflowError():
            return Code.BAD_RESPONSE
        case urllib3.exceptions.InvalidHeader():
            # the server's; what we send has been checked
            return Code.BAD_RESPONSE
        case urllib3.exceptions.LocationParseError() if "label empty or too long" in str(error):
            return Code.DNS
        case urllib3.exceptions.LocationValueError():
            return Code.INVALID_URL
        case OSError() if error.errno in _BROKEN:
            return Code.RESET
        case OSError() if error.errno in _UNREACHABLE:
            return Code.CONNECT
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Code.DISK_FULL
        case OSError() if isinstance(error.errno, int):
            return Code.IO_ERROR
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The deepest cause first: it says most exactly what happened."""
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        item = todo.pop()
        if not isinstance(item, BaseException) or any(item is other for other in seen) or len(seen) > 50:
            continue
        seen.append(item)
        context = None if item.__suppress_context__ else item.__context__
        todo += [item.__cause__, context, getattr(item, "reason", None), *item.args]
    return reversed(seen)


def _text(error: BaseException) -> str:
    """A cause in words, short and printable; a library's nested reprs say less."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in str(text))[:500]
