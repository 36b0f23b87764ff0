"""Row 5: one file from an origin that gives each connection 20 MB/s: eight segments against one.

python -m tests.benchmarks.segments [--size MIB] [--rounds N] [--quick] [--profile]

The goal is of fetchd against itself: the wall time with one segment divided by that with eight. Beside it
stand aria2c and axel with eight connections to the same origin.
"""

from functools import partial

from fetchd.client import Client

from . import profiling, table
from .meter import Cost, metered
from .one_file import peer
from .peers import SEGMENTED, Source, missing
from .stage import MIB, Field, add_profile, check, daemon, field, make_file, options, origin

RATE = 20_000_000
"""Bytes a second that one connection gets."""

SEGMENTS = 8
GOAL = 7.6

# what nginx sends before it begins to count should not matter
BURST = "sendfile_max_chunk 256k;"


def fetch(client: Client, pid: int, url: str, place: Field, size: int, segments: int, _round: int) -> Cost:
    """Submit with so many segments, wait for the file, look at it."""
    directory = place.fresh()
    with metered(pid) as meter:
        client.submit(url, directory=directory, segments=segments).result(timeout=600)
    check(directory, 1, size)
    return meter.cost


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--size", type=int, default=640, help="size of the file in MiB [640]")
    add_profile(parser)
    chosen = parser.parse_args(arguments)
    size = (128 if chosen.quick else chosen.size) * MIB
    peers = [name for name, (program, _) in SEGMENTED.items() if not missing(program)]
    title = (
        f"Row 5: one file of {size // MIB} MiB at {RATE // 10**6} MB/s a connection, {chosen.rounds} rounds"
    )
    with origin(RATE, BURST) as server, field() as place, daemon() as process, process.client() as client:
        make_file(server, "file", size)
        url = server.url("slow/file")
        one = partial(fetch, client, process.pid, url, place, size, 1)
        eight = partial(fetch, client, process.pid, url, place, size, SEGMENTS)
        eight(0)  # the first attempt starts the worker; a daemon that runs has one
        if chosen.profile:
            with profiling.profiled(title, process.pid):
                table.rounds({"fetchd": eight}, chosen.rounds)
            return
        contenders = {name: partial(peer, SEGMENTED[name], Source(url), place, size) for name in peers}
        found = table.rounds({"one": one, "eight": eight, **contenders}, chosen.rounds)
    walls = {name: [cost.wall for cost in costs] for name, costs in found.items()}
    what = f"speed-up: wall with 1 segment | with {SEGMENTS}"
    rows = [table.compare(what, walls["one"], walls["eight"], table.seconds, at_least=GOAL)]
    for name in peers:
        rows += table.costs(f"{SEGMENTS} segments | {name}", found["eight"], found[name])
    table.show(title, rows, place.disk)


if __name__ == "__main__":
    main()
