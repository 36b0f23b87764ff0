"""Stopped processes: who hangs is replaced, and nobody is blamed for a supervisor that did not turn."""

import os
import signal
from pathlib import Path

import pytest
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.origin import Origin, Resource
from support.wait import process_exit

SIZE, FIRST = 3_000_000, 1_500_000
TIMEOUT = {"FETCHD_HANG_TIMEOUT": "2"}
LONGER = 2.7
"""Seconds: more than the time after which silence counts."""


def test_a_worker_that_hangs_is_replaced_and_its_bytes_are_kept(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=4), "hold", times=1, after=FIRST, gate=gate)
    daemon = make_daemon(TIMEOUT).start()
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, segments=1)
        until(job, lambda s: s.bytes == FIRST)
        worker = worker_of(client, job.id)
        os.kill(worker, signal.SIGSTOP)
        process_exit(worker, 30)
        waiting = until(job, lambda s: s.error is not None)
        assert waiting.error is not None
        assert waiting.error.code == "worker_hung"
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 4)
    gate.open()
    # on a machine that is very busy the next worker may count as hung as well
    assert [request.range for request in origin.requests[:2]] == [None, f"bytes={FIRST}-"]
    nothing_staged(daemon)


def test_the_time_of_a_stopped_supervisor_counts_against_nobody(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """The worker stands still as well, as with a machine that sleeps, and is the later one to wake up."""
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE, seed=4), "hold", times=1, after=FIRST, gate=gate)
    daemon = make_daemon(TIMEOUT).start()
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, segments=1)
        until(job, lambda s: s.bytes == FIRST)
        worker = worker_of(client, job.id)
        os.kill(worker, signal.SIGSTOP)
        daemon.signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            process_exit(worker, LONGER)
        daemon.signal(signal.SIGCONT)
        # by the second answer the supervisor has turned, and looked for hung workers before that
        assert [client.status().pid for _ in range(2)] == [daemon.pid] * 2
        os.kill(worker, signal.SIGCONT)
        gate.open()
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 4)
        assert job.snapshot().attempt == 1
    assert len(origin.requests) == 1
    nothing_staged(daemon)
