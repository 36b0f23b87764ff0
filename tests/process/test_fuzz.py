"""A live daemon is told almost everything that can be said: it answers, serves others, and stays as it is.

`FETCHD_FUZZ=50000 pytest -n0 tests/process/test_fuzz.py` is the long run; the test command tries a twentieth.
What a mutated request may do is confined before it is sent: see `tame`.
"""

import contextlib
import os
import random
import secrets
import socket
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import zmq
from msgspec.structs import replace
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.net import refused_port
from support.origin import Origin, Resource
from support.raw import Raw

from fetchd.daemon.core.intake import check
from fetchd.daemon.transfer.schemes import installed_schemes
from fetchd.protocol import control
from fetchd.protocol.codec import MAX_MESSAGE, decode, encode
from fetchd.protocol.errors import Code, FetchdError, ProtocolError
from fetchd.protocol.frames import split_control
from fetchd.protocol.paths import ipc_path

from ..protocol import samples
from ..protocol.mutations import Mutator

COUNT = int(os.environ.get("FETCHD_FUZZ", "2500"))
IN_FLIGHT = 50
ROUNDS = 5
GROWTH = 24 << 20
"""Bytes of resident memory that the supervisor may gain after the first fifth."""

TYPES = {kind: name for name, kind in control.REQUESTS.items()}
BODIES = [(TYPES[type(body)], encode(body)) for _, body in samples.REQUEST_BODIES]
NEVER = {Code.INTERNAL, Code.STORE_FAILED, Code.DRAINING}
"""Codes that say that something went wrong here, not there."""

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
WIRE = [
    GREETING,
    GREETING + READY,
    GREETING + READY + b"\x01\x01a\x00\x01b",
    GREETING + READY + b"\x02" + b"\xff" * 8,
]
"""ZMTP 3.0 (rfc.zeromq.org/spec/23), as far as a connection gets."""


def harmless(job: control.NewJob, downloads: Path, url: str) -> control.NewJob:
    """The job in a directory of the test, and, if it would be taken, for a server of the test."""
    spec = replace(job.spec, directory=str(downloads))
    try:
        check(job.id or "x", spec, bytes(32), installed_schemes())
    except FetchdError:
        # the daemon has the same reason to refuse it
        return replace(job, spec=spec)
    spec = replace(spec, url=url, mirrors=[], proxy=None, checksum=None, limit_rate=None, retries=0)
    return replace(job, spec=spec)


def tame(frames: list[bytes], downloads: Path, url: str) -> list[bytes] | None:
    """The message with what it may do kept within the test, or None for one that would end the daemon.

    It is understood here by the very code that understands it there; what is not understood is left alone.
    """
    try:
        envelope, head, payload = split_control(frames)
        kind = decode(head, control.RequestHeader).type
        body: Any = decode(payload, control.REQUESTS[kind])
    except (ProtocolError, KeyError):
        return frames
    match body:
        case control.Shutdown():
            return None
        case control.Submit():
            body = replace(body, jobs=[harmless(job, downloads, url) for job in body.jobs])
        case control.Wait():
            body = replace(body, timeout=min(body.timeout, 0.01))
        case control.Verb():
            # not of the jobs of others
            body = replace(body, all=False, **({"failed": False} if hasattr(body, "failed") else {}))
        case control.Limit(ids=[], host=None) | control.Limit(ids=None, host=None):
            body = replace(body, rate=10**9)
        case control.List() | control.Replay():
            body = replace(body, limit=10)
        case _:
            return frames
    return [*envelope, head, encode(body)]


class Fuzzer:
    """Makes messages from a seed."""

    def __init__(self, seed: int, downloads: Path, url: str) -> None:
        self.random = random.Random(seed)
        self.heads = Mutator(seed, [encode(control.RequestHeader(1, "get", "0" * 32))])
        self.bodies = Mutator(seed + 1, [body for _, body in BODIES])
        self.downloads, self.url = downloads, url

    def next(self) -> list[bytes]:
        """The frames of one message that may be sent."""
        while True:
            frames = tame(self._any(), self.downloads, self.url)
            if frames is not None:
                return frames

    def _any(self) -> list[bytes]:
        kind, body = self.random.choice(BODIES)
        head = encode(control.RequestHeader(1, kind, f"{self.random.getrandbits(128):032x}"))
        chance = self.random.random()
        if chance < 0.25:
            head = self.heads.change(head)
        if chance > 0.5:
            body = self.bodies.change(body)
        frames = [head, body]
        if chance > 0.93:
            match self.random.randrange(6):
                case 0:
                    frames = [head]
                case 1:
                    frames = [b"", *frames]
                case 2:
                    frames = [body, head, body]
                case 3:
                    frames = frames * self.random.randint(2, 30)
                case 4:
                    frames = [b""] * self.random.randint(1, 5)
                case _:
                    frames = [head, b""]
        return frames


