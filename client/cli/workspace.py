"""`fetchd workspace`: the temp directories of jobs."""

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fetchd.protocol.control import WorkspaceInfo
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id

from . import text
from .context import Duration, Reach, json_option, reaches_daemon
from .output import note, outcome_json, print_json, table
from .verbs import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = ("JOB", "STATE", "SIZE", "UNTOUCHED", "PATH")


@click.group()
def workspace() -> None:
    """Look into and clean up the temp directories of jobs."""


@workspace.command("ls")
@json_option
@reaches_daemon
def list_(reach: Reach, as_json: bool) -> None:
    """List the workspaces that lie in the staging areas, largest first."""
    with reach() as client:
        found = sorted(client.workspaces(), key=lambda info: -info.bytes)
    if as_json:
        print_json([_json(info) for info in found])
    elif found:
        table(HEAD, [_row(info) for info in found])


def _json(info: WorkspaceInfo) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(info)
    return fields


def _row(info: WorkspaceInfo) -> tuple[str, ...]:
    state = "orphan" if info.state is None else str(info.state)
    return (info.job, state, text.size(info.bytes), text.duration(info.age), text.clean(info.path))


@workspace.command()
@click.argument("job_id", metavar="ID")
@click.argument("name", required=False)
@json_option
@reaches_daemon
def path(reach: Reach, job_id: str, name: str | None, as_json: bool) -> None:
    """Print the path of a job's workspace, or of a file in it."""
    if name is not None and (PurePath(name).is_absolute() or ".." in PurePath(name).parts):
        raise click.UsageError(f"{name} is not the name of a file in a workspace")
    with reach() as client:
        (found,) = _named(client.workspaces(), [job_id])
        if client.elsewhere:
            note("a path on the daemon's machine:")
    whole = found.path if name is None else str(PurePath(found.path, name))
    if as_json:
        print_json({"job": found.job, "path": whole})
    else:
        click.echo(whole)


@workspace.command()
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--orphans", is_flag=True, help="Those that belong to no known job.")
@click.option("--older-than", type=Duration(), metavar="DURATION", help="Those not written for this long.")
@json_option
@reaches_daemon
def clean(
    reach: Reach, ids: tuple[str, ...], orphans: bool, older_than: float | None, as_json: bool
) -> int:  # fmt: skip
    """Delete workspaces of finished jobs. Those of live jobs are never touched."""
    if not ids and not orphans and older_than is None:
        raise click.UsageError("which workspaces? IDs, --orphans or --older-than")
    with reach() as client:
        chosen = [info.job for info in _named(client.workspaces(), ids)] if ids else []
        outcomes = client.clean_workspaces(chosen, orphans=orphans, older_than=older_than)
    if as_json:
        print_json([outcome_json(outcome) for outcome in outcomes])
    elif not outcomes:
        note("nothing to clean up")
    return tell(outcomes, "workspace deleted", as_json)


def _named(found: "Iterable[WorkspaceInfo]", ids: "Iterable[str]") -> list[WorkspaceInfo]:
    """The workspaces of these IDs, or unique beginnings of IDs; each once, in order."""
    by_job = {info.job: info for info in found}
    chosen: dict[str, WorkspaceInfo] = {}
    for written in ids:
        if not is_correlation_id(written):
            raise FetchdError(Code.INVALID_ID, job=written)
        matches = [written] if written in by_job else [job for job in by_job if job.startswith(written)]
        if not matches:
            raise FetchdError(Code.NO_SUCH_JOB, "no workspace belongs to this ID", job=written)
        if len(matches) > 1:
            names = " and ".join(matches[:2])
            raise click.UsageError(f"{written} is the beginning of several jobs, {names} among them")
        chosen.setdefault(matches[0], by_job[matches[0]])
    return list(chosen.values())
