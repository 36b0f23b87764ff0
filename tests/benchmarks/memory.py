"""Row 9: memory of the whole family, idle and with five workers after transfers, and of each worker.

python -m tests.benchmarks.memory [--rounds N] [--quick] [--detail]

PSS shares what several processes have in common out among them; "private" is what a worker alone holds.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.support.daemon import DaemonProcess
from tests.support.nginx import Nginx
from tests.support.wait import Deadline

from fetchd.client import Client

from . import table
from .meter import family, memory, name, total_pss
from .peers import Aria2, missing
from .stage import MIB, Field, daemon, field, make_file, options, origin

WORKERS = 5
IDLE_GOAL, BUSY_GOAL, PRIVATE_GOAL = 60e6, 90e6, 6e6
RATE = 16 * MIB
"""Bytes a second of each of the transfers that keep all workers busy at once."""

LOOK_EVERY = 0.02


class Found(NamedTuple):
    """Bytes: the family idle, the family after transfers, and the largest private part of a worker."""

    idle: int
    after: int
    private: int


def until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again, for 15 seconds at most."""
    deadline, pause = Deadline(15), threading.Event()
    while not condition():
        pause.wait(min(LOOK_EVERY, deadline.left(what)))


def idle_workers(client: Client) -> list[int]:
    """Processes of the workers that are there and have nothing to do."""
    return [w.pid for w in client.status().workers if w.state == "idle" and w.pid is not None]


def ours(server: Nginx, place: Field, detail: bool) -> Found:
    """A fresh daemon: with its first spare, then after five transfers at once."""
    with daemon({"FETCHD_WORKERS": str(WORKERS)}) as process, process.client() as client:
        first = place.fresh()
        client.submit(server.url("small"), directory=first).result(timeout=30)
        until(lambda: len(idle_workers(client)) >= 1, "a spare worker")
        idle = total_pss(family(process.pid))
        if detail:
            show_family("idle, one spare that has fetched a small file", process)
        jobs = client.submit_many(
            {"url": server.url(f"slow/large{n}"), "directory": first} for n in range(WORKERS)
        )
        for job in jobs:
            job.result(timeout=60)
        until(lambda: len(idle_workers(client)) == WORKERS, "five idle workers")
        after = total_pss(family(process.pid))
        if detail:
            show_family("five workers after transfers", process)
        return Found(idle, after, max(memory(pid).private for pid in idle_workers(client)))


def show_family(title: str, process: DaemonProcess) -> None:
    """Each process of the daemon by itself."""
    print(f"\n{title}")
    for pid in sorted(family(process.pid)):
        used = memory(pid)
        cells = f"PSS {table.megabytes(used.pss)}, private {table.megabytes(used.private)}"
        print(f"  {name(pid):16} {cells}")


def theirs(server: Nginx, place: Field) -> Found:
    """aria2's daemon on the same work; it has no workers."""
    directory = place.fresh()
    with Aria2() as peer:
        peer.add([server.url("small")], directory)
        peer.wait_idle()
        idle = total_pss([peer.process.pid])
        peer.add([server.url(f"slow/large{n}") for n in range(WORKERS)], directory)
        peer.wait_idle()
        return Found(idle, total_pss([peer.process.pid]), 0)


def rows(mine: Sequence[Found], peers: Sequence[Found]) -> list[table.Row]:
    """The table, in medians."""
    made = [
        table.bounded("idle daemon, one spare", median(f.idle for f in mine), table.megabytes, IDLE_GOAL),
        table.bounded("with five workers", median(f.after for f in mine), table.megabytes, BUSY_GOAL),
        table.bounded("private, the largest worker", median(f.private for f in mine), table.megabytes,
                      PRIVATE_GOAL),
    ]  # fmt: skip
    if not peers:
        return made
    pairs = [([f[part] for f in mine], [f[part] for f in peers]) for part in (0, 1)]
    return [
        *made,
        table.compare("  idle against aria2's daemon", *pairs[0], table.megabytes),
        table.compare("  after five transfers", *pairs[1], table.megabytes),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--detail", action="store_true", help="show every process of the daemon")
    chosen = parser.parse_args(arguments)
    large = RATE if chosen.quick else 4 * RATE
    mine: list[Found] = []
    peers: list[Found] = []
    with origin(RATE) as server, field() as place:
        make_file(server, "small", 4096)
        for number in range(WORKERS):
            _hollow(server.www / f"large{number}", large)
        for number in range(chosen.rounds):
            mine.append(ours(server, place, chosen.detail and number == 0))
            if not missing("aria2c"):
                peers.append(theirs(server, place))
            table.say(f"round {number + 1}: {mine[-1]}")
    table.show(f"Row 9: memory (PSS), {chosen.rounds} rounds", rows(mine, peers))


def _hollow(path: Path, size: int) -> None:
    """A file of holes: to those who fetch it as good as bytes."""
    with path.open("wb") as file:
        file.truncate(size)


if __name__ == "__main__":
    main()
