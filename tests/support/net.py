"""Addresses that fail in a known way, and listening sockets to hand over."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refused_port() -> Iterator[int]:
    """A loopback port that refuses connections for as long as the block lasts: bound, never listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def silent_port() -> Iterator[int]:
    """A loopback port that completes connections and never answers: listening, never accepting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def listen(port: int = 0) -> socket.socket:
    """A listening socket on loopback, on a given port or a free one."""
    return socket.create_server(("127.0.0.1", port), backlog=512)
