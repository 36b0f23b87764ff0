"""The one thread that runs a client's callbacks, started when the first is registered.

Callbacks run one after another, never inside the lock of anything. What they raise is logged: nobody else
could catch it.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fetchd.protocol.errors import FetchdError
from fetchd.protocol.job import JobSnapshot

from .link import ClientClosedError
from .stream import Follower

if TYPE_CHECKING:
    from .jobs import Job

log = logging.getLogger("fetchd.client")

PAUSE = 1.0
"""Seconds before following is tried again after an error."""

A = TypeVar("A")
Done = Callable[["Job"], object]
OnProgress = Callable[[JobSnapshot], object]


class Background:
    """Callbacks by job, and the thread that follows those jobs. `follow` opens a follower of none."""

    def __init__(self, follow: Callable[[], Follower]) -> None:
        self._follow = follow
        self._lock = threading.Lock()
        self._done: dict[str, list[tuple[Job, Done]]] = {}
        self._progress: dict[str, list[tuple[Job, OnProgress]]] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="fetchd-callbacks", daemon=True)
        self.at_end: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """No more callbacks after the one that runs. The client's closing has already ended any waiting."""
        self._stopped.set()

    def on_done(self, job: "Job", callback: Done) -> None:
        """Register for a job's end."""
        with self._lock:
            self._done.setdefault(job.id, []).append((job, callback))
        os.eventfd_write(self._wake, 1)

    def on_progress(self, job: "Job", callback: OnProgress) -> None:
        """Register for a job's news."""
        with self._lock:
            self._progress.setdefault(job.id, []).append((job, callback))
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._follow() as follower:
                    self._serve(follower)
            except ClientClosedError:
                break
            except FetchdError as error:
                log.warning("following jobs: %s: %s; trying again", error.code, error.message)
                self._stopped.wait(PAUSE)
        os.close(self._wake)
        if self.at_end is not None:
            self.at_end()

    def _serve(self, follower: Follower) -> None:
        while not self._stopped.is_set():
            with self._lock:
                wanted = self._done.keys() | self._progress.keys()
            follower.add(wanted)
            news = follower.step(None, [self._wake])
            if self._wake in follower.ready:
                os.eventfd_read(self._wake)
            for event in news:
                if event.job is not None and event.snapshot is not None:
                    for _job, on_progress in self._registered(event.job):
                        self._call(on_progress, event.snapshot)
            for job_id in [*follower.finished, *follower.missing]:
                self._ended(job_id, follower.finished.get(job_id))
                follower.forget(job_id)

    def _registered(self, job_id: str) -> "list[tuple[Job, OnProgress]]":
        with self._lock:
            return list(self._progress.get(job_id, ()))

    def _ended(self, job_id: str, snapshot: JobSnapshot | None) -> None:
        with self._lock:
            self._progress.pop(job_id, None)
            done = self._done.pop(job_id, [])
        for job, callback in done:
            if snapshot is not None:
                job.heard(snapshot)
            self._call(callback, job)

    def _call(self, callback: Callable[[A], object], argument: A) -> None:
        if self._stopped.is_set():
            return
        try:
            callback(argument)
        except Exception:
            log.exception("a callback raised")
