"""A process full of clients that ask and do not listen, for its starter to stop: pyzmq and the codec alone.

deaf.py control ENDPOINT COUNT REQUESTS   control connections, so many requests on each, no reply read
deaf.py greeting ENDPOINT COUNT           connections that begin to greet and say no more
deaf.py events ENDPOINT COUNT             subscribers of everything; each has read one event
deaf.py late ENDPOINT REQUESTS            so many requests, and one submit (its body on stdin) behind them

Each says `there` when it is so far and waits for a line on stdin. `late` then reads what there is, says
`lost` or `heard` for the answer to its submit, asks again under the same request ID, and says the answer.
"""

import socket
import sys
from typing import Any

import zmq

from fetchd.protocol import codec
from fetchd.protocol.control import RequestHeader, Status
from fetchd.protocol.ids import new_request_id
from fetchd.protocol.version import PROTOCOL

SILENCE = 2000
"""Milliseconds without a message after which nothing comes any more."""


def say(words: str) -> None:
    """Tell the starter."""
    print(words, flush=True)


def dealer(context: "zmq.Context[Any]", endpoint: str) -> "zmq.Socket[bytes]":
    """A connection that takes in as little as it can, and hands on what it sends at once."""
    made: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    made.setsockopt(zmq.RCVHWM, 1)
    made.setsockopt(zmq.SNDHWM, 1)
    made.connect(endpoint)
    return made


def request(kind: str, body: bytes, req: str) -> list[bytes]:
    """The frames of a request."""
    return [codec.encode(RequestHeader(v=PROTOCOL, type=kind, req=req)), body]


def fill(sockets: "list[zmq.Socket[bytes]]", requests: int) -> None:
    """Ask so often on each of them. A send blocks until what was sent before is on its way."""
    body = codec.encode(Status())
    for _ in range(requests):
        for each in sockets:
            each.send_multipart(request("status", body, new_request_id()))


def late(context: "zmq.Context[Any]", endpoint: str, requests: int) -> None:
    """A client that wants one thing done, and is stopped before it hears that it is."""
    body, req = bytes.fromhex(sys.stdin.readline()), new_request_id()
    made = dealer(context, endpoint)
    fill([made], requests)
    made.send_multipart(request("submit", body, req))
    fill([made], 3)  # the submit is on its way once there is room behind it
    say("there")
    sys.stdin.readline()
    heard = 0
    while made.poll(SILENCE):
        heard += req.encode() in made.recv_multipart()[0]
    say("heard" if heard else "lost")
    made.send_multipart(request("submit", body, req))
    while req.encode() not in (frames := made.recv_multipart())[0]:
        pass
    say(frames[1].hex())


def main(mode: str, endpoint: str, *numbers: str) -> None:
    """Do as told."""
    context: zmq.Context[Any] = zmq.Context()
    context.linger = 0
    count, *rest = map(int, numbers)
    kept: list[Any] = []
    if mode == "late":
        late(context, endpoint, count)
    elif mode == "control":
        kept = [dealer(context, endpoint) for _ in range(count)]
        fill(kept, rest[0])
    elif mode == "greeting":
        for number in range(count):
            kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            kept[-1].connect(endpoint.removeprefix("ipc://"))
            kept[-1].sendall((b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))[: number % 64])
    elif mode == "events":
        for _ in range(count):
            kept.append(context.socket(zmq.SUB))
            kept[-1].setsockopt(zmq.RCVHWM, 1)
            kept[-1].subscribe(b"")
            kept[-1].connect(endpoint)
        for each in kept:
            each.recv_multipart()
    if mode != "late":
        say("there")
        sys.stdin.readline()
    context.destroy(linger=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
