"""The helper that reads the database for lists and replays dies while somebody waits for it."""

import os
import signal

import pytest
import zmq
from support.daemon import DaemonProcess

from fetchd.protocol import codec
from fetchd.protocol.control import ErrorBody, List, Replay, ReplyHeader, RequestHeader, Status
from fetchd.protocol.ids import new_request_id
from fetchd.protocol.version import PROTOCOL


@pytest.mark.parametrize(("kind", "body"), [("list", List()), ("events", Replay(since=0))])
def test_whoever_waits_is_told_to_ask_again(daemon: DaemonProcess, kind: str, body: List | Replay) -> None:
    """Reading again does no harm, so the client's library asks once more by itself."""
    with daemon.client() as client, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        list(client.list())  # now there is a helper
        helper = next(child.pid for child in daemon.children() if child.name() == "fetchd-reader")
        os.kill(helper, signal.SIGSTOP)
        dealer.linger = 0
        dealer.connect(daemon.endpoint.control)
        for name, asked in ((kind, body), ("status", Status())):
            header = RequestHeader(v=PROTOCOL, type=name, req=new_request_id())
            dealer.send_multipart([codec.encode(header), codec.encode(asked)])
        assert codec.decode(dealer.recv_multipart()[0], ReplyHeader).type == "status"  # the other one waits
        os.kill(helper, signal.SIGKILL)
        assert dealer.poll(10_000)
        head, refusal = dealer.recv_multipart()
        assert codec.decode(head, ReplyHeader).type == kind
        error = codec.decode(refusal, ErrorBody)
        assert (error.code, error.retry_after) == ("store_failed", 1.0)
        assert list(client.list()) == []
