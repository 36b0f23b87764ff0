"""`fetchd daemon logs`: the log file of a daemon that was started by a client."""

import os
import select
import sys
from collections import deque
from pathlib import Path
from typing import BinaryIO, NoReturn

import click

from . import exits
from .context import refuse_remote
from .interrupt import waking
from .output import note
from .text import clean

CHUNK = 1 << 16


@click.command()
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), default=20, show_default=True,
              help="Show this many lines from the end.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
def logs(count: int, follow: bool) -> int:
    """Show the log of the daemon that was started in the background."""
    from fetchd.client.start import log_file
    from fetchd.protocol import paths

    refuse_remote("looked into")
    state = paths.state_dir()
    path = log_file(state)
    endpoint = paths.read_endpoint(state)
    elsewhere = None if endpoint is None else _elsewhere(endpoint.pid, path)
    if elsewhere is not None:
        note(elsewhere)
        return exits.FAILED
    if not path.exists():
        note(f"there is no {clean(str(path))}: no daemon was started in the background yet")
        return exits.FAILED
    if follow:
        with waking() as wake:
            _follow(path, count, wake)
    with path.open("rb") as file:
        for line in deque(file, count):
            _write(line)
    return exits.OK


def _elsewhere(pid: int, path: Path) -> str | None:
    """Where a running daemon logs if not to its file; None if it does, or cannot be looked at."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/2")
    except OSError:
        return None
    if target == str(path.resolve()):
        return None
    if target.startswith("socket:"):
        return "the daemon is run by systemd; see: journalctl --user -u fetchd (or without --user)"
    return f"the daemon (pid {pid}) was not started in the background; it logs to {clean(target)}"


def _follow(path: Path, count: int, wake: int) -> NoReturn:
    """Print the last lines and then what is written, in the next file where this one is put aside."""
    from fetchd.protocol.inotify import GROWTH, Watch

    watch = Watch(path.parent, [path.name], GROWTH)
    try:
        poller = select.poll()
        poller.register(watch.fd, select.POLLIN)
        poller.register(wake, select.POLLIN)
        file = path.open("rb")
        try:
            for line in deque(file, count):
                _write(line)
            sys.stdout.flush()
            while True:  # KeyboardInterrupt ends it
                poller.poll()
                watch.changed()
                _copy(file)
                if _replaced(path, file.fileno()):
                    file.close()
                    file = path.open("rb")
                    _copy(file)
                sys.stdout.flush()
        finally:
            file.close()
    finally:
        watch.close()


def _replaced(path: Path, descriptor: int) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False  # put aside, and the next one is not there yet
    return found.st_ino != os.fstat(descriptor).st_ino


def _copy(file: BinaryIO) -> None:
    while chunk := file.read(CHUNK):
        _write(chunk)


def _write(data: bytes) -> None:
    """A log quotes servers: what could act on a terminal is shown as escapes."""
    whole = data.decode("utf-8", "replace")
    sys.stdout.write("\n".join(map(clean, whole.split("\n"))))
