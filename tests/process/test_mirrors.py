"""Other sources of a file when one does not do: through the real daemon, from several origins."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import net
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.origin import Origin, Resource

from fetchd.client import Client, Job

SIZE = 3_000_000
FILE = Resource(size=SIZE, seed=9, etag='"e"')
OTHER = Resource(size=SIZE, seed=10, etag='"e"')
DIGEST = f"sha256:{sha256_of(SIZE, 9)}"


@pytest.fixture
def client(make_daemon: Callable[..., DaemonProcess]) -> Iterator[Client]:
    daemon = make_daemon({"FETCHD_WORKERS": "2", "FETCHD_READ_TIMEOUT": "0.5"}).start()
    with daemon.client() as client:
        yield client


@pytest.fixture
def mirror(make_origin: Callable[..., Origin]) -> Origin:
    return make_origin()


def is_whole(job: Job) -> None:
    assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 9)


def kinds(client: Client, job: Job) -> list[str]:
    """The types of all lifecycle events of a job so far."""
    with client.events(0, follow=False) as stream:
        return [event.type for event in stream if event.job == job.id]


@pytest.mark.parametrize(
    ("behaviour", "options"),
    [
        *[("status", {"code": code}) for code in (401, 403, 404, 410, 418, 500, 502)],
        ("redirect_loop", {}),
        ("drop", {}),
        ("never", {}),
        ("raw_length", {"value": "12, 13"}),
    ],
)
def test_the_mirror_at_once(
    client: Client,
    origin: Origin,
    mirror: Origin,
    downloads: Path,
    behaviour: str,
    options: dict[str, object],
) -> None:
    url = origin.add("/f", FILE, behaviour, **options)
    job = client.submit(
        url, mirrors=[mirror.add("/m", FILE)], directory=downloads, checksum=DIGEST, retries=0
    )
    is_whole(job)
    assert "waiting" not in kinds(client, job)
    assert len(mirror.requests_for("/m")) == 1


def test_a_host_that_is_not_there_has_a_mirror(client: Client, mirror: Origin, downloads: Path) -> None:
    with net.refused_port() as port:
        url, other = f"http://127.0.0.1:{port}/f", mirror.add("/m", FILE)
        is_whole(client.submit(url, mirrors=[other], directory=downloads, retries=0))


def test_after_all_have_been_tried_the_first_is_tried_again(
    client: Client, origin: Origin, mirror: Origin, downloads: Path
) -> None:
    url = origin.add("/f", FILE, "drop", times=1)
    job = client.submit(url, mirrors=[mirror.add("/m", FILE, "drop")], directory=downloads)
    is_whole(job)
    assert kinds(client, job).count("waiting") == 1
    assert (len(origin.requests_for("/f")), len(mirror.requests_for("/m"))) == (2, 1)


def test_a_refused_source_is_not_asked_again(
    client: Client, origin: Origin, mirror: Origin, downloads: Path
) -> None:
    url, other = origin.add("/f", FILE, "status", code=404), mirror.add("/m", FILE, "drop", times=1)
    is_whole(client.submit(url, mirrors=[other], directory=downloads))
    assert (len(origin.requests_for("/f")), len(mirror.requests_for("/m"))) == (1, 2)


def test_none_of_them_will_do(client: Client, origin: Origin, mirror: Origin, downloads: Path) -> None:
    url, other = origin.add("/f", FILE, "status", code=404), mirror.add("/m", FILE, "status", code=403)
    error = client.submit(url, mirrors=[other], directory=downloads).exception(timeout=30)
    assert error is not None
    assert error.code == "forbidden", "what the last one said"


def test_a_mirror_that_asks_for_a_break_parks_nobody(
    client: Client, origin: Origin, mirror: Origin, downloads: Path
) -> None:
    url = origin.add("/f", FILE, "drop", times=1)
    other = mirror.add("/m", FILE, "status", times=1, code=503, retry_after=1)
    job = client.submit(url, mirrors=[other], directory=downloads)
    is_whole(client.submit(mirror.add("/g", FILE), directory=downloads))
    is_whole(job)
    assert "waiting" in kinds(client, job)


def test_wrong_bytes_are_fetched_anew_from_the_mirror(
    client: Client, origin: Origin, mirror: Origin, downloads: Path
) -> None:
    url, other = origin.add("/f", OTHER), mirror.add("/m", FILE)
    job = client.submit(url, mirrors=[other], directory=downloads, checksum=DIGEST, segments=1)
    is_whole(job)
    assert "restarted" in kinds(client, job)
    assert [request.header("range") for request in mirror.requests_for("/m")] == [None]
