"""Commands that look at jobs: ls, show, wait."""

import click

from fetchd.protocol.job import JobSnapshot, Reason, State

from . import exits, text
from .completion import job_ids
from .context import Duration, Pairs, Reach, Since, json_option, reaches_daemon, resolve
from .output import describe, job_json, note, print_json, report, table

HEAD = ("ID", "STATE", "DONE", "SIZE", "SPEED", "LEFT", "NAME")

BECAUSE = {
    Reason.RETRY: "the last attempt failed in a way that may pass",
    Reason.HOST_PARKED: "the server asked for a break, or fails for every job",
    Reason.HOST_LIMIT: "as many downloads from this server as allowed are running",
}
"""Reasons in more words, where the one does not tell a user what to expect."""


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice([str(s) for s in State]),
              help="Only jobs in this state (repeatable).")  # fmt: skip
@click.option("--label", "labels", multiple=True, type=Pairs("=", "KEY=VALUE"),
              help="Only jobs with this label (repeatable).")  # fmt: skip
@click.option("--since", type=Since(), default=0, metavar="TIME",
              help="Only jobs active since a time (RFC 3339), or in the last 2h, say.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N",
              help="Most jobs shown.")  # fmt: skip
@json_option
@reaches_daemon
def ls(
    reach: Reach, states: tuple[str, ...], labels: tuple[tuple[str, str], ...], since: int, limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """List jobs, newest activity first, finished ones too."""
    with reach() as client:
        # One more than is shown tells whether there are more.
        found = client.list(states=states, labels=dict(labels), since=since, limit=limit + 1)
        jobs = [job.last for job in found if job.last is not None]
    shown = jobs[:limit]
    if as_json:
        print_json([job_json(job) for job in shown])
    elif shown:
        table(HEAD, [_row(job) for job in shown])
    if len(jobs) > limit and not as_json:
        note(f"there are more than these {limit}; see --limit")


def _row(job: JobSnapshot) -> tuple[str, ...]:
    done = text.percent(job.bytes, job.total)
    running = job.state is State.RUNNING
    why = f" ({job.error.code})" if job.error is not None and job.state is not State.COMPLETED else ""
    return (
        job.id,
        job.state + (f": {job.reason}" if job.reason else ""),
        "" if done is None else f"{done} %",
        text.size(job.total if job.total is not None else job.bytes or None),
        text.speed(job.speed) if running else "",
        text.duration(job.eta) if running else "",
        text.name_of(job) + text.clean(why),
    )


@click.command()
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@json_option
@reaches_daemon
def show(reach: Reach, job_id: str, as_json: bool) -> None:
    """Show everything about one job."""
    with reach() as client:
        job = resolve(client, [job_id])[0]
    if as_json:
        print_json(job_json(job))
    else:
        describe(_details(job))


def _details(job: JobSnapshot) -> list[tuple[str, str]]:
    done = text.percent(job.bytes, job.total)
    options = dict(job.options)
    mirrors, limit, expires = (options.pop(name, None) for name in ("mirrors", "limit_rate", "expires"))
    lines: list[tuple[str, str | None]] = [
        ("id", job.id),
        ("state", job.state + (f" ({job.reason})" if job.reason else "")),
        ("because", BECAUSE.get(job.reason) if job.reason else None),
        ("error", f"{job.error.code}: {job.error.message}" if job.error else None),
        ("warning", f"{job.warning.code}: {job.warning.message}" if job.warning else None),
        ("url", job.url),
        *(("mirror", str(mirror)) for mirror in (mirrors if isinstance(mirrors, list) else ())),
        ("path", job.path),
        ("checksum", job.checksum),
        ("size", text.size(job.total)),
        ("on hand", text.size(job.bytes) + (f" ({done} %)" if done is not None else "")),
        ("speed", text.speed(job.speed) if job.speed is not None else None),
        ("left", text.duration(job.eta) if job.eta is not None else None),
        ("wasted", text.size(job.bytes_wasted) if job.bytes_wasted else None),
        ("attempt", str(job.attempt)),
        ("priority", str(job.priority)),
        ("group", job.group),
        ("labels", ", ".join(f"{k}={v}" for k, v in job.labels.items()) or None),
        ("options", ", ".join(f"{k}={v}" for k, v in options.items() if v is not None) or None),
        ("limit", text.speed(limit) if isinstance(limit, int) else None),
        ("deadline", text.local_time(expires) if isinstance(expires, int) else None),
        ("submitted", text.local_time(job.created)),
        ("started", text.local_time(job.started)),
        ("finished", text.local_time(job.finished)),
        ("goes on", text.local_time(job.not_before) if job.not_before is not None else None),
        ("workspace", job.workspace),
        ("owner", job.owner),
        ("revision", str(job.revision)),
    ]
    return [(name, text.clean(value)) for name, value in lines if value is not None]


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=job_ids)
@click.option("--timeout", type=Duration(), metavar="DURATION",
              help="Give up after this long: 30s, 2h (exit code 5).")  # fmt: skip
@click.option("--any", "any_one", is_flag=True, help="Return once one of them is over, not all.")
@json_option
@reaches_daemon
def wait(reach: Reach, ids: tuple[str, ...], timeout: float | None, any_one: bool, as_json: bool) -> int:
    """Wait until jobs are over.

    The exit code is their result, as with get. Ctrl-C stops waiting, not the jobs.
    """
    with reach() as client:
        from fetchd.client.jobs import failure

        jobs = resolve(client, ids)
        over = client.wait([job.id for job in jobs], timeout, "any" if any_one else "all")
    if as_json:
        print_json([job_json(job) for job in over])
    else:
        for job in over:
            error = failure(job)
            if error is None:
                note(completed_line(job))
            else:
                report(error, as_json)
    return exits.of_jobs(over)


def completed_line(job: JobSnapshot) -> str:
    """Where a delivered file is."""
    if job.reason is Reason.NOT_MODIFIED:
        return f"{job.id}: not modified, kept {text.clean(job.path or '?')}"
    skipped = f", {job.reason}" if job.reason else ""
    return f"{job.id}: completed{skipped}: {text.clean(job.path or '?')} ({text.size(job.bytes)})"
