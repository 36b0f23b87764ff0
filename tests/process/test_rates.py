"""Limits of speed as a user sets them: a download cannot be faster than they allow, and they change live.

How closely they are kept is measured by `tests/benchmarks/rates.py`; here only what cannot be too fast on any
machine is decided by the clock.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource

from fetchd.client import Client
from fetchd.protocol.job import State

RATE = 1 << 20
SIZE = 2 * RATE
LEAST = 1.7
"""Seconds that two seconds' worth of bytes must take: something may be handed out in advance."""


@pytest.fixture
def client(make_daemon: Callable[..., DaemonProcess]) -> Iterator[Client]:
    daemon = make_daemon({"FETCHD_WORKERS": "4"}).start()
    with daemon.client() as client:
        yield client


def took(client: Client, urls: list[str], downloads: Path, **options: object) -> float:
    """Seconds from the submit of all to the last file."""
    began = time.monotonic()
    jobs = [client.submit(url, directory=downloads, **options) for url in urls]  # type: ignore[arg-type]
    for job in jobs:
        job.result(timeout=60)
    return time.monotonic() - began


@pytest.mark.parametrize("segments", [1, 4])
def test_of_a_job(client: Client, origin: Origin, downloads: Path, segments: int) -> None:
    url = origin.add("/f", Resource(size=SIZE))
    assert took(client, [url], downloads, limit_rate=RATE, segments=segments) > LEAST


def test_of_everything(client: Client, origin: Origin, downloads: Path) -> None:
    client.limit(RATE)
    urls = [origin.add(f"/f{n}", Resource(size=SIZE // 4)) for n in range(4)]
    assert took(client, urls, downloads) > LEAST


def test_of_a_host(client: Client, make_origin: Callable[..., Origin], downloads: Path) -> None:
    slow, other = make_origin(), make_origin()
    client.limit(RATE, host=f"127.0.0.1:{slow.port}")
    free = other.add("/free", Resource(size=32 * SIZE))
    client.submit(free, directory=downloads).result(timeout=60)
    urls = [slow.add(f"/f{n}", Resource(size=SIZE // 2)) for n in range(2)]
    assert took(client, urls, downloads) > LEAST


def test_it_is_lifted_while_the_job_runs(client: Client, origin: Origin, downloads: Path) -> None:
    """At the old rate it would take hours."""
    url = origin.add("/f", Resource(size=32 * SIZE))
    job = client.submit(url, directory=downloads, limit_rate=5000)
    until(job, lambda snapshot: snapshot.state is State.RUNNING and snapshot.bytes > 0)
    assert client.limit(None, ids=[job]).jobs[0].code is None
    assert job.result(timeout=60).path is not None


def test_it_is_set_while_the_job_runs(client: Client, origin: Origin, downloads: Path) -> None:
    """And the job is stopped as promptly as any other."""
    url = origin.add("/f", Resource(size=1 << 40), "endless_body")
    job = client.submit(url, directory=downloads)
    until(job, lambda snapshot: snapshot.bytes > 0)
    client.limit(1000)
    began = time.monotonic()
    job.cancel()
    until(job, lambda snapshot: snapshot.state is State.CANCELLED)
    assert time.monotonic() - began < 30
