"""What goes to stdout and stderr: JSON for scripts, tables and lines for people.

stdout is data, stderr the rest. The JSON's fields are a contract (more may be added, none renamed): times are
RFC 3339 UTC, sizes bytes, speeds bytes a second, durations seconds, unknown is null.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from fetchd.client.session import Event
from fetchd.protocol.control import Outcome
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSnapshot
from fetchd.protocol.status import DaemonStatus

from . import exits, text

TIMES = ("created", "started", "finished", "not_before")


def job_json(job: JobSnapshot) -> dict[str, Any]:
    """A job as scripts see it."""
    fields: dict[str, Any] = msgspec.to_builtins(job)
    del fields["seq"]  # a matter between a subscriber and the daemon
    for name in TIMES:
        fields[name] = text.rfc3339(fields[name])
    return fields


def status_json(status: DaemonStatus) -> dict[str, Any]:
    """The daemon's status as scripts see it."""
    fields: dict[str, Any] = msgspec.to_builtins(status)
    fields["started"] = text.rfc3339(status.started)
    for held in fields["held"]:
        held["since"] = text.rfc3339(held["since"])
    return fields


def event_json(event: Event) -> dict[str, Any]:
    """An event as scripts see it."""
    data = job_json(event.data) if isinstance(event.data, JobSnapshot) else msgspec.to_builtins(event.data)
    return {
        "topic": event.topic, "epoch": event.epoch, "seq": event.seq, "revision": event.revision,
        "time": text.rfc3339(event.time), "type": event.type, "job": event.job, "data": data,
    }  # fmt: skip


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """What a verb did to one job, as scripts see it."""
    fields: dict[str, Any] = msgspec.to_builtins(outcome)
    return fields


def error_json(error: FetchdError) -> dict[str, Any]:
    """An error as scripts see it on stderr."""
    fields = {"code": str(error.code), "message": error.message, "job": job_of(error)}
    if "url" in error.details:
        fields["url"] = str(error.details["url"])
    return {"error": fields}


def job_of(error: FetchdError) -> str | None:
    """The job an error is about, if it is about one."""
    job = error.details.get("job")
    return job if isinstance(job, str) else None


def print_json(value: object) -> None:
    """One JSON document on stdout. ASCII, so that nothing in it can act on a terminal."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def json_line(value: object) -> str:
    """One JSON document on one line."""
    return json.dumps(value, separators=(",", ":"))


def note(line: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(f"fetchd: {line}\n")
    sys.stderr.flush()


def report(error: FetchdError, as_json: bool) -> None:
    """An error on stderr: what happened, to which job, what to do next."""
    if as_json:
        sys.stderr.write(json_line(error_json(error)) + "\n")
        return
    for line in error_lines(error):
        note(line)


def error_lines(error: FetchdError) -> list[str]:
    """An error for people. A job that was refused is named by its URL: no other command knows its ID."""
    url = error.details.get("url")
    job = str(url) if url and error.code is not Code.CONFLICT else job_of(error)
    subject = f"{text.clean(job)}: " if job else ""
    lines = [f"{subject}{error.code}: {text.clean(error.message)}"]
    hint = exits.HINTS.get(error.code)
    if hint is not None and not {"tried_to_start", "elsewhere"} & error.details.keys():
        lines.append(f"hint: {hint}")
    return lines


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines with aligned columns; the last is left as long as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]])
        .rstrip() + "\n"
        for row in rows
    )  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: fitted to a terminal, plain and whole elsewhere."""
    if not sys.stdout.isatty():
        sys.stdout.write(columns([head, *rows]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(head):
        last = index == len(head) - 1
        drawn.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1 if last else None)
    for row in rows:
        drawn.add_row(*map(Text, row))  # Text: square brackets in names are no markup
    Console().print(drawn)


def describe(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line, on stdout."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        sys.stdout.write(f"{name.ljust(width)}  {value}\n")
