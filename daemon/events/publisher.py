"""The events socket. Never waits for a subscriber: one that does not read loses messages and can tell.

Lifecycle events are published when they are on disk, progress at once. The last value of a job is sent again
to whoever subscribes to exactly that job.
"""

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import zmq

from fetchd.daemon.core.commands import Event, Progress
from fetchd.daemon.core.view import eta
from fetchd.protocol import events
from fetchd.protocol.codec import encode
from fetchd.protocol.frames import job_of_subscription, job_topic, sys_topic
from fetchd.protocol.version import PROTOCOL

KEEP = 4096
"""Jobs whose last values are kept, those that changed least recently go first."""

QUEUE = 10_000
"""Messages queued for one slow subscriber before it begins to lose them."""


class _Last:
    __slots__ = ("lifecycle", "progress", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.lifecycle: list[bytes] | None = None
        self.progress: list[bytes] | None = None


class Publisher:
    """The XPUB at the events endpoint."""

    def __init__(self, context: "zmq.Context[Any]", path: Path, epoch: str) -> None:
        self.path = path
        self.endpoint = f"ipc://{path}"
        self._epoch = epoch
        self._last: OrderedDict[str, _Last] = OrderedDict()
        self._highest_forgotten = 0
        self.socket = context.socket(zmq.XPUB)
        for option, value in (
            (zmq.LINGER, 0),
            # a plain XPUB would tell of the first of several equal subscriptions only
            (zmq.XPUB_VERBOSE, 1),
            (zmq.SNDHWM, QUEUE),
            (zmq.MAXMSGSIZE, 4096),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.BACKLOG, 1024),
        ):
            self.socket.setsockopt(option, value)
        self.socket.setsockopt(zmq.ZAP_DOMAIN, b"events")
        self.socket.bind(self.endpoint)

    def close(self) -> None:
        self.socket.close(0)
        self.path.unlink(missing_ok=True)

    def take(self) -> None:
        """Look at new subscriptions and send last values."""
        while True:
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not frame.startswith(b"\x01"):
                continue
            job = job_of_subscription(frame[1:])
            last = self._last.get(job) if job is not None else None
            if last is not None:
                for message in (last.lifecycle, last.progress):
                    if message is not None:
                        self._send(message)

    def seq(self, job: str) -> int:
        """The number of the last event published for a job in this epoch."""
        last = self._last.get(job)
        return 0 if last is None else last.seq

    def announce(self, event: Event, body: bytes) -> None:
        """Publish a lifecycle event that is on disk."""
        last = self._touch(event.job.id, new=event.time == event.job.created)
        last.seq += 1
        last.lifecycle = self._message(event.job.id, event.kind, last.seq, event.revision, event.time, body)
        last.progress = None
        self._send(last.lifecycle)

    def progress(self, command: Progress) -> None:
        """Publish how far an attempt is; workers report at the rate that is wanted here."""
        last = self._touch(command.job, new=False)
        last.seq += 1
        body = encode(
            events.Progress(
                attempt=command.attempt,
                bytes=command.bytes,
                total=command.total,
                speed=command.speed,
                eta=eta(command.bytes, command.total, command.speed),
            )
        )
        now = time.time_ns() // 1000
        last.progress = self._message(command.job, events.PROGRESS, last.seq, None, now, body)
        self._send(last.progress)

    def heartbeat(self, revision: int) -> None:
        """Tell quiet watchers how far we are."""
        header = events.EventHeader(
            v=PROTOCOL,
            epoch=self._epoch,
            seq=0,
            revision=revision,
            time=time.time_ns() // 1000,
            type=events.HEARTBEAT,
            job=None,
        )
        body = encode(events.Heartbeat(epoch=self._epoch, revision=revision))
        self._send([sys_topic(events.HEARTBEAT), encode(header), body])

    def _touch(self, job: str, *, new: bool) -> _Last:
        last = self._last.get(job)
        if last is None:
            last = self._last[job] = _Last()
            # numbers of a job never go back; a jump tells a subscriber to take a snapshot
            last.seq = 0 if new else self._highest_forgotten
            if len(self._last) > KEEP:
                self._highest_forgotten = max(self._highest_forgotten, self._last.popitem(last=False)[1].seq)
        else:
            self._last.move_to_end(job)
        return last

    def _message(
        self, job: str, kind: str, seq: int, revision: int | None, when: int, body: bytes
    ) -> list[bytes]:
        header = events.EventHeader(
            v=PROTOCOL, epoch=self._epoch, seq=seq, revision=revision, time=when, type=kind, job=job
        )
        return [job_topic(job, kind), encode(header), body]

    def _send(self, message: list[bytes]) -> None:
        # XPUB drops for a subscriber whose queue is full, so this never blocks
        self.socket.send_multipart(message, zmq.NOBLOCK)
