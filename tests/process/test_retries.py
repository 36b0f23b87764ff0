"""The retry table against real sockets: what the next request looks like, and what becomes of the job.

What the core decides is tested row by row in `tests/core`; here it is seen that a row really happens: that a
worker says what went wrong, and that the daemon does what the table says about it.
"""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import net, tls
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource, Step

from fetchd.client import Client, Job
from fetchd.protocol.job import JobSnapshot, Reason, State

SIZE = 3_000_000
HALF = 1_500_000
FILE = Resource(size=SIZE, seed=9, etag='"e"')
OTHER = Resource(size=SIZE, seed=10, etag='"o"')
DIGEST = f"sha256:{sha256_of(SIZE, 9)}"
AN_HOUR = "3600"


@pytest.fixture
def client(make_daemon: Callable[..., DaemonProcess]) -> Iterator[Client]:
    daemon = make_daemon({"FETCHD_WORKERS": "2", "FETCHD_READ_TIMEOUT": "0.5"}).start()
    with daemon.client() as client:
        yield client


def story(client: Client, job: Job) -> list[tuple[str, str | None]]:
    """(type, error) of all lifecycle events of a job so far."""
    with client.events(0, follow=False) as stream:
        return [
            (event.type, event.snapshot.error.code if event.snapshot.error else None)
            for event in stream
            if event.job == job.id and event.snapshot is not None
        ]


def free(client: Client) -> bool:
    """Whether no worker is held."""
    slots = client.stats().slots
    return slots.free == slots.total


# T


@pytest.mark.parametrize(
    ("behaviour", "options", "code"),
    [
        *[("status", {"code": code}, "server_error") for code in (408, 425, 500, 502, 504, 520, 524)],
        ("drop", {}, "reset"),
        ("drop", {"reset": True}, "reset"),
        ("cut_head", {}, "reset"),
        ("never", {}, "timeout"),
        ("never", {"after": 1000}, "timeout"),
        ("cut", {"after": 1000}, "short_body"),
        ("cut", {"after": 1000, "reset": True}, None),
    ],
)
def test_what_may_pass_is_tried_again_after_a_wait(
    client: Client,
    origin: Origin,
    downloads: Path,
    behaviour: str,
    options: dict[str, object],
    code: str | None,
) -> None:
    url = origin.add("/f", FILE, behaviour, times=1, **options)
    # a second connection would take over what the first one does not bring
    job = client.submit(url, directory=downloads, checksum=DIGEST, segments=1)
    path = job.result(timeout=30).path
    assert sha256_file(path) == sha256_of(SIZE, 9)
    told = [(kind, error) for kind, error in story(client, job) if kind == "waiting"]
    assert len(told) == 1
    assert code in (None, told[0][1])
    assert len(origin.requests_for("/f")) == 2


@pytest.mark.parametrize(
    ("scheme", "port", "code"), [("http", net.refused_port, "connect"), ("https", net.silent_port, "timeout")]
)
def test_a_host_that_is_not_there(
    client: Client, downloads: Path, scheme: str, port: Callable[[], object], code: str
) -> None:
    with port() as number:  # type: ignore[attr-defined]
        job = client.submit(f"{scheme}://127.0.0.1:{number}/f", directory=downloads, retries=1)
        assert job.exception(timeout=30).code == code  # type: ignore[union-attr]
    kinds = [kind for kind, _ in story(client, job)]
    assert kinds == ["queued", "running", "waiting", "queued", "running", "failed"]


