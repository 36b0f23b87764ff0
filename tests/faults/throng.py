"""A process full of connections that are of no use, for its starter to kill.

throng.py KIND ENDPOINT COUNT [SERVERKEY]

Makes so many connections one after the other, as fast as they are taken, and says `there`. It keeps them;
what is ended from the other side stays so. Of kind `fleeting` one after the other comes and goes, for ever.
Of kind `stranger` they are real ones (CURVE) with keys that nobody knows.
"""

import os
import random
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

from support import zmtp

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def mixed() -> bytes:
    """Words of any kind."""
    return SAYS[random.choice(("silent", "idle", "half", "garbage", "http"))]()


SAYS: dict[str, Callable[[], bytes]] = {
    "silent": lambda: b"",
    "idle": lambda: zmtp.GREETING + zmtp.ready(b"DEALER"),
    "half": lambda: zmtp.GREETING[: os.getpid() % 63 + 1],
    "garbage": lambda: os.urandom(200),
    "http": lambda: REQUEST,
    "fleeting": lambda: zmtp.GREETING[:11],
    "mixed": mixed,
}
"""What a connection says by kind; then it says no more. `idle` has introduced itself (NULL)."""

STRANGERS = 200
"""Strangers of one process at a time."""


def one(endpoint: str, words: bytes) -> socket.socket:
    """A connection that has said its words."""
    made = zmtp.connect(endpoint)
    with suppress(ConnectionError):
        made.sendall(words)
    return made


def strangers(endpoint: str, count: int, server_key: str) -> None:
    """So many come, and whoever has come goes when as many have come after it."""
    context: zmq.Context[Any] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 100)  # those that are closed take their time
    made: list[Any] = []
    for _ in range(count):
        made.append(context.socket(zmq.DEALER))
        made[-1].curve_publickey, made[-1].curve_secretkey = zmq.curve_keypair()
        made[-1].curve_serverkey = server_key.encode()
        made[-1].connect(endpoint)
        if len(made) > STRANGERS:
            made.pop(0).close(0)
    print("there", flush=True)
    sys.stdin.read()
    context.destroy(0)


def main(kind: str, endpoint: str, count: str, server_key: str = "") -> None:
    """Do as told."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if kind == "stranger":
        strangers(endpoint, int(count), server_key)
        return
    kept = []
    for _ in range(0 if kind == "fleeting" else int(count)):
        kept.append(one(endpoint, SAYS[kind]()))
    print("there", flush=True)
    while kind == "fleeting":
        one(endpoint, SAYS[kind]()).close()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
