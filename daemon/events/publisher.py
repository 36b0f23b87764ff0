"""The events socket. Never waits for a subscriber: one that does not read loses messages and can tell.

Lifecycle events are published when they are on disk, progress at once. The last value of a job is sent again
to whoever subscribes to exactly that job.
"""

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from msgspec import Struct

from fetchd.daemon.core.commands import Event, Progress
from fetchd.daemon.core.view import eta
from fetchd.daemon.service import sockets
from fetchd.protocol import events
from fetchd.protocol.codec import encode
from fetchd.protocol.frames import job_of_subscription, job_topic, sys_topic
from fetchd.protocol.version import PROTOCOL

KEEP = 4096
"""Jobs whose last values are kept, those that changed least recently go first."""

AT_ONCE = 200
"""Subscriptions looked at in one turn."""

QUEUE = 10_000
"""Messages queued for one slow subscriber before it begins to lose them."""


class _Message(NamedTuple):
    kind: str
    seq: int
    revision: int | None
    time: int
    body: bytes


class _Last:
    __slots__ = ("lifecycle", "progress", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.lifecycle: _Message | None = None
        self.progress: _Message | None = None


class Publisher:
    """The XPUB at the events endpoint."""

    def __init__(
        self, context: "zmq.Context[Any]", path: Path, epoch: str, passed: int | None = None
    ) -> None:
        self._passed = passed
        self.path = path
        self.endpoint = f"ipc://{path}"
        self._epoch = epoch
        self._last: OrderedDict[str, _Last] = OrderedDict()
        self._highest_forgotten = 0
        self._topics: set[bytes] = set()
        # a plain XPUB would tell of the first of several equal subscriptions only
        options = {zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: QUEUE, zmq.MAXMSGSIZE: 4096}
        self.socket = sockets.public(context, zmq.XPUB, path, b"events", options, passed)

    def close(self) -> None:
        self.socket.close(0)
        if self._passed is None:  # else the service manager goes on listening there
            self.path.unlink(missing_ok=True)

    def take(self) -> None:
        """Look at new subscriptions and send last values, up to a bound so that others get their turn."""
        for _ in range(AT_ONCE):
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not frame.startswith(b"\x01"):
                # the last one with this topic has gone
                self._topics.discard(frame[1:])
                continue
            self._topics.add(frame[1:])
            job = job_of_subscription(frame[1:])
            last = self._last.get(job) if job is not None else None
            if last is not None and job is not None:
                for message in (last.lifecycle, last.progress):
                    if message is not None:
                        self._send(job, message)

    def seq(self, job: str) -> int:
        """The number of the last event published for a job in this epoch."""
        last = self._last.get(job)
        return 0 if last is None else last.seq

    def announce(self, event: Event, body: bytes) -> None:
        """Publish a lifecycle event that is on disk."""
        job = event.job.id
        last = self._touch(job, new=event.time == event.job.created)
        last.seq += 1
        last.lifecycle = _Message(event.kind, last.seq, event.revision, event.time, body)
        last.progress = None
        if self._heard():
            self._send(job, last.lifecycle)

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
        last.progress = _Message(events.PROGRESS, last.seq, None, time.time_ns() // 1000, body)
        if self._heard():
            self._send(command.job, last.progress)

    def heartbeat(self, revision: int) -> None:
        """Tell quiet watchers how far we are."""
        self._system(events.HEARTBEAT, events.Heartbeat(epoch=self._epoch, revision=revision), revision)

    def metrics(self, workers: list[events.WorkerUsage], revision: int) -> None:
        """Tell what the workers take."""
        if workers and self._heard():
            self._system(events.METRICS, events.Metrics(workers=workers), revision)

    def _system(self, kind: str, body: Struct, revision: int) -> None:
        header = events.EventHeader(
            v=PROTOCOL,
            epoch=self._epoch,
            seq=0,
            revision=revision,
            time=time.time_ns() // 1000,
            type=kind,
            job=None,
        )
        self.socket.send_multipart([sys_topic(kind), encode(header), encode(body)], zmq.NOBLOCK)

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

    def _heard(self) -> bool:
        """Whether anybody listens at all: most of the time of a burst of submits nobody does."""
        if not self._topics and self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self.take()
        return bool(self._topics)

    def _send(self, job: str, message: "_Message") -> None:
        header = events.EventHeader(
            v=PROTOCOL,
            epoch=self._epoch,
            seq=message.seq,
            revision=message.revision,
            time=message.time,
            type=message.kind,
            job=job,
        )
        # XPUB drops for a subscriber whose queue is full, so this never blocks
        self.socket.send_multipart([job_topic(job, message.kind), encode(header), message.body], zmq.NOBLOCK)
