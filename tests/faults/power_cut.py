"""Cuts the power of a daemon's file systems again and again, and looks at what is there afterwards.

    python -m tests.faults.power_cut [--cuts 50] [--seed N] [--without CALL[:PART]]

State and destination lie on ext4 in loop devices, on one or on two. After each cut (FS_IOC_SHUTDOWN without a
log flush, then SIGKILL for everybody) the journal is replayed and the next daemon finds another boot ID.
`--without fdatasync`, `--without fsync:/downloads` and the like let calls (on paths with that part) succeed
without being done: the campaign then has to find faults. Needs root; exit status 1: faults, 77: not here.
"""

import argparse
import collections
import random
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from support import intercept, volumes

from .machine import Machine

NOT_HERE = 77


@dataclass
class Tally:
    """What a campaign found."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    again: int = 0
    resumed: int = 0


def campaign(
    cuts: int, apart: bool, rng: random.Random, without: tuple[str, str] | None, tally: Tally
) -> None:
    """So many cuts of one machine; ends at the first ones that find a fault."""
    with ExitStack() as stack:
        machine = Machine(stack, apart, rng, without)
        for number in range(1, cuts + 1):
            machine.order(rng.randint(8, 14))
            moment = machine.await_moment()
            acked, done = len(machine.witness.acked), len(machine.witness.completed)
            machine.cut()
            options = machine.mount()
            faults = machine.check()
            row = (number, "two" if apart else "one", moment, options, acked, done, len(faults))
            tally.rows.append(row)
            print(LINE.format(*row), flush=True)
            tally.faults += faults
            if faults:
                print("\n".join(f"      {fault}" for fault in faults[:5]), flush=True)
                return
            machine.start()
        tally.faults += machine.finish()
        tally.refusals += machine.witness.refusals
        again, resumed = machine.again()
        tally.again, tally.resumed = tally.again + again, tally.resumed + resumed


LINE = "{:>4}  {:<5} {:<34} {:<11} {:>5} {:>5} {:>6}"


def main(arguments: list[str]) -> int:
    """Run a campaign; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--without", metavar="CALL[:PART]", help="let these calls succeed without being done")
    options = parser.parse_args(arguments)
    if reason := volumes.why_not(loop=True) or intercept.why_not():
        print(f"not here: {reason}")
        return NOT_HERE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    volumes.enter_private()
    without = None
    if options.without:
        name, _, part = options.without.partition(":")
        without = (name, part)
    print(f"seed {options.seed}" + (f", without {options.without}" if without else ""))
    print(LINE.format("cut", "disks", "moment", "mounted", "acked", "done", "faults"))
    rng = random.Random(options.seed)
    tally = Tally()
    for apart, cuts in ((False, options.cuts - options.cuts // 2), (True, options.cuts // 2)):
        campaign(cuts, apart, rng, without, tally)
        if tally.faults:
            break
    if tally.refusals:
        print(f"refused and asked again: {dict(collections.Counter(tally.refusals))}")
    print(
        f"{len(tally.rows)} cuts, {tally.resumed} requests resumed, {tally.again} bytes sent again by honest"
        f" servers; {len(tally.faults)} faults"
    )
    for fault in tally.faults:
        print(f"  {fault}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