def test_a_tls_handshake_that_fails(
    client: Client, make_origin: Callable[..., Origin], downloads: Path
) -> None:
    # without a certificate there is no cipher that both could use
    secure = make_origin(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    job = client.submit(secure.url("/f"), directory=downloads, retries=0)
    assert job.exception(timeout=30).code == "tls"  # type: ignore[union-attr]


def test_an_unknown_host(client: Client, downloads: Path) -> None:
    job = client.submit("http://no-such-host.invalid/f", directory=downloads, retries=0)
    assert job.exception(timeout=30).code == "dns"  # type: ignore[union-attr]


def test_the_budget_is_spent(client: Client, origin: Origin, downloads: Path) -> None:
    url = origin.add("/f", FILE, "status", code=502)
    job = client.submit(url, directory=downloads, retries=1)
    assert job.exception(timeout=30).code == "server_error"  # type: ignore[union-attr]
    assert len(origin.requests_for("/f")) == 2


def test_a_connection_that_had_progressed_is_taken_up_at_once(
    client: Client, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/f", FILE, "cut", times=1, after=HALF)
    job = client.submit(url, directory=downloads, checksum=DIGEST)
    assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 9)
    first, second = origin.requests_for("/f")
    assert first.header("range") is None or first.header("if-range") is None
    assert second.header("range") == f"bytes={HALF}-"
    assert second.header("if-range") == '"e"'
    assert "waiting" not in [kind for kind, _ in story(client, job)]


# no retry


@pytest.mark.parametrize(
    ("behaviour", "options", "code"),
    [
        ("status", {"code": 401}, "unauthorized"),
        ("status", {"code": 407}, "unauthorized"),
        ("status", {"code": 403}, "forbidden"),
        ("status", {"code": 404}, "not_found"),
        ("status", {"code": 410}, "gone"),
        ("status", {"code": 418}, "http_error"),
        ("redirect", {"to": "ftp://127.0.0.1/f"}, "redirect_refused"),
        ("raw_length", {"value": "12, 13"}, "bad_response"),
    ],
)
def test_what_will_not_do_fails_at_once(
    client: Client, origin: Origin, downloads: Path, behaviour: str, options: dict[str, object], code: str
) -> None:
    url = origin.add("/f", FILE, behaviour, **options)
    job = client.submit(url, directory=downloads)
    assert job.exception(timeout=30).code == code  # type: ignore[union-attr]
    assert len(origin.requests_for("/f")) == 1
    assert [kind for kind, _ in story(client, job)] == ["queued", "running", "failed"]


def test_a_redirect_loop(client: Client, origin: Origin, downloads: Path) -> None:
    job = client.submit(origin.add("/f", FILE, "redirect_loop"), directory=downloads)
    assert job.exception(timeout=30).code == "redirect_loop"  # type: ignore[union-attr]
    assert job.snapshot().attempt == 1


def test_a_certificate_that_nobody_vouches_for(
    client: Client, make_origin: Callable[..., Origin], certificates: tls.Certificates, downloads: Path
) -> None:
    secure = make_origin(tls=certificates.server_context())
    job = client.submit(secure.add("/f", FILE), directory=downloads)
    assert job.exception(timeout=30).code == "tls_cert"  # type: ignore[union-attr]
    assert job.snapshot().attempt == 1


# H


def parked(snapshot: JobSnapshot) -> bool:
    return (snapshot.state, snapshot.reason) == (State.WAITING, Reason.HOST_PARKED)


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (503, "unavailable")])
def test_a_host_is_parked_for_all_its_jobs(
    client: Client, origin: Origin, downloads: Path, status: int, code: str
) -> None:
    url = origin.add("/f", FILE, "status", times=1, code=status, retry_after=AN_HOUR)
    first = client.submit(url, directory=downloads)
    told = until(first, parked)
    assert told.error is not None
    assert told.error.code == code
    assert free(client), "nobody holds a worker while it waits"
    second = client.submit(origin.add("/g", FILE), directory=downloads)
    assert parked(second.snapshot())
    not_before = second.snapshot().not_before
    assert not_before is not None
    assert 3600e6 <= not_before - told.created <= 1.2 * 3600e6
    # another name is another host
    elsewhere = client.submit(origin.url("/g", host="localhost"), directory=downloads, name="elsewhere")
    elsewhere.result(timeout=30)
    assert [request.path for request in origin.requests] == ["/f", "/g"]
    assert first.retry(), "by hand it goes on at once"
    first.result(timeout=30)
    second.result(timeout=30)


def test_a_parked_host_goes_on_by_itself(client: Client, origin: Origin, downloads: Path) -> None:
    url = origin.add("/f", FILE, "status", times=1, code=503, retry_after=1)
    job = client.submit(url, directory=downloads)
    job.result(timeout=30)
    kinds = [kind for kind, _ in story(client, job)]
    assert kinds == ["queued", "running", "queued", "running", "publishing", "completed"]


