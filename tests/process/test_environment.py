"""What a daemon was started with is not in the memory of its children, however it is looked for."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from support.daemon import DaemonProcess
from support.look import until, worker_of
from support.origin import Origin, Resource

from fetchd.daemon.service.environment import shorten

CANARY = f"canary{os.urandom(12).hex()}"
SECRETS = {
    "HTTPS_PROXY": f"http://me:{CANARY}@proxy.invalid:1", "http_proxy": f"http://me:{CANARY}@proxy.invalid:1",
    "SOME_TOKEN": CANARY, "LC_TOKEN": CANARY, "XDG_TOKEN": CANARY, "TOKEN_DIRECTORY": CANARY,
}  # fmt: skip


def memory(pid: int) -> Iterator[bytes]:
    """Everything that a process can read of itself: its stack with what it was started with, too."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(one, 16) for one in span.split("-"))
            if rights.startswith("r") and "[v" not in line:  # [vvar] cannot be read
                try:
                    yield os.pread(file.fileno(), end - start, start)
                except OSError:
                    continue


def has_canary(pid: int) -> bool:
    return any(CANARY.encode() in piece for piece in memory(pid))


def test_no_child_has_it(make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path) -> None:
    daemon = make_daemon(SECRETS).start()
    gate = origin.gate()
    url = origin.add("/f", Resource(size=100_000), "hold", after=1000, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == 1000)
        worker = worker_of(client, job.id)
        found = {child.pid: has_canary(child.pid) for child in daemon.children()}
        gate.open()
        job.result(timeout=30)
    assert worker in found
    assert len(found) >= 2, "the fork server and the worker"
    assert not any(found.values())
    assert has_canary(daemon.pid), "it can be found"


def test_what_is_kept() -> None:
    """Where things are, and what the log goes by; no settings, and nothing that is only named alike."""
    kept = {
        "PATH": "/bin",
        "HOME": "/",
        "JOURNAL_STREAM": "8:1",
        "FETCHD_STATE_DIR": "/s",
        "PYTHONPATH": "/p",
    }
    environment = kept | SECRETS | {"FETCHD_WORKERS": "3", "NOTIFY_SOCKET": "/n", "LISTEN_FDS": "1"}
    shorten(environment)
    assert environment == kept
