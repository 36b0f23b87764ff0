"""Kills the daemon's processes at random moments while clients work with it, and looks whether all held.

python -m tests.faults.kill_campaign [--rounds N] [--seed S]

Prints its seed first, and a table at the end; a fault is printed with what happened to its job, and the exit
status is 1. The seed settles what is offered, asked and when; how the processes run together it cannot.
"""

import argparse
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

if TYPE_CHECKING:
    from .campaign import Report


def show(report: "Report") -> None:
    """Print the table of a campaign."""
    kills = sum(report.kills.values())
    print(f"\n{kills} kills in {report.seconds:.0f} s, seed {report.seed}")
    whens = sorted({when for _, when in report.kills})
    whoms = sorted({whom for whom, _ in report.kills})
    width = max(map(len, whoms), default=0)
    print(f"{'killed':{width}}", *(when.rjust(11) for when in (*whens, "all")))
    for whom in whoms:
        counts = [report.kills[whom, when] for when in whens]
        print(f"{whom:{width}}", *(str(count).rjust(11) for count in (*counts, sum(counts))))
    _list("jobs, by their ends", report.ends.items())
    _list("told to clients", ((what, n) for what, n in report.told.items() if not what.startswith("event")))
    files, size, beyond, under_way = report.twice
    all_of_it, rest = (100 * share / max(1, size) for share in (beyond, beyond - under_way))
    print(f"fetched twice: {files} steady files ({size:,} bytes) were hit, {beyond:,} bytes sent twice:")
    print(f"  {all_of_it:.2f} %; without pieces under way when a connection broke {rest:.2f} %")
    for line in report.notes:
        print(f"left out: {line}")
    for line in report.wrong:
        print(f"WRONG: {line}")
    for line in report.stories:
        print(f"  {line}")
    if report.wrong:
        print(f"seed {report.seed}: {len(report.wrong)} faults; the daemon's log ends with\n{report.log}")


def _list(title: str, counts: Iterable[tuple[str, int]]) -> None:
    print(f"{title}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts)))


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 if there was a fault."""
    from .campaign import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000, help="rounds, with a kill each or more [1000]")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}, {chosen.rounds} rounds", flush=True)
    report = run(chosen.rounds, chosen.seed)
    show(report)
    return min(1, len(report.wrong))


if __name__ == "__main__":
    sys.exit(main())
