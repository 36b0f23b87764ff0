"""What the benchmarks share: where they work, the origin's files, the daemon, and the common options.

Everything lies below /tmp, on one mount: the origin's files, what is delivered, and the daemon's state.
"""

import argparse
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.content import Pattern, write_content
from tests.support.daemon import DaemonProcess
from tests.support.nginx import Nginx
from tests.support.tmp import TempDir

from .table import spread

MIB = 1 << 20

PROBES = 10
"""How many times an fsync is timed before every run."""


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options that all have. From now on SIGTERM ends the program as Ctrl-C does.

    What is measured has its bytecode, as an installed program does; else a start takes half as long again.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of all contenders [{rounds}]")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: does it work, about how fast is it"
    )
    return parser


def add_profile(parser: argparse.ArgumentParser) -> None:
    """The option for where the time goes."""
    parser.add_argument(
        "--profile",
        action="store_true",
        help="sample the daemon with py-spy in further runs, and nothing else",
    )


class Field:
    """Where files are delivered to: a fresh directory for every run.

    `syncs` are times in seconds of an fsync of a new file of 4 KiB, taken before every run: what a disk makes
    of them can differ by a factor of a hundred from minute to minute, and with it everything durable.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.log = base / "log"
        self.syncs: list[float] = []
        self._count = 0

    def fresh(self) -> Path:
        """A new empty directory. What earlier runs left there is gone, and nothing of it is still written."""
        for old in self.base.glob("to*"):
            shutil.rmtree(old)
        os.sync()
        self._probe()
        self._count += 1
        directory = self.base / f"to{self._count}"
        directory.mkdir()
        return directory

    @property
    def disk(self) -> str:
        """How long an fsync takes, for the title of a table."""
        return f"fsync of a new file {spread([1000 * took for took in self.syncs])} ms"

    def _probe(self) -> None:
        for number in range(PROBES):
            path = self.base / f"probe{number}"
            with path.open("wb", buffering=0) as file:
                file.write(bytes(4096))
                began = time.perf_counter()
                os.fsync(file.fileno())
                self.syncs.append(time.perf_counter() - began)
            path.unlink()


@contextmanager
def field() -> Iterator[Field]:
    """A place to deliver to, removed at the end."""
    with TempDir() as base:
        yield Field(base)


@contextmanager
def origin(rate: int = MIB, extra: str = "") -> Iterator[Nginx]:
    """A running nginx with nothing to serve yet; `/slow/` is paced at `rate` bytes a second.

    `extra` is text for the http block of its configuration.
    """
    server = Nginx(rate, extra)
    try:
        yield server.start()
    finally:
        server.close()


@contextmanager
def daemon(env: Mapping[str, str] | None = None) -> Iterator[DaemonProcess]:
    """A running daemon with default settings but for `env`."""
    with DaemonProcess(env) as process:
        yield process.start()


def make_file(server: Nginx, name: str, size: int, *, https: bool = False) -> str:
    """A file with content at the origin, in the page cache; its URL."""
    write_content(server.www / name, Pattern(size))
    return server.url(name, https=https)


def make_files(server: Nginx, count: int, size: int) -> list[str]:
    """Many small files at the origin; their URLs."""
    return [make_file(server, f"f{number}", size) for number in range(count)]


def check(directory: Path, count: int, size: int) -> None:
    """RuntimeError unless exactly `count` files of `size` bytes each lie in a directory."""
    sizes = [entry.stat().st_size for entry in os.scandir(directory)]
    if len(sizes) != count or any(found != size for found in sizes):
        wrong = sum(found != size for found in sizes)
        raise RuntimeError(f"{len(sizes)} of {count} files were delivered, {wrong} of a wrong size")