def test_a_parked_host_stays_parked_over_a_restart(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/f", FILE, "status", code=503, retry_after=AN_HOUR)
    with daemon.client() as client:
        until(client.submit(url, directory=downloads, id="job"), parked)
    daemon.restart(kill=True)
    with daemon.client() as client:
        assert parked(client.get("job").snapshot())
    assert len(origin.requests_for("/f")) == 1


# wrong bytes


def test_a_wrong_checksum_is_tried_once_from_zero(client: Client, origin: Origin, downloads: Path) -> None:
    url = origin.script("/f", Step(OTHER), Step(FILE))
    job = client.submit(url, directory=downloads, checksum=DIGEST)
    assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 9)
    assert ("restarted", None) in story(client, job)
    assert len(origin.requests_for("/f")) == 2


def test_twice_wrong_is_wrong(client: Client, origin: Origin, downloads: Path) -> None:
    job = client.submit(origin.add("/f", OTHER), directory=downloads, checksum=DIGEST)
    assert job.exception(timeout=30).code == "checksum_mismatch"  # type: ignore[union-attr]
    assert len(origin.requests_for("/f")) == 2
    assert not list(downloads.iterdir())


# the deadline


def test_a_job_ends_when_its_time_is_over_and_its_bytes_are_kept(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/f", FILE, "hold", times=1, after=HALF, gate=origin.gate())
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, deadline=2)
        until(job, lambda s: s.bytes == HALF)
        assert job.exception(timeout=30).code == "deadline"  # type: ignore[union-attr]
        assert job.snapshot().bytes == HALF
        assert job.retry()
        assert sha256_file(job.result(timeout=30).path) == sha256_of(SIZE, 9)
    assert origin.requests_for("/f")[1].header("range") == f"bytes={HALF}-"


def test_a_job_whose_time_is_over_in_the_queue_is_not_run(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    with make_daemon({"FETCHD_WORKERS": "1"}).start().client() as client:
        block = client.submit(origin.add("/b", FILE, "stall", gate=gate), directory=downloads)
        gate.wait_arrived()
        late = client.submit(origin.add("/f", FILE), directory=downloads, deadline=0.001)
        gate.open()
        assert late.exception(timeout=30).code == "deadline"  # type: ignore[union-attr]
        block.result(timeout=30)
    assert not origin.requests_for("/f")


# limits


def test_a_host_bears_so_many_jobs_and_no_more(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    daemon = make_daemon({"FETCHD_WORKERS": "4", "FETCHD_HOST_CONNECTIONS": "2"}).start()
    with daemon.client() as client:
        jobs = [
            client.submit(origin.add(f"/{n}", Resource(size=100), "stall", gate=gate), directory=downloads)
            for n in range(5)
        ]
        gate.wait_arrived(2)
        shown = [(job.snapshot().state, job.snapshot().reason) for job in jobs]
        assert shown == [(State.RUNNING, None)] * 2 + [(State.QUEUED, Reason.HOST_LIMIT)] * 3
        other = client.submit(origin.url("/0", host="localhost"), directory=downloads, name="other")
        gate.wait_arrived(3)
        gate.open()
        for job in (*jobs, other):
            job.result(timeout=30)
    assert origin.max_concurrent <= 3, "two, and one of the other host"


def test_limits_survive_a_restart(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate, host = origin.gate(), f"127.0.0.1:{origin.port}"
    url = origin.add("/f", FILE, "stall", gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, limit_rate=10**9, id="job")
        gate.wait_arrived()
        assert client.limit(10**9).total == 10**9
        assert client.limit(10**8, host=f"127.0.0.1:{origin.port}").hosts == {
            f"127.0.0.1:{origin.port}": 10**8
        }
        assert client.limit(10**7, ids=[job]).jobs[0].code is None
        assert job.snapshot().options["limit_rate"] == 10**7
    daemon.restart(kill=True)
    with daemon.client() as client:
        found = client.limits()
        assert (found.total, found.hosts) == (10**9, {host: 10**8})
        assert client.get("job").snapshot().options["limit_rate"] == 10**7
        assert client.limit(None).total is None
        gate.open()
        client.get("job").result(timeout=30)
