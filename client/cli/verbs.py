"""Commands that change what becomes of jobs: pause, resume, cancel, retry, rm."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fetchd.protocol.control import Outcome

from . import exits
from .completion import job_ids
from .context import Reach, json_option, reaches_daemon, resolve
from .output import note, outcome_json, print_json, report

F = TypeVar("F", bound=Callable[..., Any])

DONE = {
    "pause": "paused", "resume": "resumed", "cancel": "cancelled", "retry": "queued again",
    "remove": "removed",
}  # fmt: skip
BULK = {
    "pause": "the queue is paused, for new jobs too, until: fetchd resume --all",
    "resume": "the queue goes on, and all paused jobs with it",
    "cancel": "all live jobs are being cancelled",
    "retry": "all failed and cancelled jobs are being queued again",
    "remove": "all jobs are being removed",
}
BULK_FAILED = {
    "retry": "all failed jobs are being queued again",
    "remove": "all failed jobs are being removed",
}
ASK = {
    "cancel": "Cancel all jobs for good?",
    "remove": "Cancel all live jobs and forget all finished ones?",
}
"""What is asked on a terminal before it is done to everything."""


def picks_jobs(command: F) -> F:
    """Give a command the arguments ID… and --all, with --json and the way to the daemon."""
    for option in (
        reaches_daemon,
        json_option,
        click.option("--all", "everything", is_flag=True, help="All jobs to which it applies."),
        click.argument("ids", metavar="[ID...]", nargs=-1, shell_complete=job_ids),
    ):
        command = option(command)
    return command


failed_option = click.option("--failed", is_flag=True, help="All failed jobs.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.command()
@picks_jobs
def pause(**options: Any) -> int:
    """Hold jobs, keeping what they have fetched.

    With --all the whole queue is held, later submits too.
    """
    return apply("pause", **options)


@click.command()
@picks_jobs
def resume(**options: Any) -> int:
    """Let paused jobs go on.

    With --all the queue is opened again as well.
    """
    return apply("resume", **options)


@click.command()
@yes_option
@picks_jobs
def cancel(**options: Any) -> int:
    """Cancel jobs for good and delete what they have fetched.

    Delivered files stay.
    """
    return apply("cancel", **options)


@click.command()
@failed_option
@picks_jobs
def retry(**options: Any) -> int:
    """Queue failed or cancelled jobs again.

    Those that wait for another attempt get it at once.
    """
    return apply("retry", **options)


@click.command()
@yes_option
@failed_option
@picks_jobs
def rm(**options: Any) -> int:
    """Cancel jobs if they are live, then forget them. Delivered files stay."""
    return apply("remove", **options)


def apply(
    verb: str, *, reach: Reach, ids: tuple[str, ...], everything: bool, as_json: bool, failed: bool = False,
    yes: bool = False,
) -> int:  # fmt: skip
    """Do it to these jobs or to all; the exit code."""
    wide = everything or failed
    if bool(ids) == wide:
        raise click.UsageError("name jobs, or all of them, not both" if ids else "which jobs? IDs, or --all")
    if everything and not failed and verb in ASK and not yes and not _agreed(ASK[verb]):
        note("nothing was done")
        return exits.FAILED
    with reach() as client:
        act = getattr(client, verb)
        if wide:
            outcomes = act(all=everything, failed=True) if failed else act(all=True)
        else:
            outcomes = act([job.id for job in resolve(client, ids)])
    if as_json:
        print_json([outcome_json(outcome) for outcome in outcomes])
    elif wide:
        note(BULK_FAILED[verb] if failed else BULK[verb])
    return tell(outcomes, DONE[verb], as_json)


def tell(outcomes: list[Outcome], done: str, as_json: bool) -> int:
    """Say what became of each; the exit code of the first that had no effect."""
    from fetchd.client.jobs import refused

    code = exits.OK
    for outcome in outcomes:
        if outcome.code is None:
            if not as_json:
                note(f"{outcome.id}: {done}")
            continue
        error = refused(outcome)
        report(error, as_json)
        code = code or exits.of_refusal(error.code)
    return code


def _agreed(question: str) -> bool:
    """Whether the user agrees; a script, which cannot be asked, does."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return click.confirm(question, err=True)
