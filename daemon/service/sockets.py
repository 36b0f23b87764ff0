"""The sockets that clients reach: bounded in every direction, and authorised by the one ZAP handler."""

import os
import socket as system
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq

HANDSHAKE = 5000
"""Milliseconds that a peer has for the ZeroMQ handshake."""

BACKLOG = 1024


def public(
    context: "zmq.Context[Any]",
    kind: int,
    path: Path | None,
    domain: bytes,
    options: Mapping[Any, int],
    passed: int | None = None,
) -> Any:
    """A socket under a ZAP domain, with what is special to it in `options`, bound at an ipc path if any.

    `passed` is a descriptor that listens at the path already.
    """
    socket = context.socket(kind)
    for option, value in {
        zmq.LINGER: 0,
        zmq.HANDSHAKE_IVL: HANDSHAKE,
        zmq.BACKLOG: BACKLOG,
        **options,
    }.items():
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    if passed is not None:
        socket.setsockopt(zmq.USE_FD, passed)
    if path is not None:
        socket.bind(f"ipc://{path}")
    return socket


def listen(path: Path) -> int:
    """A descriptor that listens at a path, for our user alone."""
    with system.socket(system.AF_UNIX) as made:
        made.bind(os.fspath(path))
        path.chmod(0o700)
        made.listen(BACKLOG)
        return made.detach()
