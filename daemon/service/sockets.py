"""The sockets that clients reach: bounded in every direction, and authorised by the one ZAP handler."""

import socket as system
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
