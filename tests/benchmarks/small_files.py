"""Row 4: thousands of small files through the daemon, all of them durable, against aria2's daemon.

python -m tests.benchmarks.small_files [--count N] [--rounds N] [--ends status|wait|events] [--quick]

wget2 and curl fetch the same list in one call each, for information: they queue and sync nothing.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from tests.support.wait import Deadline

from fetchd.client import Client, Job, State
from fetchd.protocol.job import TERMINAL

from . import profiling, table
from .meter import Cost, metered
from .peers import MANY_FILES, Aria2, missing
from .stage import Field, add_profile, check, daemon, field, make_files, options, origin

SIZE = 4096
GOAL = 1.5
LIMIT = 300.0
"""Seconds that one run may take."""

LOOK_EVERY = 0.005
"""Seconds between two looks at the counters, as often as the peer is asked."""


def by_wait(client: Client, jobs: Sequence[Job]) -> None:
    """Wait as a program does that uses the client."""
    ended = client.wait(jobs, timeout=LIMIT)
    bad = [snapshot for snapshot in ended if snapshot.state is not State.COMPLETED]
    assert not bad, bad[0]


def by_status(client: Client, _jobs: Sequence[Job]) -> None:
    """Look at the daemon's counters again and again, as the peer is waited for."""
    deadline, pause = Deadline(LIMIT), threading.Event()
    while _unfinished(client):
        pause.wait(min(LOOK_EVERY, deadline.left("the end of all jobs")))


def _unfinished(client: Client) -> int:
    return sum(count for state, count in client.status().counts.items() if State(state) not in TERMINAL)


def by_events(client: Client, jobs: Sequence[Job]) -> None:
    """Listen to what is published. Subscribed after the submit, so what is over by then is asked for."""
    with client.subscribe("job.") as news:
        left = {job.id for job in jobs}
        left -= {i for i, snapshot in client.find(left).items() if snapshot.state in TERMINAL}
        deadline = Deadline(LIMIT)
        while left:
            deadline.left("the end of all jobs")
            for event in news.step(time.monotonic() + 1):
                if event.snapshot is not None and event.snapshot.state in TERMINAL:
                    left.discard(event.snapshot.id)


ARIA2: dict[str, list[str]] = {"aria2 daemon": [], "aria2, no syncs": ["--auto-save-interval=0"]}
"""By default aria2 syncs the empty file and, twice, its own record of it, though never the content."""

ENDS: dict[str, Callable[[Client, Sequence[Job]], None]] = {
    "status": by_status,
    "wait": by_wait,
    "events": by_events,
}


def ours(client: Client, pid: int, urls: Sequence[str], place: Field, ends: str, _round: int) -> Cost:
    """Submit all in batches, wait for the end of the last."""
    directory = place.fresh()
    with metered(pid) as meter:
        jobs = client.submit_many({"url": url, "directory": directory} for url in urls)
        ENDS[ends](client, jobs)
    check(directory, len(urls), SIZE)
    return meter.cost


def theirs(peer: Aria2, urls: Sequence[str], place: Field, _round: int) -> Cost:
    """The same through aria2's daemon, with its defaults: five at once."""
    directory = place.fresh()
    peer.forget()
    with metered(peer.process.pid) as meter:
        peer.add(urls, directory)
        peer.wait_idle()
    check(directory, len(urls), SIZE)
    return meter.cost


def at_once(name: str, urls: Sequence[str], place: Field, _round: int) -> Cost:
    """The same by a program that is called once."""
    directory = place.fresh()
    cost = MANY_FILES[name][1](urls, directory, place.log)
    check(directory, len(urls), SIZE)
    return cost


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--count", type=int, default=5000, help="number of files [5000]")
    parser.add_argument(
        "--ends", choices=[*ENDS], default="status", help="how the end is learnt [status, as from the peer]"
    )
    parser.add_argument("--workers", type=int, default=5, help="workers of the daemon [5]")
    add_profile(parser)
    chosen = parser.parse_args(arguments)
    count = 1000 if chosen.quick else chosen.count
    with (
        origin() as server,
        field() as place,
        daemon({"FETCHD_WORKERS": str(chosen.workers)}) as process,
        process.client() as client,
    ):
        urls = make_files(server, count, SIZE)
        contender = partial(ours, client, process.pid, urls, place, chosen.ends)
        warm = partial(ours, client, process.pid, urls[:50], place, chosen.ends)
        warm(0)
        if chosen.profile:
            with profiling.profiled(f"row 4, {chosen.rounds} × {count} files", process.pid):
                table.rounds({"fetchd": contender}, chosen.rounds)
            return
        found = _compete(contender, urls, place, chosen.rounds)
    rows = []
    for name, costs in found.items():
        if name != "fetchd":
            mine, other = ([count / cost.wall for cost in side] for side in (found["fetchd"], costs))
            goal = GOAL if name in ARIA2 else None
            rows.append(table.compare(f"jobs, {name}", mine, other, table.per_second, at_least=goal))
            rows += table.costs(name, found["fetchd"], costs)[1:]
    table.show(
        f"Row 4: {count} files of 4 KiB, {chosen.rounds} rounds, ends by {chosen.ends}", rows, place.disk
    )


def _compete(
    contender: table.Contender, urls: Sequence[str], place: Field, rounds: int
) -> dict[str, list[Cost]]:
    contenders = {"fetchd": contender}
    for name, (program, _) in MANY_FILES.items():
        if not missing(program):
            contenders[name] = partial(at_once, name, urls, place)
    with ExitStack() as stack:
        for name, options in ARIA2.items():
            if not missing("aria2c"):
                contenders[name] = partial(theirs, stack.enter_context(Aria2(*options)), urls, place)
        return table.rounds(contenders, rounds)


if __name__ == "__main__":
    main()
