"""Showing progress on stderr: plain lines, JSON lines, nothing; bars are in `bars`.

The views get events and are told the time; they open no files and start no threads.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from fetchd.client.session import Event
from fetchd.protocol.job import JobSnapshot, State

from . import text
from .output import event_json, json_line

Mode = Literal["auto", "bar", "plain", "json", "none"]
MODES = ("auto", "bar", "plain", "json", "none")
Write = Callable[[str], object]

STEP = 10
"""Percent between two plain lines."""

EVERY = 30.0
"""Seconds between two plain lines at the latest."""


class View(Protocol):
    """What follows jobs on the screen."""

    def show(self, event: Event, now: float) -> None:
        """Something happened (`now` in monotonic seconds)."""

    def tick(self, now: float) -> float | None:
        """Do what is due by time; when to be called again, None for not at all."""

    def note(self, line: str) -> None:
        """Something a person likes to know."""

    def alert(self, line: str) -> None:
        """Something a person must be told."""

    def line(self, line: str) -> None:
        """A line as it is, for programs."""

    def close(self) -> None:
        """Leave the screen tidy."""


def choose(mode: str, *, terminal: bool, env: Mapping[str, str]) -> str:
    """The mode that `auto` stands for: bars on a terminal that can and may be drawn on, else plain."""
    if mode != "auto":
        return mode
    plain = not terminal or env.get("NO_COLOR") or env.get("TERM") in {"dumb", ""} or env.get("CI")
    return "plain" if plain else "bar"


def make_view(mode: str) -> View:
    """The view for a `--progress` option, on stderr."""
    chosen = choose(mode, terminal=sys.stderr.isatty(), env=os.environ)
    if chosen == "bar":
        from .bars import Bars

        return Bars()
    kind: type[Plain] = {"plain": Plain, "json": JsonLines, "none": Silent}[chosen]
    return kind(_to_stderr)


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Plain:
    """One line per state change, and per 10 % or 30 s of progress."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._state: dict[str, tuple[State, str | None]] = {}
        self._step: dict[str, int] = {}
        self._next: dict[str, float] = {}
        self._last: dict[str, JobSnapshot] = {}

    def show(self, event: Event, now: float) -> None:
        """A line, if it is worth one."""
        job = event.snapshot
        if job is None:
            return
        self._last[job.id] = job
        state = (job.state, job.reason)
        if state != self._state.get(job.id):
            self._state[job.id] = state
            self._step.setdefault(job.id, 0)
            self._changed(job, now)
        elif job.state is State.RUNNING and self._step_of(job) > self._step[job.id]:
            self._advance(job, now)

    def tick(self, now: float) -> float | None:
        """A line for each job that has been silent for long."""
        for job_id, due in list(self._next.items()):
            if due <= now:
                self._advance(self._last[job_id], now)
        return min(self._next.values(), default=None)

    def note(self, line: str) -> None:
        """A line between the progress."""
        self._write(f"fetchd: {line}")

    def alert(self, line: str) -> None:
        """The same."""
        self._write(f"fetchd: {line}")

    def line(self, line: str) -> None:
        """As it is."""
        self._write(line)

    def close(self) -> None:
        """Nothing is left on the screen."""

    def _changed(self, job: JobSnapshot, now: float) -> None:
        if job.state is State.RUNNING:
            self._next[job.id] = now + EVERY
            self._step[job.id] = self._step_of(job)
        else:
            self._next.pop(job.id, None)
        if job.state in {State.COMPLETED, State.FAILED, State.CANCELLED}:
            return  # how a job ended is said by the command, in every mode
        self._write(f"fetchd: {job.id}: {text.name_of(job)}: {describe_state(job)}")

    def _advance(self, job: JobSnapshot, now: float) -> None:
        self._step[job.id] = self._step_of(job)
        self._next[job.id] = now + EVERY
        self._write(f"fetchd: {job.id}: {text.name_of(job)}: {describe_progress(job)}")

    def _step_of(self, job: JobSnapshot) -> int:
        done = text.percent(job.bytes, job.total)
        return 0 if done is None else done // STEP


class JsonLines(Plain):
    """One event a line, as `fetchd events` will print them; for programs."""

    def show(self, event: Event, now: float) -> None:
        """Every event is worth a line."""
        self._write(json_line(event_json(event)))

    def note(self, line: str) -> None:
        """Lines for people have no place here."""

    def alert(self, line: str) -> None:
        """Nor here: the events say it."""


class Silent(Plain):
    """Nothing but what a person must be told."""

    def show(self, event: Event, now: float) -> None:
        """Not shown."""

    def note(self, line: str) -> None:
        """Not shown."""


def describe_state(job: JobSnapshot, now: float | None = None) -> str:
    """A job's state in words: with its reason, when it goes on, and what went wrong last.

    `now` is in seconds since 1970, None for the clock's.
    """
    words = str(job.state)
    if job.reason is not None:
        words += f" ({job.reason})"
    if job.state is State.WAITING and job.not_before is not None:
        left = job.not_before / 1e6 - (time.time() if now is None else now)
        words += f", goes on in {text.duration(max(0.0, left))}"
    if job.error is not None and job.state is not State.RUNNING:  # it is of an earlier attempt
        words += f", {text.clean(job.error.code)}: {text.clean(job.error.message)}"
    return words


def describe_progress(job: JobSnapshot) -> str:
    """How far a job is: `40 %, 4.0 MiB of 10.0 MiB, 1.0 MiB/s, 0:06 left`."""
    parts = []
    done = text.percent(job.bytes, job.total)
    if done is not None:
        parts.append(f"{done} %")
    parts.append(text.size(job.bytes) + (f" of {text.size(job.total)}" if job.total is not None else ""))
    if job.speed is not None:
        parts.append(text.speed(job.speed))
    if job.eta is not None:
        parts.append(f"{text.duration(job.eta)} left")
    return ", ".join(parts)
