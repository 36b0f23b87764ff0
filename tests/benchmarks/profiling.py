"""Where the time of a daemon goes: py-spy on the supervisor and all its children, by thread and function.

py-spy is optional (`pip install py-spy`, or PY_SPY names the program); without it a profile is left out,
visibly. Threads that wait are not counted, for a disk neither.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from tests.support.tmp import TempDir
from tests.support.wait import read_line

from .meter import cpu_times, family, name
from .table import say

RATE = 200
"""Samples a second of every process."""

SHOWN = 12
"""Functions listed for each thread."""

LEAST = 0.02
"""Share of all samples below which a thread is not shown."""

PROCESS = re.compile(r'^process \d+:".*?";(?=thread )')
"""The first frame of a stack; a command line may have anything in it."""

WAITING = {
    "_worker (futures/thread.py)",
    "Store._run (store/thread.py)",
    "Poller.poll (sugar/poll.py)",
    "Condition.wait (threading.py)",
}
"""Where a thread that waits is; py-spy takes some of these for running."""


def find() -> str | None:
    """The py-spy to use; says so where there is none."""
    beside = Path(sys.executable).parent / "py-spy"
    found = os.environ.get("PY_SPY") or shutil.which("py-spy") or (str(beside) if beside.exists() else None)
    if found is None:
        say("py-spy is missing (pip install py-spy, or set PY_SPY): no profile")
    return found


@contextmanager
def profiled(title: str, pid: int) -> Iterator[None]:
    """Sample a process and all its children while the block runs, then print the profile."""
    program = find()
    if program is None:
        yield
        return
    with TempDir() as directory:
        raw = directory / "raw"
        command = [program, "record", "-p", str(pid), "--subprocesses", "--threads", "--function",
                   "--rate", str(RATE), "--duration", "unlimited", "--format", "raw",
                   "-o", str(raw)]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        try:
            assert process.stdout is not None
            read_line(process.stdout.fileno(), 20, "py-spy to attach")
            before = _processes(pid)
            yield
            spent = _processes(pid) - before
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        if not raw.exists():
            say(f"py-spy: {said.decode(errors='replace')[-500:]}")
            return
        report(title, raw.read_text(), spent)


def report(title: str, raw: str, spent: "Counter[str]") -> None:
    """Print what a raw py-spy record says: per thread what ran itself, and which of our functions it was in.

    `spent` are CPU seconds by kind of process, as the kernel counts them.
    """
    own: dict[str, Counter[str]] = defaultdict(Counter)
    within: dict[str, Counter[str]] = defaultdict(Counter)
    totals: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count_text = PROCESS.sub("", line).rpartition(" ")
        thread, *frames = stack.split(";")
        if not frames or _short(frames[-1]) in WAITING:
            continue
        role, count = _role(thread, stack), int(count_text)
        totals[role] += count
        own[role][_short(frames[-1])] += count
        for frame in {_short(frame) for frame in frames if _is_ours(frame)}:
            within[role][frame] += count
    everything = max(1, sum(totals.values()))
    print(f"\n{title}\nCPU: " + ", ".join(f"{kind} {cpu:.2f} s" for kind, cpu in spent.most_common()))
    for role, total in totals.most_common():
        if total < LEAST * everything:
            continue
        print(f"\n  {role}: {total / everything:.0%} of all samples")
        left = [f"{n / total:4.0%} {frame}" for frame, n in own[role].most_common(SHOWN)]
        right = [f"{n / total:4.0%} {frame}" for frame, n in within[role].most_common(SHOWN)]
        width = max(map(len, ["itself", *left]))
        print(f"    {'itself'.ljust(width)}   with what it calls")
        for first, second in zip_longest(left, right, fillvalue=""):
            print(f"    {first.ljust(width)}   {second}".rstrip())


def _processes(root: int) -> "Counter[str]":
    """CPU seconds so far by kind of process; what a worker used that has ended is the fork server's."""
    used: Counter[str] = Counter()
    for pid in family(root):
        kind = (
            "supervisor" if pid == root else "workers" if name(pid) == "fetchd-worker" else "other children"
        )
        for part, cpu in zip(("user", "system"), cpu_times([pid]), strict=True):
            used[f"{kind} {part}"] += cpu  # type: ignore[assignment]  # a counter of seconds
    return used


def _role(thread: str, stack: str) -> str:
    """Which kind of thread of which kind of process a stack belongs to."""
    kind = thread.partition(": ")[2].strip('"').split("_")[0]
    kind = "loop" if kind in ("", "MainThread") else kind
    if "daemon/worker/" in stack or "daemon/transfer/" in stack or kind in ("transfer", "sync", "verify"):
        return f"worker, {kind}"
    if "store/reader.py" in stack:
        return "reading helper"
    if "multiprocessing/forkserver.py" in stack or "resource_tracker" in stack:
        return "fork server"
    return f"supervisor, {kind}"


def _is_ours(frame: str) -> bool:
    return any(f"{room}/" in frame for room in ("daemon", "protocol", "client"))


def _short(frame: str) -> str:
    """`function (file)` with no more of the path than tells what it is."""
    function, _, place = frame.partition(" (")
    path = place.rstrip(")").partition(":")[0]
    return f"{function} ({'/'.join(path.split('/')[-2:])})"
