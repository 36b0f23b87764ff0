"""The sockets that clients reach: bounded in every direction, and authorised by the one ZAP handler."""

import fcntl
import os
import socket as system
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq

HANDSHAKE = 5000
"""Milliseconds that a peer has for the ZeroMQ handshake."""

BACKLOG = 1024
"""Connections that may wait where we listen, at most."""

HEARTBEAT, HEARTBEAT_TIMEOUT = 10_000, 60_000
"""Milliseconds between two PING (ZMTP 3.1, RFC 37), and until a peer that does not answer is taken for gone.
After the same time without a word it may take us for gone."""


MUCH = 4096
"""Bytes on their way to us that make a peer one who sends much; what a worker has to report is less."""


def public(context: "zmq.Context[Any]", kind: int, domain: bytes, options: Mapping[Any, int]) -> Any:
    """A socket under a ZAP domain, not bound yet, with what is special to it in `options`.

    It takes in whatever comes: where a peer's messages have to wait for room libzmq does not notice that the
    peer has gone, and ends the process when the next PING is due.
    """
    socket = context.socket(kind)
    for option, value in {
        zmq.LINGER: 0,
        zmq.RCVHWM: 0,
        zmq.HANDSHAKE_IVL: HANDSHAKE,
        zmq.HEARTBEAT_IVL: HEARTBEAT,
        zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT,
        zmq.HEARTBEAT_TTL: HEARTBEAT_TIMEOUT,
        zmq.TCP_MAXRT: HEARTBEAT_TIMEOUT,
        **options,
    }.items():
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    return socket


def listener(path: Path, passed: int | None = None) -> system.socket:
    """A socket for us alone that is to listen at a path; who listened there before is forgotten.

    `passed` is a descriptor that listens there already.
    """
    if passed is not None:
        return system.socket(fileno=passed)
    path.unlink(missing_ok=True)
    made = system.socket(system.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o600)
    return made


def copied(fd: int) -> system.socket | None:
    """The socket at a descriptor of libzmq's, None where it is none. The descriptor may have been closed and
    be anything by now; this copy, which is to be closed, stays the same."""
    try:
        copy = os.dup(fd)
    except OSError:
        return None
    try:
        return system.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None


def queued(fd: int, queue: int) -> int:
    """Bytes in the kernel that the peer (TIOCOUTQ) or we (FIONREAD) have not read; 0 where it has gone."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, queue, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def peer_of(connected: system.socket) -> tuple[int, int]:
    """The process and the user at the other end of a Unix socket (SO_PEERCRED, unix(7))."""
    pid, uid, _ = struct.unpack("3i", connected.getsockopt(system.SOL_SOCKET, system.SO_PEERCRED, 12))
    return pid, uid
