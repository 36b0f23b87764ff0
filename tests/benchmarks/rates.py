"""How closely limits of speed are kept over five seconds: of a job, of a host, of everything together.

python -m tests.benchmarks.rates [--rounds N] [--quick]

The origin has no limit of its own. Bytes are those that the daemon reports in its progress.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from fetchd.client import Client, Job

from .stage import MIB, Field, daemon, field, make_file, options, origin
from .table import say

SPAN = 5.0
"""Seconds over which a rate is measured."""

SETTLE = 2.5
"""Seconds that a limit has been in force before: the shares are worked out anew once a second."""

GOAL = 0.05


@contextmanager
def running(client: Client, urls: list[str], place: Field, **wishes: object) -> Iterator[list[Job]]:
    """Jobs under way; cancelled at the end."""
    directory = place.fresh()
    jobs = [client.submit(url, directory=directory, **wishes) for url in urls]  # type: ignore[arg-type]
    try:
        yield jobs
    finally:
        for job in jobs:
            job.cancel()
            job.exception(timeout=30)


def measured(jobs: list[Job]) -> float:
    """Bytes a second of all together."""
    pause = threading.Event()
    pause.wait(SETTLE)
    before, began = sum(job.snapshot().bytes for job in jobs), time.monotonic()
    pause.wait(SPAN)
    return (sum(job.snapshot().bytes for job in jobs) - before) / (time.monotonic() - began)


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=1)
    chosen = parser.parse_args(arguments)
    rates = [MIB] if chosen.quick else [64 << 10, MIB, 20 * MIB]
    with origin() as server, field() as place, daemon() as process, process.client() as client:
        urls = [make_file(server, f"file{n}", 512 * MIB) for n in range(3)]
        host = f"127.0.0.1:{server.http_port}"
        worst = 0.0
        for _ in range(chosen.rounds):
            for rate in rates:
                cases: dict[str, Callable[[int], float]] = {
                    "one job": partial(_job, client, urls, place, 1),
                    "one job, 4 segments": partial(_job, client, urls, place, 4),
                    "a host, 3 jobs": partial(_shared, client, urls, place, host),
                    "everything, 3 jobs": partial(_shared, client, urls, place, None),
                }
                for name, case in cases.items():
                    found = case(rate)
                    off = found / rate - 1
                    worst = max(worst, abs(off))
                    say(f"{rate:>10} B/s  {name:<22} {found:>12.0f} B/s  {off:+.1%}")
        verdict = "met" if worst <= GOAL else "MISSED"
        say(f"largest deviation over {SPAN:g} s: {worst:.1%} (goal: {GOAL:.0%}, {verdict})")


def _job(client: Client, urls: list[str], place: Field, segments: int, rate: int) -> float:
    with running(client, urls[:1], place, limit_rate=rate, segments=segments) as jobs:
        return measured(jobs)


def _shared(client: Client, urls: list[str], place: Field, host: str | None, rate: int) -> float:
    client.limit(rate, host=host)
    try:
        with running(client, urls, place) as jobs:
            return measured(jobs)
    finally:
        client.limit(None, host=host)


if __name__ == "__main__":
    main()
