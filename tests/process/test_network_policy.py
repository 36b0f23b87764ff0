"""Where a daemon lets its downloads go: private addresses, hosts and ports, after redirects too."""

from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.origin import Origin, Resource

FILE = Resource(size=1000)


def outcome(daemon: DaemonProcess, url: str, downloads: Path, **fields: object) -> str:
    """The code that a download fails with, or `completed`."""
    with daemon.client() as client:
        error = client.submit(url, directory=downloads, **fields).exception(timeout=30)  # type: ignore[arg-type]
    return "completed" if error is None else str(error.code)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("allow_private", "false"),
        ("system", "true"),
        ("deny_hosts", "127.0.0.0/8, ::1"),
        ("deny_hosts", "localhost"),
        ("allow_hosts", "*.example.org 10.0.0.0/8"),
        ("allow_ports", "80 443"),
    ],
)
def test_what_is_forbidden_is_never_asked(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path, setting: str, value: str
) -> None:
    daemon = make_daemon({f"FETCHD_{setting.upper()}": value}).start()
    origin.add("/f", FILE)
    assert outcome(daemon, origin.url("/f", host="localhost"), downloads) == "denied"
    assert not origin.requests
    assert not list(downloads.iterdir())


def test_every_hop_of_a_redirect_is_judged(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    daemon = make_daemon({"FETCHD_DENY_HOSTS": "localhost"}).start()
    url = origin.add("/f", FILE, "redirect_hosts")
    assert outcome(daemon, url, downloads) == "denied"
    assert len(origin.requests) == 1, "the first hop was allowed"


def test_a_proxy_is_judged_like_any_other_host(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    daemon = make_daemon({"FETCHD_ALLOW_PRIVATE": "false"}).start()
    for scheme in ("http", "socks5h"):
        proxy = f"{scheme}://127.0.0.1:{origin.port}"
        assert outcome(daemon, "http://example.org/f", downloads, proxy=proxy) == "denied"
    assert not origin.requests


def test_what_is_listed_by_its_numbers_is_allowed(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    daemon = make_daemon(
        {"FETCHD_ALLOW_PRIVATE": "false", "FETCHD_ALLOW_HOSTS": "127.0.0.1/32,::1/128"}
    ).start()
    assert outcome(daemon, origin.add("/f", FILE), downloads) == "completed"
