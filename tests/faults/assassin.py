"""`kill -9` of the daemon's processes, at moments that are given by events and not by the clock alone."""

import os
import random
import select
import signal
from collections import Counter
from contextlib import suppress

import psutil
from support.daemon import DaemonProcess
from support.wait import process_exit

from .bell import Bell
from .witness import Witness

PATIENCE = 1.0
"""Seconds that a kill waits for its event: where nothing happens it comes all the same."""

START = 20.0
"""Seconds that a start may take."""

MOMENTS = {
    "ack": 3, "queued": 1, "running": 1, "progress": 1, "publishing": 2, "completed": 1, "waiting": 1,
    "bytes": 1, "deadline": 2,
}  # fmt: skip
TARGETS = {"supervisor": 8, "worker": 6, "fork server": 2, "reader": 2, "everyone": 2}
"""How often which moment, and whom, in relation to the others."""


class Assassin:
    """Kills once a round. `kills` are counted by (whom, when)."""

    def __init__(self, daemon: DaemonProcess, origin: Witness, bell: Bell, chance: random.Random) -> None:
        self._daemon = daemon
        self._origin = origin
        self._bell = bell
        self._chance = chance
        self.kills: Counter[tuple[str, str]] = Counter()

    def strike(self) -> bool:
        """Wait for a random moment and kill somebody; whether the daemon runs no more."""
        whom = self._chance.choices(list(TARGETS), list(TARGETS.values()))[0]
        when = self._moment()
        if whom == "supervisor":
            self._daemon.kill()
        elif whom == "everyone":
            self._kill_everyone()
        elif not self._kill_child(whom):
            return False  # there is no such process at the moment
        self.kills[whom, when] += 1
        return not self._daemon.is_running

    def start(self) -> None:
        """Start the daemon, and now and then kill it once or twice on the way."""
        for _ in range(self._chance.choice([0, 0, 0, 1, 2])):
            self._origin.new_life()
            ready = self._daemon.launch()
            deadline = self._chance.choice([self._chance.uniform(0, 0.4), START])
            started = bool(select.select([ready], [], [], deadline)[0])
            if started and os.read(ready, 100) != b"ready\n":
                raise AssertionError(f"the daemon does not start\n{self._daemon.log()[-5000:]}")
            self._daemon.kill()
            self.kills["supervisor", "just ready" if started else "starting"] += 1
        self._origin.new_life()
        self._daemon.start()  # at once: what is left of the old one is the new one's to end
        self._bell.ring("ready")

    def _moment(self) -> str:
        """Wait for it; what it was."""
        kind = self._chance.choices(list(MOMENTS), list(MOMENTS.values()))[0]
        if kind == "bytes":
            if self._origin.wait_bytes(int(10 ** self._chance.uniform(2, 6)), PATIENCE):
                return kind
        elif kind == "deadline":
            with suppress(TimeoutError):
                process_exit(self._daemon.pid, self._chance.uniform(0.001, 0.5))
                raise AssertionError(f"the daemon has ended by itself\n{self._daemon.log()[-5000:]}")
        elif self._bell.wait(kind, self._chance.randint(1, 6), PATIENCE):
            return kind
        return "deadline"

    def _kill_everyone(self) -> None:
        """The supervisor and what it has started, in a random order."""
        everyone = [self._daemon.pid, *(child.pid for child in self._daemon.children())]
        self._chance.shuffle(everyone)
        for pid in everyone:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._daemon.wait()

    def _kill_child(self, whom: str) -> bool:
        children = [child for child in self._daemon.children() if _is(whom, child)]
        if not children:
            return False
        victim = self._chance.choice(children)
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        process_exit(victim.pid, 10)
        return True


def _is(whom: str, process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        if whom == "fork server":
            name, command = process.name(), " ".join(process.cmdline())
            return "multiprocessing.forkserver" in command and not name.startswith("fetchd-")
        return process.name() == f"fetchd-{whom}"
    return False
