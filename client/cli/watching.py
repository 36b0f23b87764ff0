"""Commands that watch: follow, for people, and events, for programs."""

import sys
import time
from typing import TYPE_CHECKING

import click

from fetchd.protocol.job import TERMINAL, JobSnapshot, State

from . import exits
from .completion import job_ids
from .context import Reach, json_option, reaches_daemon, resolve
from .follow import Following, Warnings, say_connection, say_end
from .interrupt import Act, Presses, catching, waking
from .output import event_json, job_json, json_line, print_json
from .progress import MODES, View, make_view

if TYPE_CHECKING:
    from fetchd.client.replay import EventStream
    from fetchd.client.session import Event
    from fetchd.client.sync import Client

LIVE = [state for state in State if state not in TERMINAL]
MOST = 1000
"""Jobs shown from the start where all are followed; of the others what happens to them."""


@click.command()
@click.argument("ids", metavar="[ID...]", nargs=-1, shell_complete=job_ids)
@click.option("--progress", "mode", type=click.Choice(MODES), default="auto", show_default=True,
              help="How to show progress, on stderr.")  # fmt: skip
@json_option
@reaches_daemon
def follow(reach: Reach, ids: tuple[str, ...], mode: str, as_json: bool) -> int:
    """Show the progress of jobs until they are over.

    The exit code is their result, as with get. Without IDs: all live jobs, and new ones as they come, until
    Ctrl-C. Ctrl-C stops following, not the jobs.
    """
    with reach() as client:
        chosen = [job.id for job in resolve(client, ids)]
        view = make_view(mode)
        try:
            with catching() as presses:
                if chosen:
                    following = Following(client, chosen, view, presses, first=Act.LEAVE, as_json=as_json)
                    code, ended = following.run(), following.ended
                else:
                    everything = Everything(view, presses, as_json=as_json)
                    code, ended = everything.run(client), everything.ended
        finally:
            view.close()
    if as_json:
        print_json([job_json(job) for job in ended.values()])
    return code


class Everything:
    """Following all jobs there are, and those to come; `ended` are those whose end was seen."""

    def __init__(self, view: View, presses: Presses, *, as_json: bool) -> None:
        self.ended: dict[str, JobSnapshot] = {}
        self._view = view
        self._presses = presses
        self._as_json = as_json
        self._listed: dict[str, int] = {}
        self._there = True
        self._warnings = Warnings(view, as_json=as_json)

    def run(self, client: "Client") -> int:
        """Follow until Ctrl-C; the exit code."""
        with client.events(progress=True) as stream:
            self._begin(client, stream)
            while not self._presses.take():
                until = self._view.tick(time.monotonic())
                for event in stream.step(until, [self._presses.fd]):
                    self._show(event)
                if stream.connected is not self._there:
                    self._there = stream.connected
                    say_connection(self._view, self._there)
        return exits.INTERRUPTED

    def _begin(self, client: "Client", stream: "EventStream") -> None:
        """The stream's position first, then the list: what happens in between is in both, not in neither."""
        from fetchd.client.replay import snapshot_event

        while stream.revision is None:
            stream.step()
        jobs = [job.last for job in client.list(states=LIVE, limit=MOST) if job.last is not None]
        if len(jobs) == MOST:
            self._view.note(f"these are the {MOST} jobs with the newest activity; fetchd ls shows more")
        stream.know(jobs)
        self._listed = {job.id: job.revision for job in jobs}
        for job in reversed(jobs):
            self._view.show(snapshot_event("", job), time.monotonic())
            self._warnings.hear(job)

    def _show(self, event: "Event") -> None:
        job = event.snapshot
        if job is None or (event.revision is not None and event.revision <= self._listed.get(job.id, 0)):
            return
        self._view.show(event, time.monotonic())
        self._warnings.hear(job)
        if job.state in TERMINAL:
            self._listed.pop(job.id, None)
            self.ended[job.id] = job
            say_end(self._view, job, as_json=self._as_json)


@click.command()
@click.option("--since", type=click.IntRange(min=0), metavar="REVISION",
              help="Begin with what happened after this revision; default: now.")  # fmt: skip
@click.option("--follow/--no-follow", default=True, show_default=True,
              help="Go on with what happens, until Ctrl-C.")  # fmt: skip
@reaches_daemon
def events(reach: Reach, since: int | None, follow: bool) -> int:
    """Write what happens to jobs, as JSON lines.

    Nothing is left out or repeated, over restarts of the daemon too. To go on later, give the last line's
    revision to --since.
    """
    if since is None and not follow:
        raise click.UsageError("--no-follow goes with --since")
    with reach() as client, client.events(since, follow=follow) as stream, waking() as wake:
        while not stream.over:
            lines = [json_line(event_json(event)) + "\n" for event in stream.step(None, [wake])]
            if lines:
                sys.stdout.write("".join(lines))
                sys.stdout.flush()
    return exits.OK
