"""Downloads and an honest client beside a crowd of connections that are of no use: what it costs.

python -m tests.faults.crowds [--tcp] [--connections N] [--kind KIND …] [--files N] [--descriptors N]

The crowds come in turn, each from several processes (see `throng`). Prints how the daemon was before, while
a crowd came, beside it, and after it had gone: connections, the time until a new client has its answer, the
time for the same downloads, the loop's 99th percentile, memory. With `--tcp` they come over TCP, where the
client has a key. Nothing is decided by time: the exit status
is 1 where the daemon does not survive, a download fails, a client has no answer, or memory is not bounded.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

from .stopped_clients import measure
from .throng import SAYS

if TYPE_CHECKING:
    from support.daemon import DaemonProcess
    from support.keyed import Keyed
    from support.origin import Origin

    from fetchd.client import Client

KINDS = (*SAYS, "stranger")

A_PROCESS = 2500
"""Connections of one process."""

MEMORY = 192 << 20
"""Bytes that the supervisor may grow by: 50 KiB for each connection that it takes, twice."""

LIMIT = 'ulimit -n "$1" && shift && exec "$@"'
"""A shell's words to run a program with so many descriptors at most."""


@dataclass
class Beside:
    """How the daemon was: its connections, seconds until a new client has its answer and until all downloads
    are there, the loop's 99th percentile in s, the supervisor's memory in bytes."""

    name: str
    connections: int
    answer: float
    downloads: float
    p99: float
    rss: int


def limit(daemon: "DaemonProcess", descriptors: int) -> "DaemonProcess":
    """The daemon, not started yet, with so many descriptors at most."""
    daemon.command = ["sh", "-c", LIMIT, "sh", str(descriptors), *daemon.command]
    return daemon


def connections(daemon: "DaemonProcess") -> int:
    """Sockets of the supervisor: its clients, and few others."""
    found = 0
    for entry in os.scandir(f"/proc/{daemon.pid}/fd"):
        try:
            found += os.readlink(entry.path).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def answer(ask: "Callable[[], Client]") -> float:
    """Seconds until a new client has its answer."""
    began = time.monotonic()
    with ask() as client:
        client.status()
    return time.monotonic() - began


@contextmanager
def crowd(endpoint: str, kind: str, count: int, key: str = "") -> "Iterator[list[subprocess.Popen[bytes]]]":
    """So many connections, by processes that have begun to make them. `key`: the server's."""
    with ExitStack() as stack:
        made = []
        for begin in range(0, count, A_PROCESS):
            arguments = [kind, endpoint, str(min(A_PROCESS, count - begin)), key]
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("throng.py")), *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.callback(process.communicate)
            stack.callback(process.kill)
            made.append(process)
        yield made


def run(
    daemon: "DaemonProcess", origin: "Origin", place: Path, *, kind: str, count: int, files: int,
    keyed: "Keyed | None" = None,
) -> list[Beside]:  # fmt: skip
    """Before a crowd, while it comes, beside it, and after it. An error where a download or a request fails.

    `keyed` is the daemon that the crowd and the new clients reach over TCP; these have the key `honest`.
    """
    from support.wait import read_line

    pid = daemon.pid
    place.mkdir()
    known = {} if keyed is None else keyed.sockets
    endpoint, key = known.get("tcp", daemon.endpoint.control), known.get("server_key", "")
    with daemon.client() as client:

        def look(name: str) -> Beside:
            there = connections(daemon)
            seconds = answer(daemon.client if keyed is None else lambda: keyed.client("honest"))
            figures = measure(daemon, client, origin, place / name, files)
            return Beside(name, there, seconds, figures.seconds, figures.p99, figures.rss)

        measure(daemon, client, origin, place / "first", files)
        found = [look("before")]
        with crowd(endpoint, kind, count, key) as processes:
            found.append(look("coming"))
            for process in processes:
                assert process.stdout is not None
                assert read_line(process.stdout.fileno(), 120, "the crowd") == b"there\n"
            found.append(look("beside"))
        found.append(look("after"))
    assert daemon.pid == pid
    assert daemon.is_running, "it has ended"
    return found


def grown(found: list[Beside]) -> int:
    """Bytes that the supervisor has grown by."""
    return max(each.rss for each in found[1:]) - found[0].rss


def show(kind: str, found: list[Beside]) -> None:
    """Print it as a table."""
    print(f"{kind:10}{'connections':>12}{'answer ms':>11}{'downloads s':>13}{'p99 ms':>9}{'RSS MiB':>9}")
    for each in found:
        print(
            f"  {each.name:8}{each.connections:12}{each.answer * 1000:11.1f}{each.downloads:13.2f}"
            f"{each.p99 * 1000:9.2f}{each.rss / (1 << 20):9.1f}",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 if memory was not bounded."""
    from support.daemon import DaemonProcess
    from support.keyed import Keyed
    from support.origin import Origin
    from support.tmp import TempDir

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000, help="of a crowd [10000]")
    parser.add_argument("--kind", action="append", choices=KINDS, help="what they say [each in turn]")
    parser.add_argument("--tcp", action="store_true", help="over TCP")
    parser.add_argument("--files", type=int, default=200, help="files of 200 kB to download [200]")
    parser.add_argument("--descriptors", type=int, help="that the daemon may have [as many as we may]")
    chosen = parser.parse_args(arguments)
    most = 0
    for kind in chosen.kind or KINDS[: None if chosen.tcp else -1]:
        with TempDir() as place, Origin() as origin, ExitStack() as stack:
            keyed = Keyed(DaemonProcess, place)
            daemon = stack.enter_context(keyed.daemon if chosen.tcp else DaemonProcess())
            if chosen.descriptors:
                limit(daemon, chosen.descriptors)
            daemon.start()
            if chosen.tcp:
                keyed.authorize(keyed.line("honest"))
            found = run(
                daemon, origin, place / kind, kind=kind, count=chosen.connections, files=chosen.files,
                keyed=keyed if chosen.tcp else None,
            )  # fmt: skip
            show(kind, found)
            most = max(most, grown(found))
    print(f"grown by {most >> 20} MiB, allowed {MEMORY >> 20} MiB")
    return int(most > MEMORY)


if __name__ == "__main__":
    sys.exit(main())
