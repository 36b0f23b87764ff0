"""Progress bars on a terminal, by rich. Imported only when bars are drawn.

No refreshing thread: the bars are drawn again when something happens, at most ten times a second.
"""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from fetchd.client.session import Event
from fetchd.protocol.job import TERMINAL, JobSnapshot, State

from . import text
from .progress import describe_state

REDRAW = 0.1
"""Seconds between two drawings."""


class Bars:
    """One bar per job that is not over."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        # markup=False: square brackets in file names are no markup
        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0
        self._dirty = False
        self._progress.start()

    def show(self, event: Event, now: float) -> None:
        """Bring a bar up to date; remove it at the job's end."""
        job = event.snapshot
        if job is None:
            return
        if job.state in TERMINAL:
            task = self._tasks.pop(job.id, None)
            if task is not None:
                self._progress.remove_task(task)
        else:
            name, detail = _shorten(text.name_of(job)), _detail(job)
            if job.id not in self._tasks:
                self._tasks[job.id] = self._progress.add_task("", name=name, detail=detail, total=job.total)
            self._progress.update(
                self._tasks[job.id], completed=job.bytes, total=job.total, name=name, detail=detail
            )
        self._dirty = True
        self.tick(now)

    def tick(self, now: float) -> float | None:
        """Draw, if there is something new and it is time."""
        if self._dirty and now >= self._drawn + REDRAW:
            self._progress.refresh()
            self._drawn, self._dirty = now, False
        return self._drawn + REDRAW if self._dirty else None

    def note(self, line: str) -> None:
        """A line above the bars."""
        self.line(f"fetchd: {line}")

    def alert(self, line: str) -> None:
        """The same."""
        self.note(line)

    def line(self, line: str) -> None:
        """As it is."""
        self._console.print(Text(line), soft_wrap=True)

    def close(self) -> None:
        """Take the bars away."""
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()
        self._progress.stop()


def _shorten(name: str, width: int = 32) -> str:
    if len(name) <= width:
        return name
    half = (width - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _detail(job: JobSnapshot) -> str:
    if job.state is not State.RUNNING:
        return describe_state(job)
    done = text.percent(job.bytes, job.total)
    amount = text.size(job.bytes) + (f"/{text.size(job.total)}" if job.total is not None else "")
    parts = [
        "" if done is None else f"{done:3} %",
        amount,
        "" if job.speed is None else text.speed(job.speed),
    ]
    if job.eta is not None:
        parts.append(text.duration(job.eta))
    return "  ".join(part for part in parts if part)
