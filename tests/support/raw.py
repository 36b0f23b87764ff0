"""A peer that can say anything on the control socket: for bad input, and for the wire itself."""

import secrets
from typing import Any, Self

import msgpack
import zmq


class Raw:
    """A DEALER that can say anything."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        self.socket.connect(endpoint)

    def ask(self, *frames: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        self.socket.send_multipart(list(frames))
        header, body = self.socket.recv_multipart()[-2:]
        return msgpack.unpackb(header), msgpack.unpackb(body)

    def request(self, kind: str, body: object, **header: object) -> tuple[dict[str, Any], dict[str, Any]]:
        head = {"v": 1, "type": kind, "req": secrets.token_hex(16)} | header
        return self.ask(msgpack.packb(head), msgpack.packb(body))

    def tell(self, kind: str, body: object) -> None:
        """Send a request; `answer` takes the replies as they come."""
        head = {"v": 1, "type": kind, "req": secrets.token_hex(16)}
        self.socket.send_multipart([msgpack.packb(head), msgpack.packb(body)])

    def answer(self) -> dict[str, Any]:
        """The body of the next reply, whatever it answers."""
        body: dict[str, Any] = msgpack.unpackb(self.socket.recv_multipart()[-1])
        return body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.context.destroy(0)
