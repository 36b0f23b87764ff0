"""Row 1: one large file over HTTP, from submit to the published, synced file, against plain downloaders.

python -m tests.benchmarks.one_file [--size MIB] [--rounds N] [--quick] [--profile] [--only NAME …]
"""

from functools import partial

from fetchd.client import Client

from . import profiling, table
from .meter import Cost, metered
from .peers import ONE_FILE, missing
from .stage import MIB, Field, add_profile, check, daemon, field, make_file, options, origin

GOALS = {"curl": 0.65, "wget2": 0.95, "aria2c": 0.4}
"""Wall time divided by the peer's. `curl && sync` is the fair peer on a slow disk, without a goal."""


def fetch(client: Client, pid: int, url: str, place: Field, size: int, _round: int) -> Cost:
    """Submit, wait for the file, look at it."""
    directory = place.fresh()
    with metered(pid) as meter:
        client.submit(url, directory=directory).result(timeout=600)
    check(directory, 1, size)
    return meter.cost


def peer(name: str, url: str, place: Field, size: int, _round: int) -> Cost:
    """The same by one of the peers."""
    directory = place.fresh()
    cost = ONE_FILE[name][1](url, directory, place.log)
    check(directory, 1, size)
    return cost


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=2048, help="size of the file in MiB [2048]")
    parser.add_argument(
        "--only", nargs="+", choices=[*ONE_FILE], default=[*ONE_FILE], help="the peers to run"
    )
    add_profile(parser)
    chosen = parser.parse_args(arguments)
    size = (256 if chosen.quick else chosen.size) * MIB
    peers = [name for name in chosen.only if not missing(ONE_FILE[name][0])]
    with origin() as server, field() as place, daemon() as process, process.client() as client:
        url = make_file(server, "file", size)
        ours = partial(fetch, client, process.pid, url, place, size)
        ours(0)  # the first attempt starts the worker; a daemon that runs has one
        if chosen.profile:
            with profiling.profiled(f"row 1, {chosen.rounds} × {size // MIB} MiB", process.pid):
                table.rounds({"fetchd": ours}, chosen.rounds)
            return
        contenders = {name: partial(peer, name, url, place, size) for name in peers}
        found = table.rounds({"fetchd": ours, **contenders}, chosen.rounds)
    rows = [row for name in peers for row in table.costs(name, found["fetchd"], found[name], GOALS.get(name))]
    table.show(f"Row 1: one file of {size // MIB} MiB over HTTP, {chosen.rounds} rounds", rows, place.disk)


if __name__ == "__main__":
    main()
