"""The control socket by itself: what cannot be sent, who does not listen, and faults in a handler."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from fetchd.daemon.router.access import Access
from fetchd.daemon.router.control import Caller, Control
from fetchd.daemon.router.loop import Loop
from fetchd.daemon.router.zap import Authorizer
from fetchd.daemon.service.doors import Doors
from fetchd.protocol.codec import MAX_MESSAGE, encode
from fetchd.protocol.control import Done, ErrorBody, Hello, RequestHeader
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.version import PROTOCOL

REQ = "0" * 32
Handler = Callable[[Caller, Any], None]


class Desk:
    """A control socket with one handler, and a client."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        access = Access(lambda _pid: False)
        self.authorizer = Authorizer(self.context, access)
        self.doors = Doors(self.context, Loop(), directory, 1000)
        self.control = Control(self.doors, directory / "control", access, epoch="e", lineage="l")
        self.client: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        self.client.setsockopt(zmq.LINGER, 0)
        self.client.connect(self.control.endpoint)
        self.poller = zmq.Poller()
        for socket in (self.authorizer.socket, self.control.socket, self.client):
            self.poller.register(socket, zmq.POLLIN)

    def ask(self, handler: Handler | None = None) -> dict[str, Any]:
        """The body of the answer to one request."""
        if handler is not None:
            self.control.handlers["hello"] = handler
        header = encode(RequestHeader(v=PROTOCOL, type="hello", req=REQ))
        return self.say([header, encode(Hello())])

    def say(self, frames: list[bytes]) -> dict[str, Any]:
        self.client.send_multipart(frames)
        for _ in range(200):
            ready = dict(self.poller.poll(50))
            if self.authorizer.socket in ready:
                self.authorizer.take()
            if self.control.socket in ready:
                self.control.take()
            if self.client in ready:
                body: dict[str, Any] = msgpack.unpackb(self.client.recv_multipart()[-1])
                return body
        raise TimeoutError("no answer")

    def close(self) -> None:
        self.client.close(0)
        self.control.close()
        self.doors.close()
        self.authorizer.close()
        self.context.destroy(0)


@pytest.fixture
def desk(downloads: Path) -> Iterator[Desk]:
    made = Desk(downloads)
    yield made
    made.close()


def refusing(error: Exception) -> Handler:
    def handler(_caller: Caller, _body: object) -> None:
        raise error

    return handler


def test_an_answer(desk: Desk) -> None:
    assert desk.ask(lambda caller, _body: desk.control.reply(caller, Done())) == {}


@pytest.mark.parametrize(
    "message",
    ["x" * 3 * MAX_MESSAGE, "/caf\udce9", "\x00" * MAX_MESSAGE],
    ids=["longer than a frame", "a name that is not UTF-8", "longer when quoted"],
)
def test_errors_that_could_not_be_sent_as_they_are(desk: Desk, message: str) -> None:
    answer = desk.ask(refusing(FetchdError(Code.DESTINATION, message)))
    assert answer["code"] == "destination"
    assert len(answer["message"]) <= 4096


@pytest.mark.parametrize("detail", ["x" * 2 * MAX_MESSAGE, "\udce9", 2**70])
def test_details_that_cannot_be_sent_are_left_out(desk: Desk, detail: object) -> None:
    answer = desk.ask(refusing(FetchdError(Code.CONFLICT, "conflict", job=detail)))
    assert (answer["code"], answer["message"], answer.get("details", {})) == ("conflict", "conflict", {})


def test_an_answer_that_does_not_fit(desk: Desk) -> None:
    def handler(caller: Caller, _body: object) -> None:
        desk.control.reply(caller, ErrorBody(code="x", message="x" * 2 * MAX_MESSAGE))

    assert desk.ask(handler)["code"] == "too_large"


def test_a_fault_in_a_handler_is_answered(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    assert desk.ask(refusing(ZeroDivisionError("a fault of ours")))["code"] == "internal"
    assert "a fault of ours" in caplog.text
    assert desk.ask(lambda caller, _body: desk.control.reply(caller, Done())) == {}


@pytest.mark.parametrize(
    "frames",
    [[b""], [b"", b""], [b"", b"", b""], [b"x"], [b"\xc1", b"\xc1"], [b"a"] * 50, [b"\x91" * 5000, b"\x80"]],
    ids=["one empty", "two empty", "three empty", "one", "rubbish", "many", "deep"],
)
def test_frames_that_are_no_request(desk: Desk, frames: list[bytes]) -> None:
    assert desk.say(frames)["code"] == "bad_request"


def test_a_client_that_has_gone(desk: Desk) -> None:
    """Its answer is lost; whoever else asks has theirs."""
    callers: list[Caller] = []
    header = encode(RequestHeader(v=PROTOCOL, type="hello", req=REQ))
    gone: zmq.Socket[bytes] = desk.context.socket(zmq.DEALER)
    gone.connect(desk.control.endpoint)
    desk.control.handlers["hello"] = lambda caller, _body: callers.append(caller)
    gone.send_multipart([header, encode(Hello())])
    for _ in range(200):
        desk.poller.poll(50)
        desk.authorizer.take()
        desk.control.take()
        if callers:
            break
    gone.close(0)
    for _ in range(50):
        desk.control.reply(callers[0], Done())
    assert desk.ask(lambda caller, _body: desk.control.reply(caller, Done())) == {}
