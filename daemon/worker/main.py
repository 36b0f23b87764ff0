"""The worker's process: its loop over the mailbox, and the entry that the fork server calls.

The loop answers at once whatever the transfer does, because the transfer runs in a thread of its own:
progress four times a second, a heartbeat when there is nothing to say, and stops while a server keeps us
waiting.
"""

import contextlib
import os
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import zmq
from msgspec import Struct

from fetchd.daemon.sandbox import room as sandbox
from fetchd.daemon.service import child
from fetchd.daemon.transfer.connect import read_authorities
from fetchd.daemon.transfer.registry import Transfers
from fetchd.protocol import mailbox
from fetchd.protocol.codec import decode, encode

from . import room
from .attempt import Attempt

PROGRESS = 0.25
SMOOTH = 0.3
"""Weight of the newest quarter second in the speed that is shown."""

STACK = 512 << 10
"""Bytes of stack for each thread: a worker may need dozens."""


# once, in the fork server, for all workers
room.code()
read_authorities(os.environ.get(child.AUTHORITIES, ""))


class Worker:
    """One worker: its mailbox, its transfers, and at most one attempt."""

    def __init__(self, socket: "zmq.Socket[bytes]", ca_bundle: str, beat: float) -> None:
        self._socket = socket
        self._beat = beat
        self._ca_bundle = ca_bundle
        self._transfers = Transfers()
        self._reports: SimpleQueue[mailbox.Report] = SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._attempt: Attempt | None = None
        self._shown = 0
        self._shown_at = 0.0
        self._speed: float | None = None
        self._spoke = time.monotonic()

    def run(self) -> None:
        """Serve until told to leave."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while True:
            now = time.monotonic()
            due = self._shown_at + PROGRESS if self._attempt is not None else self._spoke + self._beat
            ready: dict[Any, int] = dict(poller.poll(max(0, int((due - now) * 1000) + 1)))
            if self._wake in ready:
                self._forward()
            if self._socket in ready:
                message: mailbox.ToWorker = decode(self._socket.recv(), cast(Any, mailbox.ToWorker))
                if isinstance(message, mailbox.Leave):
                    return
                self._obey(message)
            self._speak_up()

    def _obey(self, message: object) -> None:
        attempt = self._attempt
        match message:
            case mailbox.Assign():
                assert attempt is None, "the supervisor assigns one attempt at a time"
                self._speed, self._shown = None, sum(end - start for start, end in message.have)
                self._shown_at = time.monotonic()
                self._attempt = Attempt(message, self._transfers, self._ca_bundle, self._report)
                self._attempt.start()
            case mailbox.Stop(job=job, attempt=number, keep=keep):
                if attempt is not None and (attempt.task.job, attempt.task.attempt) == (job, number):
                    attempt.stop(keep)
            case mailbox.Allow(job=job, attempt=number, connections=connections, rate=rate):
                if attempt is not None and (attempt.task.job, attempt.task.attempt) == (job, number):
                    attempt.allow(connections, rate)
            case mailbox.Proceed(job=job, attempt=number, generation=generation):
                if attempt is not None and (attempt.task.job, attempt.task.attempt) == (job, number):
                    attempt.proceed(generation)

    def _report(self, report: mailbox.Report) -> None:
        """Called from the attempt's threads."""
        self._reports.put(report)
        os.eventfd_write(self._wake, 1)

    def _forward(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while not self._reports.empty():
            report = self._reports.get()
            if isinstance(report, mailbox.FINAL):
                self._attempt = None
            self._say(report)

    def _speak_up(self) -> None:
        now = time.monotonic()
        attempt = self._attempt
        if attempt is not None and now >= self._shown_at + PROGRESS:
            on_hand = attempt.on_hand
            if attempt.responded_yet:
                speed = max(0, on_hand - self._shown) / (now - self._shown_at)
                self._speed = speed if self._speed is None else self._speed + SMOOTH * (speed - self._speed)
                self._say(
                    mailbox.Progressed(
                        job=attempt.task.job,
                        attempt=attempt.task.attempt,
                        bytes=on_hand,
                        total=attempt.total,
                        speed=self._speed,
                    )
                )
            self._shown, self._shown_at = on_hand, now
        if now >= self._spoke + self._beat:
            self._say(mailbox.Beat())

    def _say(self, message: Struct) -> None:
        self._socket.send(encode(message))
        self._spoke = time.monotonic()


def main(start: mailbox.Start) -> None:
    """Lock the room, then connect, then work."""
    child.settle(start.parent, Path(start.workers_lock), "fetchd-worker")
    threading.stack_size(STACK)
    room.furnish(Path(start.home))
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    layers = sandbox.enter(room.policy(start), start.sandbox)
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.connect(start.endpoint)
    socket.send(encode(mailbox.Arrived(secret=start.secret)))
    # libzmq connects in a thread of its own; once there is an answer it needs no other socket with a path
    decode(socket.recv(), mailbox.Admitted)
    layers |= sandbox.seal(start.sandbox)
    # the log is not a worker's to empty or to forge; what it has to say goes into its reports
    for standard in (1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    socket.send(encode(mailbox.Locked(layers=layers)))
    Worker(socket, start.ca_bundle, start.beat).run()
    context.destroy()
