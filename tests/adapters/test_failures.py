"""Every exception gets a code: those that libraries really raise, as deep in each other as they come."""

import errno
import http.client
import os
import socket
import ssl
from email.message import Message
from typing import Any

import pytest
import urllib3.exceptions

from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.failures import classify, status_error
from fetchd.daemon.transfer.sink import SinkError
from fetchd.protocol.errors import Code


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def inside(cause: BaseException, *outer: type[Exception]) -> BaseException:
    """An error as `urllib3` hands it on: raised from, or with the cause as an argument."""
    for kind in outer:
        error = kind("Connection broken", cause)
        error.__context__ = cause
        cause = error
    return cause


WRAPPED = (urllib3.exceptions.ProtocolError, urllib3.exceptions.HTTPError)
POOL: Any = None
TABLE: list[tuple[str, BaseException, Code]] = [
    ("unknown host", inside(socket.gaierror(-2, "Name or service not known"), *WRAPPED), Code.DNS),
    ("a host that cannot be encoded", UnicodeError("label too long"), Code.DNS),
    ("refused", inside(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), *WRAPPED), Code.CONNECT),
    ("no route", inside(system(errno.EHOSTUNREACH), *WRAPPED), Code.CONNECT),
    ("no network", inside(system(errno.ENETUNREACH), *WRAPPED), Code.CONNECT),
    ("no descriptor left", inside(system(errno.EMFILE), *WRAPPED), Code.CONNECT),
    ("no memory for a socket", inside(system(errno.ENOBUFS), *WRAPPED), Code.CONNECT),
    ("timeout of the kernel", inside(TimeoutError(errno.ETIMEDOUT, "timed out"), *WRAPPED), Code.TIMEOUT),
    ("timeout of a read", urllib3.exceptions.ReadTimeoutError(POOL, "/", "read"), Code.TIMEOUT),
    ("timeout of a connect", urllib3.exceptions.ConnectTimeoutError(POOL, "connect"), Code.TIMEOUT),
    ("reset", inside(ConnectionResetError(errno.ECONNRESET, "reset"), *WRAPPED), Code.RESET),
    ("pipe", inside(BrokenPipeError(errno.EPIPE, "pipe"), *WRAPPED), Code.RESET),
    ("shut down", inside(system(errno.ENOTCONN), *WRAPPED), Code.RESET),
    ("no answer", inside(http.client.RemoteDisconnected("closed"), *WRAPPED), Code.RESET),
    ("short", inside(http.client.IncompleteRead(b"", 5), *WRAPPED), Code.SHORT_BODY),
    ("short, counted", inside(urllib3.exceptions.IncompleteRead(3, 5), *WRAPPED), Code.SHORT_BODY),
    ("bad status line", inside(http.client.BadStatusLine("x"), *WRAPPED), Code.BAD_RESPONSE),
    ("long line", inside(http.client.LineTooLong("header"), *WRAPPED), Code.BAD_RESPONSE),
    ("two lengths", inside(urllib3.exceptions.InvalidHeader("x"), urllib3.exceptions.HTTPError),
     Code.BAD_RESPONSE),
    ("huge length", OverflowError("int too large"), Code.BAD_RESPONSE),
    ("TLS", inside(ssl.SSLError(1, "wrong version number"), *WRAPPED), Code.TLS),
    ("TLS cut off", inside(ssl.SSLEOFError(8, "EOF occurred"), *WRAPPED), Code.TLS),
    ("certificate", inside(ssl.SSLCertVerificationError(1, "verify failed"), urllib3.exceptions.SSLError),
     Code.TLS_CERT),
    ("a long label", urllib3.exceptions.LocationParseError("'a', label empty or too long"), Code.DNS),
    ("a proxy that refuses", urllib3.exceptions.ProxyError("x", system(errno.ECONNREFUSED)), Code.PROXY),
    ("a tunnel", OSError("Tunnel connection failed: 502 Bad Gateway"), Code.PROXY),
    ("a tunnel without a key", OSError("Tunnel connection failed: 407 Who?"), Code.UNAUTHORIZED),
    ("location", inside(urllib3.exceptions.LocationParseError("x"), urllib3.exceptions.HTTPError),
     Code.INVALID_URL),
    ("full disk", system(errno.ENOSPC), Code.DISK_FULL),
    ("quota", system(errno.EDQUOT), Code.DISK_FULL),
    ("broken disk", system(errno.EIO), Code.IO_ERROR),
    ("the sink", inside(SinkError(Code.DISK_FULL, "full"), *WRAPPED), Code.DISK_FULL),
    ("a code of its own", inside(TransferError(Code.GONE, "gone"), *WRAPPED), Code.GONE),
    ("anything else", KeyError("x"), Code.INTERNAL),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_codes(error: BaseException, code: Code) -> None:
    found = classify(error)
    assert found.code is code
    assert found.message.isprintable()


def test_messages_are_short_and_printable() -> None:
    assert classify(KeyError("\x1b[31m\udcff" + "x" * 9000)).message.isprintable()
    assert len(classify(KeyError("x" * 9000)).message) < 1000


def test_errors_that_contain_themselves() -> None:
    error = urllib3.exceptions.HTTPError("x")
    error.args = (error, error)
    error.__context__ = error
    assert classify(error).code is Code.INTERNAL


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (100, Code.BAD_RESPONSE), (204, Code.BAD_RESPONSE), (304, Code.BAD_RESPONSE), (400, Code.HTTP_ERROR),
        (401, Code.UNAUTHORIZED), (403, Code.FORBIDDEN), (404, Code.NOT_FOUND), (407, Code.UNAUTHORIZED),
        (408, Code.SERVER_ERROR), (410, Code.GONE), (425, Code.SERVER_ERROR), (429, Code.RATE_LIMITED),
        (451, Code.HTTP_ERROR), (500, Code.SERVER_ERROR), (503, Code.UNAVAILABLE), (524, Code.SERVER_ERROR),
        (600, Code.BAD_RESPONSE), (999, Code.BAD_RESPONSE),
    ],
)  # fmt: skip
def test_statuses(status: int, code: Code) -> None:
    headers = Message()
    headers["Retry-After"] = "7"
    error = status_error(status, "Some\x1b Reason", headers)
    assert error.code is code
    assert error.retry_after == (7.0 if status in (429, 503) else None)
    assert error.message == f"{status} Some Reason"
