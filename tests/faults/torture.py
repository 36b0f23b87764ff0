"""Lets every system call on files fail, or kill the process that makes it, and looks how the jobs end.

    python -m tests.faults.torture [--every] [--runs 40] [--seed N] [--deeds kill,EIO,ENOSPC,ENOSPC+]
    python -m tests.faults.torture --at fsync:7:EIO

A daemon runs six jobs: a fresh one with a checksum, one to be resumed, one to be renamed, one to overwrite a
file, one on another mount, one to be cancelled. The N-th call of a kind, counted over all its processes,
kills its process, or fails once, or (with +) it and all later ones fail until a moment after. A daemon that
ends is started again. Every job has to come to its right end, and nothing may be left. Needs root; exit
status 1: faults, 77: not here.
"""

import argparse
import collections
import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from support import intercept, processes, volumes
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess, StartError
from support.intercept import Call, Deed, Interceptor
from support.origin import Origin, Resource
from support.wait import Deadline, process_exit

from fetchd.client import Client
from fetchd.client.jobs import Job
from fetchd.protocol.errors import Code, FetchdError

from .onlooker import PASSING

T = TypeVar("T")

NOT_HERE = 77
DEEDS = ("kill", "EIO", "ENOSPC", "ENOSPC+")
CALLS = tuple(name for name in intercept.CALLS if name not in ("rmdir", "link"))
LIFTED_AFTER = 1.5
"""Seconds after its first failure that a lasting fault is over."""

PATIENCE = 90.0
"""Seconds for the whole scenario; jobs that are tried again wait a little each time."""

STARTS = 5
HELD = 200_000
OLD = b"what was there before"


class Fault(NamedTuple):
    """The `number`-th call `name` is to have this `deed` done to it."""

    name: str
    number: int
    deed: str

    def __str__(self) -> str:
        return f"{self.name}:{self.number}:{self.deed}"


class Wrong:
    """Does one fault to the calls it is shown, and counts them all."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.counts: collections.Counter[str] = collections.Counter()
        self.hit = ""
        self._since = 0.0

    def decide(self, call: Call) -> Deed | int:
        """What becomes of a call."""
        self.counts[call.name] += 1
        fault = self.fault
        if fault is None or call.name != fault.name or self.counts[call.name] < fault.number:
            return Deed.DO
        lasting = fault.deed.endswith("+")
        if self.hit and not (lasting and time.monotonic() - self._since < LIFTED_AFTER):
            return Deed.DO
        if not self.hit:
            self._since = time.monotonic()
            self.hit = f"{processes.describe(call.thread).partition(': ')[2][-60:]} {call.name} {call.path}"
        return Deed.KILL if fault.deed == "kill" else int(getattr(errno, fault.deed.rstrip("+")))


class Life:
    """A daemon that is started again whenever it ends. `restarts` counts how often that was."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.up = threading.Event()
        self.restarts = 0
        self.faults: list[str] = []
        self._ending = False
        self._pause = threading.Event()
        self._start()
        self._thread = threading.Thread(target=self._keep, name="life")
        self._thread.start()

    def _start(self) -> None:
        for _ in range(STARTS):
            try:
                self.daemon.start(60)
            except StartError:
                self.restarts += 1
                processes.kill(self.daemon.family())
                self._pause.wait(LIFTED_AFTER / 2)  # what does not let it start may be lasting
            else:
                self.up.set()
                return
        self.faults.append(f"it does not start any more: {self.daemon.log()[-300:]}")

    def _keep(self) -> None:
        while (process := self.daemon.process) is not None:
            process_exit(process.pid, 600)
            self.up.clear()
            status = self.daemon.wait()
            if self._ending and status == 0:
                return
            self.restarts += 1
            if self.restarts > STARTS:
                self.faults.append(f"it ends again and again, the last time with status {status}")
                return
            self._start()
            if self._ending:  # it could not end well
                self._terminate()

    def _terminate(self) -> None:
        with suppress(ProcessLookupError):
            if self.daemon.process is not None:
                self.daemon.signal(signal.SIGTERM)

    def end(self) -> None:
        """SIGTERM, and no start after it."""
        self._ending = True
        self._terminate()
        self._thread.join(60)


