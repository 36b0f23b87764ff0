"""How a job looks from outside."""

from msgspec import to_builtins

from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.job import JobError, JobSnapshot, Reason, State

from .job import Job, join
from .slot import Run

LONGEST_ETA = 1e9
"""Seconds. A worker may report any speed above 0, and what is sent has to be finite."""


def snapshot(
    job: Job,
    *,
    shown: tuple[State, Reason | None] | None = None,
    run: Run | None = None,
    workspace: str | None = None,
    seq: int = 0,
    not_before: int | None = None,
    error: tuple[str, str] | None = None,
) -> JobSnapshot:
    """The snapshot of a job.

    `shown` is its state behind its gates, `run` its attempt if there is one, `workspace` where that is now,
    `not_before` when what holds it is over, `error` what is wrong with the disk that holds it.
    """
    state, reason = shown or (job.state, job.reason)
    on_hand, total, speed = job.bytes, job.total, None
    if run is not None and run.attempt == job.attempt and job.state is State.RUNNING:
        on_hand, total, speed = max(run.bytes, 0), run.total, run.speed
    if error is None and job.error_code is not None:
        error = job.error_code, job.error_message or ""
    name = job.name or job.wanted
    return JobSnapshot(
        id=job.id,
        owner=job.owner,
        state=state,
        reason=reason,
        url=job.url,
        path=None if name is None else join(job.directory, name),
        workspace=workspace,
        options={
            "directory": job.directory,
            "name": job.wanted,
            "checksum": job.checksum,
            "if_exists": job.if_exists,
            "priority": job.priority,
            "retries": job.retries,
            "secrets": job.secret,
            **_asked(job),
        },
        group=job.group or None,
        labels=job.labels,
        priority=job.priority,
        bytes=on_hand,
        total=total,
        speed=speed,
        eta=eta(on_hand, total, speed),
        attempt=job.attempt,
        error=None if error is None else JobError(*error),
        checksum=job.digest or job.checksum,
        created=job.created,
        started=job.started,
        finished=job.finished,
        not_before=job.wait_since + job.wait_for if job.wait_for else not_before,
        bytes_wasted=min(job.wasted, MAX_INT),
        revision=job.revision,
        seq=seq,
        warning=None if job.warning_code is None else JobError(job.warning_code, job.warning_message or ""),
    )


def _asked(job: Job) -> dict[str, object]:
    """What was asked for beyond the ordinary. Mirrors and proxy are stored as they may be shown."""
    asked: dict[str, object] = to_builtins(job.options)
    if "mirrors" in asked:
        asked["mirrors"] = list(job.options.mirrors)
    if job.limit_rate:
        asked["limit_rate"] = job.limit_rate
    if job.deadline:
        asked["expires"] = job.deadline
    return asked


def eta(on_hand: int, total: int | None, speed: float | None) -> float | None:
    """Seconds until all bytes are there, at this speed; None where that cannot be said."""
    if total is None or not speed:
        return None
    return min(LONGEST_ETA, max(0.0, (total - on_hand) / speed))
