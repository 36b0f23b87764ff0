"""The peers: curl, wget2, aria2 and axel, with their defaults but without anybody's configuration files."""

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.net import listen
from tests.support.tmp import TempDir
from tests.support.wait import Deadline, Watch, process_exit

from .meter import Cost, run
from .table import say

RPC_READY = b"RPC: listening on TCP port"
LOOK_EVERY = 0.005
"""Seconds between two looks at how far aria2 is: what its finish may be late by."""


def missing(*programs: str) -> list[str]:
    """Which of these programs are not installed; says so."""
    lost = [program for program in programs if shutil.which(program) is None]
    for program in lost:
        say(f"{program} is missing: left out")
    return lost


class Source(NamedTuple):
    """What to fetch: a URL, the authority to trust if it is not one of the system's, the SHA-256 to check."""

    url: str
    authority: Path | None = None
    sha256: str | None = None

    def trust(self, option: str) -> list[str]:
        """The option that names the authority, if there is one."""
        return [] if self.authority is None else [f"{option}={self.authority}"]


def curl(source: Source, directory: Path, log: Path) -> Cost:
    """One file by curl, which checks nothing."""
    trust = [] if source.authority is None else ["--cacert", str(source.authority)]
    return run(["curl", "-q", "-sSf", *trust, "-o", str(directory / "file"), source.url], log)


def curl_sync(source: Source, directory: Path, log: Path) -> Cost:
    """One file by curl, then fsync of it: as durable as a plain command gets."""
    command = 'curl -q -sSf -o "$1" "$2" && sync "$1"'
    return run(["sh", "-c", command, "sh", str(directory / "file"), source.url], log)


def curl_sha256(source: Source, directory: Path, log: Path) -> Cost:
    """One file by curl, then sha256sum of it."""
    command = 'curl -q -sSf -o "$1" "$2" && echo "$3  $1" | sha256sum -c --status'
    place = str(directory / "file")
    return run(["sh", "-c", command, "sh", place, source.url, source.sha256 or ""], log)


def wget2(source: Source, directory: Path, log: Path) -> Cost:
    """One file by wget2, which checks nothing."""
    trust = source.trust("--ca-certificate")
    return run(["wget2", "--no-config", "-q", *trust, "-O", str(directory / "file"), source.url], log)


def aria2(source: Source, directory: Path, log: Path, *options: str) -> Cost:
    """One file by aria2c."""
    if source.sha256 is not None:
        options += (f"--checksum=sha-256={source.sha256}",)
    options += tuple(source.trust("--ca-certificate"))
    return run(["aria2c", "--no-conf", "-q", *options, "-d", str(directory), "-o", "file", source.url], log)


def aria2_segments(source: Source, directory: Path, log: Path) -> Cost:
    """One file by aria2c over eight connections."""
    return aria2(source, directory, log, "-x8", "-s8", "-k1M")


def axel(source: Source, directory: Path, log: Path) -> Cost:
    """One file by axel over eight connections."""
    return run(["axel", "-q", "-n", "8", "-o", str(directory / "file"), source.url], log)


def wget2_list(urls: Sequence[str], directory: Path, log: Path) -> Cost:
    """Many files by one wget2, five at once as is its default."""
    listed = log.with_suffix(".urls")
    listed.write_text("\n".join(urls) + "\n")
    return run(["wget2", "--no-config", "-q", "-P", str(directory), "-i", str(listed)], log)


def curl_parallel(urls: Sequence[str], directory: Path, log: Path) -> Cost:
    """Many files by one `curl -Z`, fifty at once as is its default."""
    listed = log.with_suffix(".curl")
    listed.write_text("remote-name-all\n" + "".join(f'url = "{url}"\n' for url in urls))
    return run(["curl", "-q", "-sSfZ", "--output-dir", str(directory), "-K", str(listed)], log)


class Aria2:
    """An aria2 daemon with JSON-RPC on loopback; a context manager."""

    def __init__(self, *options: str) -> None:
        self._temp = TempDir()
        with listen() as free:
            self._port = free.getsockname()[1]
        log = self._temp.path / "log"
        with Watch(self._temp.path) as watch, log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    "aria2c", "--no-conf", "--enable-rpc", f"--rpc-listen-port={self._port}",
                    "--rpc-max-request-size=256M", "--show-console-readout=false",
                    f"--stop-with-process={os.getpid()}", f"--dir={self._temp.path}", *options,
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            try:
                watch.until(lambda: RPC_READY in log.read_bytes(), 10, "aria2 to listen")
            except BaseException:
                self._end()
                raise
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port)

    def call(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call; RuntimeError if it is refused."""
        body = json.dumps({"jsonrpc": "2.0", "id": "1", "method": method, "params": params}).encode()
        self._connection.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            raise RuntimeError(f"aria2: {answer['error']}")
        return answer["result"]

    def add(self, urls: Sequence[str], directory: Path) -> None:
        """Queue all of them with one system.multicall."""
        target = {"dir": str(directory)}
        calls = [{"methodName": "aria2.addUri", "params": [[url], target]} for url in urls]
        self.call("system.multicall", calls)

    def add_one(self, url: str, directory: Path) -> None:
        """Queue one."""
        self.call("aria2.addUri", [url], {"dir": str(directory)})

    def wait_idle(self, timeout: float = 600.0) -> None:
        """Look again and again until nothing is active or waiting."""
        deadline, pause = Deadline(timeout), threading.Event()
        while not self._idle():
            pause.wait(min(LOOK_EVERY, deadline.left("aria2 to finish")))

    def forget(self) -> None:
        """Drop the records of finished downloads. On a new connection: it closes those that lie idle."""
        self._connection.close()
        self.call("aria2.purgeDownloadResult")

    def close(self) -> None:
        """End it and remove its files."""
        self._connection.close()
        self._end()

    def _idle(self) -> bool:
        stat = self.call("aria2.getGlobalStat")
        return (stat["numActive"], stat["numWaiting"]) == ("0", "0")

    def _end(self) -> None:
        try:
            self.process.kill()  # it keeps nothing that would be worth its three seconds of goodbye
            process_exit(self.process.pid, 10)
        finally:
            self.process.wait()
            self._temp.close()

    def __enter__(self) -> "Aria2":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Fetcher = tuple[str, Callable[[Source, Path, Path], Cost]]
"""The program needed, and how it fetches one file."""

ONE_FILE: dict[str, Fetcher] = {
    "curl": ("curl", curl),
    "curl && sync": ("curl", curl_sync),
    "wget2": ("wget2", wget2),
    "aria2c": ("aria2c", aria2),
}
"""Who fetches one file."""

ENCRYPTED: dict[str, Fetcher] = {name: ONE_FILE[name] for name in ("curl", "wget2", "aria2c")}
"""Who fetches one file over HTTPS."""

CHECKED: dict[str, Fetcher] = {
    "curl && sha256sum": ("curl", curl_sha256),
    "aria2c --checksum": ("aria2c", aria2),
}
"""Who fetches one file and checks its SHA-256."""

SEGMENTED: dict[str, Fetcher] = {
    "aria2c -x8 -s8": ("aria2c", aria2_segments),
    "axel -n 8": ("axel", axel),
}
"""Who fetches one file over eight connections."""

MANY_FILES: dict[str, tuple[str, Callable[[Sequence[str], Path, Path], Cost]]] = {
    "wget2 -i": ("wget2", wget2_list),
    "curl -Z": ("curl", curl_parallel),
}
"""Who fetches many in one call."""