class Scenario:
    """Six jobs and their right ends."""

    def __init__(self, stack: ExitStack, fault: Fault | None) -> None:
        self.wrong = Wrong(fault)
        self.daemon = DaemonProcess({"FETCHD_WORKERS": "3", "PYTHONDONTWRITEBYTECODE": "1"})
        stack.callback(self.daemon.close)
        root = self.daemon.root
        self.downloads, self.other = root / "downloads", root / "other"
        for path in (self.downloads, self.other, self.daemon.state):
            path.mkdir(mode=0o700)
        volumes.mount_tmpfs(self.other, "64m")
        stack.callback(volumes.unmount, self.other)
        runtime = root / "run"
        self.daemon.env["FETCHD_RUNTIME_DIR"] = str(runtime)
        (self.downloads / "renamed.bin").write_bytes(OLD)
        (self.downloads / "over.bin").write_bytes(OLD)
        self.interceptor = Interceptor(
            CALLS, [self.daemon.state, self.downloads, self.other], self.wrong.decide
        )
        stack.callback(self.interceptor.close)
        stack.callback(self._die)
        self.daemon.wrapper = self.interceptor.wrapper
        self.origin = stack.enter_context(Origin())
        self.life = Life(self.daemon)
        stack.callback(self.life.end)
        self.client = stack.enter_context(Client(socket=runtime / "control", timeout=30, resend_after=1.0))
        self._deadline = Deadline(PATIENCE)

    def _die(self) -> None:
        processes.kill(self.daemon.family())

    def run(self) -> list[str]:
        """Everything; what is wrong at the end."""
        try:
            faults = [*self._work(), *self.life.faults]
        except (TimeoutError, FetchdError) as error:
            states = []
            with suppress(FetchdError):
                states = [
                    (job.id, job.last and (job.last.state, job.last.error)) for job in self.client.list()
                ]
            return [*self.life.faults, f"{type(error).__name__}: {error}; {states}"]
        self.life.end()
        if self.wrong.hit and [*self._left()]:
            # a last step may have failed where nothing came after it: the next life has to make it good
            self.life = Life(self.daemon)
            self.life.end()
        return [*faults, *self.life.faults, *self._left()]

    def _work(self) -> Iterator[str]:
        gate = self.origin.gate()
        fresh = self.origin.add("/fresh", Resource(size=3_000_000, seed=1))
        resumed = self.origin.add("/resumed", Resource(size=3_000_000, seed=2), "cut", after=HELD, times=1)
        renamed = self.origin.add("/renamed", Resource(size=70_000, seed=3))
        over = self.origin.add("/over", Resource(size=700_000, seed=4))
        across = self.origin.add("/across", Resource(size=700_000, seed=5))
        held = self.origin.add("/held", Resource(size=3_000_000, seed=6), "hold", after=HELD, gate=gate)
        here = self.downloads
        checksum = f"sha256:{sha256_of(3_000_000, 1)}"
        ask = self.client.submit
        cancelled = self._insist(lambda: ask(held, id="held", directory=here, name="held.bin"))
        jobs = {
            (here / "new" / "fresh.bin", 3_000_000, 1): self._insist(
                lambda: ask(fresh, id="fresh", directory=here / "new", name="fresh.bin", checksum=checksum)
            ),
            (here / "resumed.bin", 3_000_000, 2): self._insist(
                lambda: ask(resumed, id="resumed", directory=here, name="resumed.bin")
            ),
            (here / "renamed (1).bin", 70_000, 3): self._insist(
                lambda: ask(renamed, id="renamed", directory=here, name="renamed.bin", if_exists="rename")
            ),
            (here / "over.bin", 700_000, 4): self._insist(
                lambda: ask(over, id="over", directory=here, name="over.bin", if_exists="overwrite")
            ),
            (self.other / "sub" / "across.bin", 700_000, 5): self._insist(
                lambda: ask(across, id="across", directory=self.other / "sub", name="across.bin")
            ),
        }
        gate.wait_arrived(1, self._deadline.left("the job that is held"))
        self._insist(cancelled.cancel)
        error = self._insist(lambda: cancelled.exception(self._deadline.left("the cancelled job")))
        if error is None or error.code is not Code.CANCELLED:
            yield f"held: cancelled, and then {error!r}"
        for (path, size, seed), job in jobs.items():
            yield from self._right(job, path, size, seed)
        expected = {path for path, _, _ in jobs} | {here / "renamed.bin"}
        found = {path for top in (here, self.other) for path in top.rglob("*") if path.is_file()}
        yield from (f"{path} should not be there" for path in found - expected if ".fetchd/" not in str(path))
        if (here / "renamed.bin").read_bytes() != OLD:
            yield "renamed.bin was overwritten"

    def _right(self, job: Job, path: Path, size: int, seed: int) -> Iterator[str]:
        error = self._insist(lambda: job.exception(self._deadline.left(f"the end of {job.id}")))
        if error is not None:
            yield f"{job.id}: {error.code}: {error.message}"
        elif job.last is None or job.last.path != str(path):
            yield f"{job.id} lies at {job.last and job.last.path}"
        elif not path.is_file() or sha256_file(path) != sha256_of(size, seed):
            yield f"{job.id}: {path} is missing or wrong"

    def _insist(self, ask: Callable[[], T]) -> T:
        while True:
            self._deadline.left("an answer of the daemon")
            try:
                return ask()
            except FetchdError as error:
                if error.code not in PASSING:
                    raise
            if not self.life.up.wait(30):
                raise TimeoutError("the daemon does not come up again")

    def _left(self) -> Iterator[str]:
        areas = [*self.daemon.state.glob(".fetchd/*"), *self.other.rglob(".fetchd/*")]
        for path in (path for area in areas for part in ("jobs", "rooms") for path in area.glob(f"{part}/*")):
            yield f"left behind: {path}"
        for path in [*self.other.rglob(".fetchd*"), *self.downloads.rglob(".fetchd*")]:
            yield f"left behind: {path}"


