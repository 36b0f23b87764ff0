"""A client written from protocol/SPEC.md alone: pyzmq, msgpack and the standard library, nothing of fetchd.

`foreign_client.py URL DIRECTORY [ID]` with FETCHD_STATE_DIR in the environment downloads one file and prints
a line for everything it learns. With FETCHD_SOCKET, `tcp://HOST:PORT`, it goes there (2.4); FETCHD_SERVER_KEY
is then the daemon's public key, and FETCHD_KEY a file with the secret one of this client. It prints:

    hello OWNER REVISION
    accepted ID STATE new|duplicate
    snapshot SEQ STATE BYTES
    event SEQ TYPE STATE REVISION
    progress SEQ BYTES TOTAL
    result STATE PATH|CODE
    error CODE MESSAGE

It ends with 0 when the job is completed and 1 otherwise. Section numbers below are those of SPEC.md.
"""

import json
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq

PROTOCOL = 1
MAX_FRAME = 1 << 20
REPLY_TIME = 5.0
WAIT_TIME = 20.0
TERMINAL = ("completed", "failed", "cancelled")


class RefusedError(Exception):
    """The daemon's answer is an error, or there is no daemon."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


def say(*words: object) -> None:
    print(*words, flush=True)


def find_daemon() -> str:
    """The control endpoint of a daemon that listens (2.2)."""
    if far := os.environ.get("FETCHD_SOCKET"):
        return far
    try:
        found = json.loads((Path(os.environ["FETCHD_STATE_DIR"]) / "endpoint.json").read_bytes())
        control = str(found["control"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError("no_daemon", f"no usable endpoint.json: {error}") from None
    if control.startswith("ipc://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(control.removeprefix("ipc://"))
            except BlockingIOError:
                pass  # its queue is full: it listens
            except OSError as error:
                raise RefusedError("no_daemon", f"nobody listens: {error}") from None
    return control


class ForeignClient:
    """One control socket, one events socket, and what is known about one job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.epoch = ""
        self.seq = 0
        self.gap = False
        self.context = zmq.Context()
        self.control = self._connect_control()
        self.events = self._socket(zmq.SUB)

    def close(self) -> None:
        self.context.destroy(linger=0)

    # control (3, 4)

    def call(self, kind: str, body: dict[str, Any], patience: float = REPLY_TIME) -> dict[str, Any]:
        """The reply to a request; sent again under the same ID as often as none comes."""
        req = secrets.token_hex(16)
        header = {"v": PROTOCOL, "type": kind, "req": req}
        for _ in range(3):
            self.control.send_multipart([msgpack.packb(header), msgpack.packb(body)])
            if (answer := self._reply(req, time.monotonic() + patience)) is not None:
                return answer
            self.control.close(linger=0)
            self.control = self._connect_control()
        raise RefusedError("no_daemon", f"no answer to {kind}")

    def _reply(self, req: str, deadline: float) -> dict[str, Any] | None:
        """The body of the reply to `req`, or None if it is time to send again: it is late, or the daemon was
        restarted (4). Events are printed meanwhile.
        """
        asked = self.epoch
        poller = zmq.Poller()
        poller.register(self.control, zmq.POLLIN)
        poller.register(self.events, zmq.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(left * 1000))
            if self.events in ready:
                self._event(*self.events.recv_multipart())
                if asked and self.epoch != asked:
                    return None
            if self.control not in ready:
                continue
            header, body = map(msgpack.unpackb, self.control.recv_multipart())
            if header["req"] != req:
                continue  # the answer to a request that was given up
            if not header["ok"]:
                raise RefusedError(body["code"], body["message"])
            self._same_epoch(header["epoch"])
            answer: dict[str, Any] = body
            return answer
        return None

    # events (6, 7)

    def subscribe(self, endpoint: str) -> None:
        self.events.connect(endpoint)
        self.events.subscribe(f"job.{self.job_id}.")
        self.events.subscribe("sys.heartbeat")

    def _event(self, _topic: bytes, head: bytes, data: bytes) -> None:
        header, body = msgpack.unpackb(head), msgpack.unpackb(data)
        self._same_epoch(header["epoch"])
        if header["job"] != self.job_id or header["seq"] <= self.seq:
            return
        self.gap |= header["seq"] > self.seq + 1
        self.seq = header["seq"]
        if header["type"] == "progress":
            say("progress", self.seq, body["bytes"], body["total"])
        elif "state" in body:
            say("event", self.seq, header["type"], body["state"], header["revision"])

    def _same_epoch(self, epoch: str) -> None:
        """Another epoch: the daemon was restarted, and counting begins anew (7.2)."""
        if epoch != self.epoch:
            self.gap |= bool(self.epoch)
            self.epoch, self.seq = epoch, 0

    def snapshot(self) -> None:
        """What events tell from here on is news (7.1)."""
        self.gap = False
        for job in self.call("get", {"ids": [self.job_id]})["jobs"]:
            self.seq = max(self.seq, job["seq"])
            say("snapshot", job["seq"], job["state"], job["bytes"])

    # all together

    def download(self, url: str, directory: str) -> bool:
        """Whether the file was delivered."""
        hello = {"client": "foreign/1.0"}
        if far := os.environ.get("FETCHD_SOCKET"):
            hello["host"] = far.removeprefix("tcp://").rpartition(":")[0]
        welcome = self.call("hello", hello)
        say("hello", welcome["owner"], welcome["revision"])
        self.subscribe(welcome["events"])
        spec = {"url": url, "directory": directory}
        accepted = self.call("submit", {"jobs": [{"id": self.job_id, "spec": spec}]})["jobs"][0]
        say("accepted", accepted["id"], accepted["state"], "duplicate" if accepted["duplicate"] else "new")
        self.snapshot()
        job = self.wait_for_the_end()
        say("result", job["state"], job["path"] if job["error"] is None else job["error"]["code"])
        return bool(job["state"] == "completed")

    def wait_for_the_end(self) -> dict[str, Any]:
        """The last snapshot of the job. Events may be lost; this is the path to the truth (7)."""
        since = 0
        while True:
            body = {"ids": [self.job_id], "since": since, "timeout": WAIT_TIME}
            answer = self.call("wait", body, WAIT_TIME + REPLY_TIME)
            if answer["missing"]:
                raise RefusedError("no_such_job", "the job was forgotten")
            for job in answer["jobs"]:
                if job["state"] in TERMINAL:
                    return dict(job)
            since = answer["revision"]
            if self.gap:
                self.snapshot()

    def _connect_control(self) -> "zmq.Socket[bytes]":
        endpoint = find_daemon()
        control = self._socket(zmq.DEALER)
        control.connect(endpoint)
        return control

    def _socket(self, kind: int) -> "zmq.Socket[bytes]":
        made = self.context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        if "FETCHD_SOCKET" in os.environ:
            secret = Path(os.environ["FETCHD_KEY"]).read_bytes().strip()
            made.setsockopt(zmq.CURVE_SERVERKEY, os.environb[b"FETCHD_SERVER_KEY"])
            made.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
            made.setsockopt(zmq.CURVE_SECRETKEY, secret)
        return made


def main() -> int:
    url, directory, *more = sys.argv[1:]
    try:
        client = ForeignClient(more[0] if more else f"foreign-{secrets.token_hex(6)}")
    except RefusedError as error:
        say("error", error)
        return 1
    try:
        done = client.download(url, directory)
    except RefusedError as error:
        say("error", error)
        done = False
    finally:
        client.close()
    assert not [name for name in sys.modules if name.partition(".")[0] == "fetchd"], "not foreign at all"
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
