"""`fetchd daemon`: the life cycle.

What needs the daemon's code is run by exec of `python -m fetchd.daemon`; it is never imported here.
"""

import os
import select
from typing import NoReturn

import click
import msgspec

from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.status import DaemonStatus

from . import text
from .context import Where, client, exec_daemon, json_option, names_daemon, refuse_remote
from .logs import logs
from .output import describe, note, print_json, status_json

NAMES = {"tcp": "over TCP", "server_key": "server key"}
"""What is said of a daemon's `sockets` that are none of this machine."""

STOP_TIMEOUT = 5.0
"""Seconds of silence after which a daemon that was told to stop is taken to have heard it."""


@click.group()
def daemon() -> None:
    """Start, stop and look at the daemon."""


@daemon.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> NoReturn:
    """Run the daemon in the foreground; all arguments are passed on to it."""
    exec_daemon("run", *arguments)


@daemon.command()
def start() -> None:
    """Start the daemon in the background and wait until it is ready."""
    from fetchd.client.start import start_daemon
    from fetchd.protocol import paths

    refuse_remote("started")
    state = paths.state_dir()
    if start_daemon(state, note) is None:
        endpoint = paths.read_endpoint(state)
        note(f"the daemon runs already{f' (pid {endpoint.pid})' if endpoint else ''}")


@daemon.command()
@click.option("--now", is_flag=True, help="Do not let running downloads save their progress first.")
@names_daemon
def stop(now: bool, where: Where) -> None:
    """Stop the daemon and wait until it is gone. Downloads go on when it is started again.

    One over TCP is told to stop, and not waited for.
    """
    from fetchd.client.locate import Finder

    finder = Finder(where.socket, server_key=where.server_key, key=where.key)
    if finder.find() is None:
        note("no daemon runs")
        return
    with client(where, start=False, timeout=STOP_TIMEOUT) as c:
        pid = c.status().pid
        process = _pidfd(pid) if finder.remote is None else None
        try:
            c.shutdown(now=now)
        except FetchdError as error:
            # It may be gone before its answer is out; whether it is, the process tells.
            if error.code is not Code.NO_DAEMON or (process is None and finder.remote is None):
                raise
    if process is not None:
        poller = select.poll()
        poller.register(process, select.POLLIN)
        poller.poll()
        os.close(process)
    at = "" if finder.remote is None else f" at {finder.named}, which has to be started there"
    note(f"stopped the daemon (pid {pid}){at}")


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # in another PID namespace, or just gone


daemon.add_command(logs)


@daemon.command()
@json_option
@names_daemon
def reload(as_json: bool, where: Where) -> None:
    """Make the daemon read its configuration again, and say which changes are in force when."""
    with client(where, start=False) as c:
        answer = c.reload()
    if as_json:
        print_json(msgspec.to_builtins(answer))
        return
    changes = [
        ("in force now", answer.live),
        ("for the next worker", answer.next_worker),
        ("after a restart", answer.restart),
    ]
    told = [(when, ", ".join(map(text.clean, keys))) for when, keys in changes if keys]
    if told:
        describe(told)
    else:
        note("nothing has changed")


@daemon.command()
@json_option
@names_daemon
def status(as_json: bool, where: Where) -> None:
    """How the daemon is. Exit code 3 if none runs."""
    with client(where, start=False) as c:
        answer = c.status()
    if as_json:
        print_json(status_json(answer))
    else:
        describe(status_lines(answer))


def status_lines(status: DaemonStatus) -> list[tuple[str, str]]:
    """The status for people, as (name, value); nothing in it can act on a terminal."""
    workers = [
        f"{w.slot}: {text.clean(w.state)}"
        + (f", pid {w.pid}" if w.pid is not None else "")
        + (f", job {w.job}" if w.job else "")
        for w in status.workers
    ]
    lines = [
        ("daemon", f"pid {status.pid}, version {status.version}{', stopping' if status.draining else ''}"),
        ("started", text.local_time(status.started)),
        ("state", text.clean(status.state_dir)),
        *((NAMES.get(name, f"{name} socket"), text.clean(at)) for name, at in status.sockets.items()),
        ("epoch", status.epoch),
        ("revision", str(status.revision)),
        ("sandbox", ", ".join(f"{layer}: {what}" for layer, what in status.sandbox.items()) or "none"),
        ("jobs", ", ".join(f"{count} {state}" for state, count in status.counts.items() if count) or "none"),
        ("loop p99", f"{status.loop_p99 * 1000:.1f} ms"),
    ]
    lines += [("worker", worker) for worker in workers]
    if status.keys_trouble is not None:
        lines.append(("keys", f"not in force: {text.clean(status.keys_trouble)}"))
    for held in status.held:
        what = "everything" if held.kind == "daemon" else f"{held.kind} {held.name}"
        why = f": {held.detail}" if held.detail else ""
        lines.append(("held", f"{what}, {held.reason}, since {text.local_time(held.since)}{why}"))
    return [(name, text.clean(value)) for name, value in lines]
