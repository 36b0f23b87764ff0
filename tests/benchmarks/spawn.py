"""A worker: from the request for one to its READY, and the memory that it alone holds.

python -m tests.benchmarks.spawn [--rounds N] [--quick] [--detail]

The time is that of the daemon's own spawner, fork server and room; its peer in the same rounds is one of
its fork server that only answers. Private memory is that of idle workers: fresh, and after one transfer.
"""

import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import ModuleType

import zmq
from tests.support.daemon import SANDBOX
from tests.support.nginx import Nginx
from tests.support.tls import Certificates
from tests.support.tmp import TempDir
from tests.support.wait import process_exit

from fetchd.client import Client
from fetchd.daemon import config
from fetchd.daemon.ground import PRELOAD
from fetchd.daemon.service import entry
from fetchd.daemon.service.lock import StateLock
from fetchd.daemon.supervise.spawn import Spawner
from fetchd.protocol import mailbox
from fetchd.protocol.codec import decode, encode

from . import table
from .memory import idle_workers, until
from .meter import memory
from .stage import MIB, Field, daemon, field, make_file, options, origin

TIME_GOAL, PRIVATE_GOAL = 0.010, 6e6
SEGMENTS = 8
BARE = "tests.benchmarks.bare"


class House:
    """What a worker needs of a supervisor until it is ready."""

    def __init__(self, directory: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._directory = directory
        self._context = context
        self._lock = StateLock(directory)
        self._spawner = Spawner(self._lock, (BARE, *PRELOAD))
        self._bundle = config.ca_bundle(config.Config(), {})
        self._spawner.start()
        self._count = 0

    def close(self) -> None:
        self._spawner.stop()
        self._lock.close()

    def worker(self) -> tuple[float, int]:
        """Seconds until a worker is ready, and the bytes that it holds alone then."""
        self._count += 1
        room, endpoint = self._directory / f"room{self._count}", f"ipc://{self._directory}/box{self._count}"
        with self._context.socket(zmq.ROUTER) as box:
            box.bind(endpoint)
            began = time.perf_counter()
            room.mkdir()
            child = self._spawner.spawn(entry.WORKER, lambda parent: (self._start(parent, endpoint, room),))
            peer, message = box.recv_multipart()
            decode(message, mailbox.Arrived)
            box.send_multipart([peer, encode(mailbox.Admitted())])
            decode(box.recv_multipart()[1], mailbox.Locked)
            took = time.perf_counter() - began
            private = memory(child.pid).private
            box.send_multipart([peer, encode(mailbox.Leave())])
            process_exit(child.pid, 10)
            child.reap()
        return took, private

    def _start(self, parent: int, endpoint: str, room: Path) -> mailbox.Start:
        return mailbox.Start(
            endpoint=endpoint, secret=secrets.token_hex(16), parent=parent, home=str(room), rooms=[str(room)],
            workers_lock=str(self._lock.workers_file), ca_bundle=self._bundle, beat=5.0, ports=None,
            file_size=None, sandbox=SANDBOX,
        )  # fmt: skip

    def bare(self) -> tuple[float, int]:
        """The same of a process that answers and waits for its end."""
        ours, theirs = multiprocessing.Pipe()
        began = time.perf_counter()
        process = multiprocessing.get_context("forkserver").Process(target=entry.call, args=(BARE, theirs))
        process.start()
        theirs.close()
        ours.recv_bytes()
        took = time.perf_counter() - began
        assert process.pid is not None
        private = memory(process.pid).private
        ours.close()
        process.join()
        process.close()
        return took, private


@contextmanager
def house() -> Iterator[House]:
    """A fork server that has imported everything, and a place for its workers."""
    # else every child would import this program as its own main module
    sys.modules["__main__"] = ModuleType("__main__")
    with TempDir() as directory, zmq.Context() as context:
        made = House(directory, context)
        try:
            made.worker()  # the first waits for the imports
            yield made
        finally:
            made.close()


def after(work: Callable[[Client], object], env: dict[str, str], detail: str) -> int:
    """Bytes that the one worker of a fresh daemon holds alone when the work is done."""
    with daemon({"FETCHD_WORKERS": "1", **env}) as process, process.client() as client:
        until(lambda: len(idle_workers(client)) == 1, "a spare worker")
        work(client)
        until(lambda: len(idle_workers(client)) == 1, "an idle worker")
        (pid,) = idle_workers(client)
        if detail:
            show(detail, pid)
        return memory(pid).private


def show(title: str, pid: int) -> None:
    """Which mappings the private pages of a process are in."""
    found: dict[str, int] = {}
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *others = line.split()
        if "-" in first and not first.endswith(":"):
            name = os.path.basename(others[4]) if len(others) > 4 else "anonymous"
        elif first in ("Private_Clean:", "Private_Dirty:"):
            found[name] = found.get(name, 0) + int(others[0])
    print(f"\n{title}, KiB: ", end="")
    print(", ".join(f"{name} {size}" for name, size in sorted(found.items(), key=lambda p: -p[1]) if size))


def bundle(certificates: Certificates, directory: Path) -> Path:
    """The machine's authorities and the origin's, as a daemon is configured for a house of its own."""
    system = config.ca_bundle(config.Config(), {})
    path = directory / "authorities.pem"
    path.write_text((Path(system).read_text() if system else "") + certificates.authority.read_text())
    return path


def transfers(server: Nginx, place: Field) -> dict[str, tuple[Callable[[Client], object], dict[str, str]]]:
    """What a worker may have done, and the settings for it."""
    plain = make_file(server, "file", 16 * MIB)
    work: dict[str, tuple[Callable[[Client], object], dict[str, str]]] = {
        "idle": (lambda _: None, {}),
        "after HTTP": (lambda client: fetch(client, plain, place, 1), {}),
        f"after {SEGMENTS} segments": (lambda client: fetch(client, plain, place, SEGMENTS), {}),
    }
    if server.certificates is not None:
        env = {"FETCHD_CA_BUNDLE": str(bundle(server.certificates, place.base))}
        secure = server.url("file", https=True).replace("127.0.0.1", "localhost")
        work["after HTTPS"] = (lambda client: fetch(client, secure, place, 1), env)
    return work


def fetch(client: Client, url: str, place: Field, segments: int) -> None:
    client.submit(url, directory=place.fresh(), segments=segments).result(timeout=60)


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=50)
    parser.add_argument("--detail", action="store_true", help="show where private memory lies")
    chosen = parser.parse_args(arguments)
    rounds = 10 if chosen.quick else chosen.rounds
    with house() as made:
        ours, bare = [], []
        for _ in range(rounds):
            ours.append(made.worker())
            bare.append(made.bare())
    times = [[took for took, _ in found] for found in (ours, bare)]
    held = [[float(private) for _, private in found] for found in (ours, bare)]
    rows = [
        table.bounded("spawn to READY", median(times[0]), table.seconds, TIME_GOAL),
        table.compare("  against a bare child of the fork server", *times, table.seconds),
        table.bounded("private, at READY", median(held[0]), table.megabytes, PRIVATE_GOAL),
        table.compare("  against the bare child", *held, table.megabytes),
    ]
    with origin() as server, field() as place:
        for name, (work, env) in transfers(server, place).items():
            found = [after(work, env, chosen.detail and name) for _ in range(1 if chosen.quick else 3)]
            rows.append(table.bounded(f"private, {name}", median(found), table.megabytes, PRIVATE_GOAL))
    table.show(f"A worker: {rounds} spawns", rows)


if __name__ == "__main__":
    main()
