"""Row 11: from exec to a daemon that says it is ready, and from exec to the end of a reading command.

python -m tests.benchmarks.cold_start [--rounds N] [--quick]

"Cold" means a new process; the files of the interpreter are in the page cache, as the peer's are.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

from tests.support.daemon import DaemonProcess

from . import table
from .peers import Aria2, missing
from .stage import daemon, options

READY_GOAL, COMMAND_GOAL = 0.3, 0.2


def ready() -> float:
    """Seconds from exec to READY of a daemon with a new state directory."""
    with DaemonProcess() as process:
        began = time.perf_counter()
        process.start()
        return time.perf_counter() - began


def ready_again(process: DaemonProcess) -> float:
    """The same on the state directory of an earlier life."""
    process.terminate()
    began = time.perf_counter()
    process.start()
    return time.perf_counter() - began


def aria2_ready() -> float:
    """Seconds from exec until aria2's RPC listens."""
    began = time.perf_counter()
    with Aria2():
        return time.perf_counter() - began


def command(arguments: list[str], env: Mapping[str, str]) -> float:
    """Seconds that a command takes from exec to its end."""
    began = time.perf_counter()
    subprocess.run(arguments, env=dict(env), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    chosen = options(__doc__, rounds=20).parse_args(arguments)
    rounds = 5 if chosen.quick else chosen.rounds
    fetchd = str(Path(sys.executable).parent / "fetchd")
    with daemon() as process:
        env = {**os.environ, "FETCHD_STATE_DIR": str(process.state)}
        work: dict[str, Callable[[], float]] = {
            "ready": ready,
            "ready again": partial(ready_again, process),
            "ls": partial(command, [fetchd, "ls"], env),
            "daemon status": partial(command, [fetchd, "daemon", "status"], env),
            "--version": partial(command, [fetchd, "--version"], env),
            "python": partial(command, [sys.executable, "-c", "pass"], env),
            "zmq": partial(command, [sys.executable, "-c", "import zmq"], env),
        }
        if not missing("aria2c"):
            work["aria2"] = aria2_ready
        took: dict[str, list[float]] = {name: [] for name in work}
        for number in range(rounds):
            for name, one in work.items():
                took[name].append(one())
            table.say(f"round {number + 1}: " + ", ".join(f"{k} {v[-1] * 1000:.0f}" for k, v in took.items()))
    table.show(f"Row 11: cold start, medians of {rounds}", rows(took))


def rows(took: dict[str, list[float]]) -> list[table.Row]:
    """The table."""
    made = [
        table.bounded("daemon, exec to READY", median(took["ready"]), table.seconds, READY_GOAL),
        table.bounded("  on an old state directory", median(took["ready again"]), table.seconds, READY_GOAL),
        table.bounded("fetchd ls", median(took["ls"]), table.seconds, COMMAND_GOAL),
        table.bounded("fetchd daemon status", median(took["daemon status"]), table.seconds, COMMAND_GOAL),
        table.bounded("fetchd --version", median(took["--version"]), table.seconds),
        table.bounded("for comparison: python -c pass", median(took["python"]), table.seconds),
        table.bounded("for comparison: python -c 'import zmq'", median(took["zmq"]), table.seconds),
    ]
    if "aria2" in took:
        made.insert(2, table.compare("  against aria2's daemon", took["ready"], took["aria2"], table.seconds))
    return made


if __name__ == "__main__":
    main()
