"""Downloads beside hundreds of clients and subscribers that are stopped: what it costs the daemon.

python -m tests.faults.stopped_clients [--clients N] [--subscribers N] [--files N]

Prints the loop's 99th percentile, the time for the same downloads and the supervisor's memory, before and
with them. (The percentile is of the last 4,096 turns: with few files those in which all the requests were
answered are among them.) Nothing is decided by time: the exit status is 1 where a download fails or memory is
not bounded.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests find `support`

if TYPE_CHECKING:
    from support.daemon import DaemonProcess
    from support.origin import Origin

    from fetchd.client import Client

A_PROCESS = 100
"""Clients of one process."""

REQUESTS = 10
FULL = 2
"""Clients whose queues are filled."""

FILL = 3000
"""Requests that a client asks without reading: enough to fill both queues and the kernel's buffers."""

MEMORY = 96 << 20
"""Bytes that the supervisor may grow by for connections, what is queued for them and what they had asked for:
that is taken without a limit of its own, since a peer that is made to wait could end libzmq."""

QUEUE, MESSAGE = 10_000, 256
"""Events that are queued at most for one subscriber, and the bytes that each takes beside its content."""

SIZE = 200_000


class Deaf:
    """A process full of clients, see `deaf`. Running until `stop`; use as a context manager."""

    def __init__(self, *arguments: object, said: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("deaf.py")), *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        if said:
            self.tell(said)

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def line(self, timeout: float = 60.0) -> str:
        """What it says next."""
        from support.wait import read_line

        assert self._process.stdout is not None
        return read_line(self._process.stdout.fileno(), timeout, "a deaf client").decode().strip()

    def stop(self) -> None:
        """SIGSTOP, once it has got so far."""
        assert self.line() == "there"
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT, and the line that it waits for."""
        self._process.send_signal(signal.SIGCONT)
        self.tell("")

    def __enter__(self) -> "Deaf":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Figures:
    """How the daemon was: the loop's 99th percentile and the time for the downloads in s, RSS in bytes.

    `revision` is the number of events that it has published, progress aside.
    """

    p99: float
    seconds: float
    rss: int
    revision: int


def measure(daemon: "DaemonProcess", client: "Client", origin: "Origin", place: Path, files: int) -> Figures:
    """Download so many files, and look at the supervisor. An error where one is not completed."""
    from support.origin import Resource

    began = time.monotonic()
    place.mkdir()
    urls = [origin.add(f"/{place.name}-{n}", Resource(size=SIZE, seed=n)) for n in range(files)]
    jobs = client.submit_many([{"url": url, "directory": place} for url in urls])
    for job in jobs:
        job.result(timeout=60)
    assert len(list(place.iterdir())) == files
    seconds = time.monotonic() - began
    status = client.status()
    return Figures(status.loop_p99, seconds, psutil.Process(daemon.pid).memory_info().rss, status.revision)


@contextmanager
def stopped(daemon: "DaemonProcess", clients: int, subscribers: int) -> Iterator[None]:
    """So many clients (a tenth of them have not finished their greeting) and subscribers, all stopped."""
    control, events = daemon.endpoint.control, daemon.endpoint.events
    greeting = clients // 10
    with ExitStack() as stack:
        made = [
            Deaf("greeting", control, greeting),
            Deaf("control", control, FULL, FILL),
            *(Deaf("control", control, count, REQUESTS) for count in _shares(clients - greeting - FULL)),
            *(Deaf("events", events, count) for count in _shares(subscribers)),
        ]
        for each in made:
            stack.enter_context(each)
        for each in made:
            each.stop()
        yield


def _shares(count: int) -> list[int]:
    return [min(A_PROCESS, count - at) for at in range(0, count, A_PROCESS)]


def run(
    daemon: "DaemonProcess", origin: "Origin", place: Path, *, clients: int, subscribers: int, files: int
) -> tuple[Figures, Figures]:
    """Figures without them and with them."""
    with daemon.client() as client:
        measure(daemon, client, origin, place / "first", files)
        before = measure(daemon, client, origin, place / "before", files)
        with stopped(daemon, clients, subscribers):
            measure(daemon, client, origin, place / "coming", files)  # their requests are in its figures
            after = measure(daemon, client, origin, place / "after", files)
    return before, after


def allowed(before: Figures, after: Figures, subscribers: int) -> int:
    """How many bytes the supervisor may have grown by: what the high-water marks let it queue."""
    return MEMORY + subscribers * MESSAGE * min(QUEUE, after.revision - before.revision)


def show(before: Figures, after: Figures) -> None:
    """Print both, and the ratios."""
    for name, one, other in (
        ("loop p99 in ms", before.p99 * 1000, after.p99 * 1000),
        ("downloads in s", before.seconds, after.seconds),
        ("RSS in MiB", before.rss / (1 << 20), after.rss / (1 << 20)),
    ):
        print(f"{name:15}{one:10.2f} before {other:10.2f} with them, ratio {other / one:.2f}")


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 if memory was not bounded."""
    from support.daemon import DaemonProcess
    from support.origin import Origin
    from support.tmp import TempDir

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=500, help="stopped control connections [500]")
    parser.add_argument(
        "--subscribers", type=int, default=100, help="stopped subscribers of everything [100]"
    )
    parser.add_argument("--files", type=int, default=1500, help="files of 200 kB to download [1500]")
    chosen = parser.parse_args(arguments)
    with TempDir() as place, Origin() as origin, DaemonProcess() as daemon:
        before, after = run(daemon.start(), origin, place, **vars(chosen))
    show(before, after)
    most = allowed(before, after, chosen.subscribers)
    print(f"grown by {(after.rss - before.rss) >> 20} MiB, allowed {most >> 20} MiB")
    return int(after.rss - before.rss > most)


if __name__ == "__main__":
    sys.exit(main())
