"""A ZeroMQ peer by hand (ZMTP 3.1, RFC 37): as much of the handshake as a test wants."""

import socket

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
"""What a peer that can no more than NULL begins with."""

_LIMIT = 30.0
"""Seconds that anything here may take."""


def connect(endpoint: str) -> socket.socket:
    """A plain connection to an ipc or tcp endpoint. Blocking, with a time limit."""
    kind, _, where = endpoint.partition("://")
    if kind == "ipc":
        made = socket.socket(socket.AF_UNIX)
        made.connect(where)  # it waits where the queue is full; with a time limit it would fail
        made.settimeout(_LIMIT)
        return made
    host, _, port = where.rpartition(":")
    return socket.create_connection((host, int(port)), _LIMIT)


def command(name: bytes, body: bytes) -> bytes:
    """A short command frame."""
    content = bytes([len(name)]) + name + body
    return bytes([4, len(content)]) + content


def ready(kind: bytes, identity: bytes = b"") -> bytes:
    """The READY of a socket type such as `DEALER`, with an identity."""
    return command(b"READY", _property(b"Socket-Type", kind) + _property(b"Identity", identity))


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


def shake(peer: socket.socket, kind: bytes) -> None:
    """The whole handshake. Raises OSError or EOFError where the connection ends instead."""
    peer.sendall(GREETING)
    receive(peer, len(GREETING))
    peer.sendall(ready(kind))
    flags, length = receive(peer, 2)
    said = receive(peer, length)
    if flags != 4 or not said.startswith(b"\x05READY"):
        raise EOFError(f"not ready: {said!r}")


def receive(peer: socket.socket, count: int) -> bytes:
    """So many bytes. EOFError where the connection ends before."""
    data = b""
    while len(data) < count:
        if not (piece := peer.recv(count - len(data))):
            raise EOFError("the connection has ended")
        data += piece
    return data


def ended(peer: socket.socket) -> None:
    """Read until the connection ends. TimeoutError where it does not."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
