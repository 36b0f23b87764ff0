"""Rows 1 to 3: one large file, from submit to the published, synced file, against plain downloaders.

python -m tests.benchmarks.one_file [--https | --checksum] [--size MIB] [--rounds N] [--quick] [--profile]
                                    [--only NAME …]

Row 1 is over HTTP; row 2 (`--https`) over HTTPS from nginx with an authority of our own, certificates checked
by all; row 3 (`--checksum`) over HTTP with the SHA-256 checked by all.
"""

from functools import partial
from typing import NamedTuple

from tests.support.content import sha256_of

from fetchd.client import Client

from . import profiling, table
from .meter import Cost, metered
from .peers import CHECKED, ENCRYPTED, ONE_FILE, Fetcher, Source, missing
from .stage import MIB, Field, add_profile, check, daemon, field, make_file, options, origin


class Kind(NamedTuple):
    """One of the rows: who takes part, and the goals: wall time divided by the peer's."""

    row: int
    how: str
    peers: dict[str, Fetcher]
    goals: dict[str, float]


# `curl && sync` is the fair peer on a slow disk, without a goal
PLAIN = Kind(1, "over HTTP", ONE_FILE, {"curl": 0.65, "wget2": 0.95, "aria2c": 0.4})
HTTPS = Kind(2, "over HTTPS", ENCRYPTED, {"curl": 1.0, "aria2c": 0.65})
CHECKSUM = Kind(
    3, "over HTTP, SHA-256 checked", CHECKED, {"curl && sha256sum": 0.75, "aria2c --checksum": 0.6}
)


def fetch(client: Client, pid: int, source: Source, place: Field, size: int, _round: int) -> Cost:
    """Submit, wait for the file, look at it."""
    directory = place.fresh()
    checksum = None if source.sha256 is None else f"sha256:{source.sha256}"
    with metered(pid) as meter:
        client.submit(source.url, directory=directory, checksum=checksum).result(timeout=600)
    check(directory, 1, size)
    return meter.cost


def peer(fetcher: Fetcher, source: Source, place: Field, size: int, _round: int) -> Cost:
    """The same by one of the peers."""
    directory = place.fresh()
    cost = fetcher[1](source, directory, place.log)
    check(directory, 1, size)
    return cost


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=2048, help="size of the file in MiB [2048]")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--https", dest="kind", action="store_const", const=HTTPS, help="row 2")
    kinds.add_argument("--checksum", dest="kind", action="store_const", const=CHECKSUM, help="row 3")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="the peers to run")
    add_profile(parser)
    parser.set_defaults(kind=PLAIN)
    chosen = parser.parse_args(arguments)
    kind: Kind = chosen.kind
    size = (256 if chosen.quick else chosen.size) * MIB
    if unknown := set(chosen.only or ()) - set(kind.peers):
        parser.error(f"no such peer in this row: {', '.join(unknown)}")
    wanted = {name: kind.peers[name] for name in chosen.only or kind.peers}
    peers = {name: fetcher for name, fetcher in wanted.items() if not missing(fetcher[0])}
    title = f"Row {kind.row}: one file of {size // MIB} MiB {kind.how}"
    with origin() as server, field() as place:
        authority = server.certificates.authority if kind is HTTPS and server.certificates else None
        source = Source(
            make_file(server, "file", size, https=kind is HTTPS),
            authority,
            sha256_of(size) if kind is CHECKSUM else None,
        )
        env = {} if authority is None else {"SSL_CERT_FILE": str(authority)}
        with daemon(env) as process, process.client() as client:
            ours = partial(fetch, client, process.pid, source, place, size)
            ours(0)  # the first attempt starts the worker; a daemon that runs has one
            if chosen.profile:
                with profiling.profiled(f"{title}, {chosen.rounds} times", process.pid):
                    table.rounds({"fetchd": ours}, chosen.rounds)
                return
            contenders = {name: partial(peer, peers[name], source, place, size) for name in peers}
            found = table.rounds({"fetchd": ours, **contenders}, chosen.rounds)
    rows = [
        row for name in peers for row in table.costs(name, found["fetchd"], found[name], kind.goals.get(name))
    ]
    table.show(f"{title}, {chosen.rounds} rounds", rows, place.disk)


if __name__ == "__main__":
    main()