def trial(fault: Fault | None) -> tuple[Wrong, int, list[str]]:
    """One run of the scenario: what was hit, how often the daemon had to be started again, what is wrong."""
    with ExitStack() as stack:
        scenario = Scenario(stack, fault)
        faults = scenario.run()
        if faults and os.environ.get("SHOW_LOG"):
            print(scenario.daemon.log())
        return scenario.wrong, scenario.life.restarts, faults


def plan(counts: collections.Counter[str], deeds: list[str], calls: list[str]) -> list[Fault]:
    """Every fault there is."""
    return [
        Fault(name, number, deed)
        for deed in deeds
        for name in calls
        if not (deed.startswith("ENOSPC") and name.startswith(("unlink", "fdatasync")))
        for number in range(1, counts[name] + 1)
    ]


def main(arguments: list[str]) -> int:
    """Run a campaign; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", action="store_true", help="all of them, and not a sample")
    parser.add_argument("--runs", type=int, default=40, help="how many of them")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--deeds", default=",".join(DEEDS))
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--at", metavar="CALL:N:DEED", action="append", help="only these")
    options = parser.parse_args(arguments)
    if reason := volumes.why_not(loop=False) or intercept.why_not():
        print(f"not here: {reason}")
        return NOT_HERE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    volumes.enter_private()
    wrong, _, faults = trial(None)
    counts = wrong.counts
    print(f"seed {options.seed}; calls without a fault: {dict(counts)}", flush=True)
    if faults:
        print("\n".join(faults))
        return 1
    if options.at:
        chosen = [
            Fault(name, int(number), deed) for name, number, deed in (at.split(":") for at in options.at)
        ]
    else:
        chosen = plan(counts, options.deeds.split(","), options.calls.split(","))
        print(f"{len(chosen)} faults to choose from")
        if not options.every:
            # one kind of call after the other, not as often as it is made
            rng = random.Random(options.seed)
            kinds = collections.defaultdict(list)
            for fault in chosen:
                kinds[fault.name, fault.deed].append(fault)
            order = list(kinds)
            chosen = []
            while len(chosen) < options.runs and order:
                rng.shuffle(order)
                for kind in list(order)[: options.runs - len(chosen)]:
                    chosen.append(kinds[kind].pop(rng.randrange(len(kinds[kind]))))
                    if not kinds[kind]:
                        order.remove(kind)
    return report(chosen)


def report(chosen: list[Fault]) -> int:
    """Run them all and say how it went."""
    table: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    bad = 0
    with suppress(KeyboardInterrupt):  # the table is of what was done
        for fault in chosen:
            began = time.monotonic()
            wrong, restarts, faults = trial(fault)
            row = table[fault.deed, fault.name]
            row["runs"] += 1
            row["missed"] += not wrong.hit
            row["restarted"] += bool(restarts)
            row["faults"] += bool(faults)
            bad += bool(faults)
            if faults:
                print(
                    f"{fault} ({time.monotonic() - began:.1f} s, {restarts} restarts): {wrong.hit}",
                    flush=True,
                )
                print("\n".join(f"    {text[:400]}" for text in faults), flush=True)
    print(f"{'deed':<8} {'call':<10} {'runs':>5} {'not met':>8} {'restarted':>10} {'faults':>7}")
    for (deed, name), row in table.items():
        print(
            f"{deed:<8} {name:<10}"
            f" {row['runs']:>5} {row['missed']:>8} {row['restarted']:>10} {row['faults']:>7}"
        )
    runs = sum(row["runs"] for row in table.values())
    print(f"{runs} runs, {bad} with faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
