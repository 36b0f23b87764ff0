"""Connections: the one place where a transfer's sockets are made. The address is judged, then used.

A stop shuts a socket that is still being connected, so that nobody waits for the time-out.
"""

import socket
from collections.abc import Callable
from typing import Any

from fetchd.protocol.mailbox import Network

from .policy import check_address, check_name

NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def dial(
    host: str, port: int, timeout: float | None, rules: Network, opened: Callable[[socket.socket], None]
) -> socket.socket:
    """A connected socket (tcp(7)) with this time-out in seconds, to the first address that answers.

    `opened` hears of each socket before it is connected. Raises `TransferError` where all addresses are
    forbidden, `OSError` where none answers.
    """
    check_name(rules, host, port)
    error: Exception | None = None
    for family, kind, protocol, _, address in _addresses(host, port):
        try:
            check_address(rules, host, str(address[0]))
            sock = socket.socket(family, kind, protocol)
        except Exception as refused:
            error = refused
            continue
        try:
            sock.setsockopt(*NO_DELAY)
            sock.settimeout(timeout)
            opened(sock)
            sock.connect(address)
        except BaseException as refused:
            sock.close()
            if not isinstance(refused, OSError):
                raise
            error = refused
        else:
            return sock
    raise error or OSError(f"{host} has no address")


def _addresses(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is no name of a host") from None
