"""What must not end the daemon: paths that are no text, strangers at a mailbox, a helper that dies."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import zmq
from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource
from support.wait import process_exit

from fetchd.client import Client
from fetchd.protocol.codec import encode
from fetchd.protocol.errors import FetchdError
from fetchd.protocol.mailbox import Arrived, Finished

SIZE = 100_000


def test_a_directory_whose_path_is_not_text(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    """It could neither be stored nor sent, so the job is refused before anything is made of it."""
    os.mkdir(os.fsencode(downloads) + b"/caf\xe9")
    os.symlink(b"caf\xe9", os.fsencode(downloads) + b"/link")
    url = origin.add("/f", Resource(size=10))
    with daemon.client() as client:
        with pytest.raises(FetchdError) as caught:
            client.submit(url, directory=downloads / "link")
        assert caught.value.code == "destination"
        assert client.submit(url, directory=downloads).result(timeout=20).path.name == "f"


def test_a_stranger_at_a_mailbox(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    """Whatever it says without the secret: the worker there goes on, and so does the daemon."""
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=3), "hold", after=1000, gate=gate)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with daemon.client() as client:
            job = client.submit(url, directory=downloads, id="held")
            until(job, lambda s: s.bytes == 1000)
            for path in Path(daemon.endpoint.control.removeprefix("ipc://")).parent.glob("w*-*"):
                stranger = context.socket(zmq.DEALER)
                stranger.setsockopt(zmq.LINGER, 1000)
                stranger.connect(f"ipc://{path}")
                for message in (
                    encode(Arrived(secret="\u00e9")),
                    encode(Finished(job="held", attempt=1, size=1000)),
                    b"\xc1",
                ):
                    stranger.send(message)
                stranger.close()
            # an answer that comes later than what the stranger said
            assert client.status().pid == daemon.pid
            gate.open()
            job.result(timeout=20)
            assert job.snapshot().attempt == 1
    finally:
        context.term()


def code_of_list(client: Client) -> str | None:
    """The code that listing fails with, or None."""
    try:
        list(client.list())
    except FetchdError as error:
        return str(error.code)
    return None


def test_a_reading_helper_that_dies(daemon: DaemonProcess) -> None:
    """A list that is asked for in the next moment comes all the same, at the second try."""
    with daemon.client() as client:
        assert list(client.list()) == []
        helper = next(child for child in daemon.children() if child.name() == "fetchd-reader")
        os.kill(helper.pid, signal.SIGKILL)
        codes = {code_of_list(client) for _ in range(20)}
        assert codes == {None}
        process_exit(helper.pid, 5)
        assert not psutil.pid_exists(helper.pid) or helper.status() == psutil.STATUS_ZOMBIE
        assert client.status().pid == daemon.pid