def judge(frames: list[bytes]) -> str:
    """The code of a reply, '' for one that says yes; fails for one that the specification does not know."""
    header = decode(frames[-2], control.ReplyHeader)
    assert frames[:-2] in ([], [b""])
    if header.ok:
        decode(frames[-1], control.REPLIES[header.type])
        return ""
    code = decode(frames[-1], control.ErrorBody).code
    assert Code(code) not in NEVER, frames
    return code


def break_in(endpoint: str, data: bytes) -> socket.socket:
    """A connection that has said this, which is hardly ZMTP."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(ipc_path(endpoint)))
    with contextlib.suppress(ConnectionError):  # it may have had enough
        peer.sendall(data)
    return peer


def test_a_live_daemon(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    endpoint = daemon.endpoint.control
    supervisor = psutil.Process(daemon.pid)
    honest = origin.add("/honest", Resource(size=100_000, seed=3))
    (downloads / "fuzz").mkdir()
    wire = Mutator(9, WIRE)
    seen: dict[str, int] = {}
    before = descriptors = 0
    held: list[socket.socket] = []
    with refused_port() as port, daemon.client() as client:
        fuzzer = Fuzzer(COUNT, downloads / "fuzz", f"http://127.0.0.1:{port}/f")
        for turn in range(ROUNDS):
            with Raw(endpoint) as peer:
                for _ in range(COUNT // ROUNDS // IN_FLIGHT):
                    sent = [fuzzer.next() for _ in range(IN_FLIGHT)]
                    for frames in sent:
                        peer.socket.send_multipart(frames)
                    break_in(endpoint, wire.next()).close()
                    for _ in sent:
                        code = judge(peer.socket.recv_multipart())
                        seen[code] = seen.get(code, 0) + 1
                # others are served while it has fifty more to deal with, and with connections that hang
                held.append(break_in(endpoint, wire.next()))
                oversized(endpoint)
                for _ in range(IN_FLIGHT):
                    peer.socket.send_multipart(fuzzer.next())
                job = client.submit(honest, directory=downloads, name=f"honest{turn}")
                assert sha256_file(job.result(timeout=60).path) == sha256_of(100_000, 3)
                for _ in range(IN_FLIGHT):
                    judge(peer.socket.recv_multipart())
            if turn == 0:
                before, descriptors = supervisor.memory_info().rss, supervisor.num_fds()
        after = supervisor.memory_info().rss
        print(f"{sum(seen.values())} answers {seen}; {before >> 10} KiB, then {after >> 10} KiB")
        assert after - before < GROWTH
        assert supervisor.num_fds() < descriptors + 20
        for connection in held:
            connection.close()
        assert client.status().pid == daemon.pid
    assert "Traceback" not in daemon.log()
    assert seen[""] > COUNT // 50, "some of it must be valid"
    assert {"bad_request", "unknown_type", "unsupported_version"} <= set(seen)
    assert sorted(os.listdir(downloads)) == ["fuzz", *(f"honest{turn}" for turn in range(ROUNDS))]


def oversized(endpoint: str) -> None:
    """A message that is too large ends the connection that it comes over."""
    with Raw(endpoint) as peer:
        peer.socket.send_multipart([bytes(MAX_MESSAGE + 1), b""])
        peer.socket.setsockopt(zmq.RCVTIMEO, 100)
        with pytest.raises(zmq.Again):
            peer.socket.recv_multipart()


def test_what_is_asked_for_is_taken_or_refused() -> None:
    """Every specification that decodes passes the check or ends in a code of the list."""
    mutator = Mutator(4, [body for kind, body in BODIES if kind == "submit"])
    schemes, key, codes = installed_schemes(), secrets.token_bytes(32), set()
    for _ in range(COUNT * 8):
        try:
            jobs = decode(mutator.next(), control.Submit).jobs
        except ProtocolError:
            continue
        for job in jobs:
            try:
                made = check(job.id or "x", job.spec, key, schemes)
            except FetchdError as error:
                codes.add(error.code)
            else:
                assert msgspec.msgpack.decode(msgspec.msgpack.encode(made.options), type=type(made.options))
                codes.add("")
    assert {"", Code.INVALID_URL, Code.INVALID_CHECKSUM, Code.BAD_REQUEST} <= codes
