"""A client that asks the origin for one thing and shows what came over the wire."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from support.content import pattern
from support.origin import Origin, Resource

SIZE = 200_000
FILE = Resource(size=SIZE, seed=7, etag='"v1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
BODY = pattern(SIZE, 7)


@contextmanager
def connected(origin: Origin) -> Iterator[http.client.HTTPConnection]:
    """A connection to the origin."""
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def get(
    origin: Origin, path: str = "/f", method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request on a connection of its own; underscores in header names are hyphens."""
    with connected(origin) as connection:
        connection.request(method, path, headers={key.replace("_", "-"): v for key, v in headers.items()})
        response = connection.getresponse()
        return response, response.read()


def raw(origin: Origin, path: str = "/f", head: str = "Connection: close\r\n") -> bytes:
    """Everything that comes over the wire until the origin closes."""
    with socket.create_connection(("127.0.0.1", origin.port), 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        with connection.makefile("rb") as file:
            return file.read()


def body_of(data: bytes) -> bytes:
    """The bytes behind the head."""
    return data.partition(b"\r\n\r\n")[2]
