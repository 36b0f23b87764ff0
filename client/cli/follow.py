"""Following jobs to their end on a screen, with Ctrl-C: `follow ID…`, and `get` after the submit."""

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from msgspec import to_builtins

from fetchd.client.jobs import failure
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobError, JobSnapshot

from . import exits, text
from .interrupt import Act, Interrupts, Presses
from .jobs import completed_line
from .output import error_json, error_lines, json_line
from .progress import View

if TYPE_CHECKING:
    from fetchd.client.stream import Follower
    from fetchd.client.sync import Client

SHOWN = 5
"""Most IDs in one line."""


class Following:
    """One run of following `ids`; `code` is the exit code, None while it goes on."""

    def __init__(
        self, client: "Client", ids: Sequence[str], view: View, presses: Presses, *, first: Act, as_json: bool
    ) -> None:
        self.ended: dict[str, JobSnapshot] = {}
        self.code: int | None = None
        self._client = client
        self._ids = ids
        self._view = view
        self._presses = presses
        self._as_json = as_json
        self._interrupts = Interrupts(first)
        self._warnings = Warnings(view, as_json=as_json)
        self._there: bool | None = None  # None: not met yet

    def run(self) -> int:
        """Follow until all are over or the user leaves; the exit code."""
        with self._client.follow(self._ids) as follower:
            while self.code is None:
                try:
                    self._turn(follower)
                except FetchdError as error:
                    if error.code is Code.NO_DAEMON:
                        self._view.alert(
                            f"the downloads go on when it runs again: {self._names(follower.live)}"
                        )
                    raise
            return self.code

    def _turn(self, follower: "Follower") -> None:
        now = time.monotonic()
        times = [self._view.tick(now), self._interrupts.leave_at]
        events = follower.step(min((t for t in times if t is not None), default=None), [self._presses.fd])
        now = time.monotonic()
        for event in events:
            self._view.show(event, now)
            self._warnings.hear(event.snapshot)
        for job_id, snapshot in follower.finished.items():
            if job_id not in self.ended:
                self.ended[job_id] = snapshot
                self._say_end(snapshot)
        if follower.connected is not self._there:
            self._say_connection(follower.connected)
        if not follower.live:
            self.code = exits.NO_SUCH_JOB if follower.missing else exits.of_jobs(self.ended.values())
            return
        for _ in range(self._presses.take()):
            self._pressed(self._interrupts.pressed(now), list(follower.live))
        if self._interrupts.leaving(now):
            self.code = exits.INTERRUPTED

    def _pressed(self, act: Act, live: list[str]) -> None:
        if act is Act.LEAVE:
            self.code = exits.INTERRUPTED
            self._view.note(f"still running: {self._names(live)}")
        elif act is Act.ANNOUNCE:
            named = self._names(live) if len(live) <= SHOWN else "ID..."
            self._view.alert(f"still running as {self._names(live)}; to cancel: fetchd cancel {named}")
            self._view.alert("press Ctrl-C again within 2 s to cancel now")
        else:
            self._view.alert("cancelling")
            try:
                self._client.cancel(live)
            except FetchdError as error:
                self._view.alert(f"{error.code}: {error.message}")
                self.code = exits.of_refusal(error.code)

    def _names(self, ids: Collection[str]) -> str:
        names = " ".join(list(ids)[:SHOWN])
        return f"{names} and {len(ids) - SHOWN} more" if len(ids) > SHOWN else names

    def _say_end(self, snapshot: JobSnapshot) -> None:
        say_end(self._view, snapshot, as_json=self._as_json)

    def _say_connection(self, there: bool) -> None:
        if self._there is not None:
            say_connection(self._view, there)
        self._there = there if there or self._there else None


class Warnings:
    """Says once what a job was warned of; the snapshots repeat it."""

    def __init__(self, view: View, *, as_json: bool) -> None:
        self._view = view
        self._as_json = as_json
        self._said: dict[str, JobError] = {}

    def hear(self, job: JobSnapshot | None) -> None:
        """A job as it is now."""
        if job is None or job.warning is None:
            return
        if self._said.get(job.id) != job.warning:
            warning = self._said[job.id] = job.warning
            if self._as_json:
                self._view.line(json_line({"warning": {**to_builtins(warning), "job": job.id}}))
            else:
                self._view.alert(f"{job.id}: warning: {text.clean(f'{warning.code}: {warning.message}')}")


def say_end(view: View, snapshot: JobSnapshot, *, as_json: bool) -> None:
    """How a job ended: the same in every kind of view."""
    error = failure(snapshot)
    if error is None:
        view.note(completed_line(snapshot))
    elif as_json:
        view.line(json_line(error_json(error)))
    else:
        for line in error_lines(error):
            view.alert(line)


def say_connection(view: View, there: bool) -> None:
    """The daemon came or went."""
    view.note("the daemon is back" if there else "the daemon is gone; waiting for it")
