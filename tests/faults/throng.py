"""A process full of connections that are of no use, for its starter to kill: plain sockets alone.

throng.py KIND ENDPOINT COUNT

Makes so many connections one after the other, as fast as they are taken, and says `there`. It keeps them;
what is ended from the other side stays so. Of kind `fleeting` each is closed when it is made, for ever.
"""

import os
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

from support import zmtp

SAYS: dict[str, Callable[[], bytes]] = {
    "silent": lambda: b"",
    "idle": lambda: zmtp.GREETING + zmtp.ready(b"DEALER"),
    "half": lambda: zmtp.GREETING[: os.getpid() % 63 + 1],
    "garbage": lambda: os.urandom(200),
    "http": lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fleeting": lambda: zmtp.GREETING[:11],
}
"""What a connection says by kind; then it says no more. `idle` has introduced itself."""


def one(endpoint: str, words: bytes) -> socket.socket:
    """A connection that has said its words."""
    made = zmtp.connect(endpoint)
    with suppress(ConnectionError):
        made.sendall(words)
    return made


def main(kind: str, endpoint: str, count: str) -> None:
    """Do as told."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept = []
    for _ in range(int(count)):
        kept.append(one(endpoint, SAYS[kind]()))
        if kind == "fleeting":
            kept.pop().close()
    print("there", flush=True)
    while kind == "fleeting":
        one(endpoint, SAYS[kind]()).close()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
