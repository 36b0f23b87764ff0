"""Fixtures for all tiers, and the check after every test that it left nothing behind."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support import daemon as daemons
from support import leaks, tls
from support import nginx as nginxes
from support.daemon import DaemonProcess
from support.nginx import Nginx
from support.origin import Origin
from support.tmp import TempDir

import fetchd.protocol

DaemonFactory = Callable[..., DaemonProcess]


def pytest_configure() -> None:
    """Clients send the environment's proxy along: the tests' servers are not to be asked for through one."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


def pytest_report_header() -> str:
    """Which fetchd is under test: an old installation must not pass for the working tree."""
    return f"fetchd: {Path(fetchd.protocol.__file__).parents[1]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs of the test's daemons into the report of a failure."""
    report = yield
    if report.failed:
        for daemon in daemons.started:
            if log := daemon.log():
                report.sections.append((f"log of the daemon of {daemon.state}", log[-20_000:]))
    return report


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """No process, descriptor, thread or temporary directory is left after any test."""
    before = leaks.snapshot()
    yield
    if found := leaks.leaks(before):
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
def make_origin() -> Iterator[Callable[..., Origin]]:
    """Make further origins (`make_origin(tls=context)`); all are closed, their own errors fail the test."""
    made: list[Origin] = []

    def make(**options: object) -> Origin:
        made.append(Origin(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for origin in made:
        origin.close()
    assert not [error for origin in made for error in origin.errors]


@pytest.fixture
def origin(make_origin: Callable[..., Origin]) -> Origin:
    """A hostile-capable origin server."""
    return make_origin()


@pytest.fixture(scope="session")
def nginx_process() -> Iterator[Nginx]:
    """The session's nginx. Tests use `nginx`."""
    if nginxes.find() is None:
        pytest.skip(nginxes.MISSING)
    server = Nginx()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def nginx(nginx_process: Nginx) -> Iterator[Nginx]:
    """A real nginx, running, with an empty `www`."""
    yield nginx_process
    nginx_process.clear()
    assert nginx_process.process is not None
    leaks.lasting.add(nginx_process.process.pid)  # a test may have restarted it


@pytest.fixture
def https(nginx: Nginx) -> tls.Certificates:
    """The certificates of nginx's https port; skips where they cannot be made."""
    if nginx.certificates is None:
        pytest.skip(tls.MISSING)
    return nginx.certificates


@pytest.fixture(scope="session")
def certificates() -> Iterator[tls.Certificates]:
    """An authority and a certificate for localhost, for origins with TLS."""
    if not tls.have_openssl():
        pytest.skip(tls.MISSING)
    with TempDir() as directory:
        yield tls.make_certificates(directory)


@pytest.fixture
def make_daemon(downloads: Path) -> Iterator[DaemonFactory]:
    """Make daemons, not started: `make_daemon({"FETCHD_WORKERS": "3"}).start()`. All get closed.

    `downloads` outlives them: a job that a test leaves running would make it again.
    """
    made: list[DaemonProcess] = []

    def make(env: Mapping[str, str] | None = None, *, wrapper: Sequence[str] = ()) -> DaemonProcess:
        made.append(DaemonProcess(env, wrapper=wrapper))
        return made[-1]

    yield make
    errors: list[Exception] = []
    for daemon in made:
        try:
            daemon.close()
        except Exception as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("closing the daemons", errors)


@pytest.fixture
def daemon(make_daemon: DaemonFactory) -> DaemonProcess:
    """A running daemon with default settings."""
    return make_daemon().start()


@pytest.fixture
def downloads() -> Iterator[Path]:
    """An empty directory to download into, on the mount of the daemons' state directories."""
    with TempDir() as directory:
        yield directory
