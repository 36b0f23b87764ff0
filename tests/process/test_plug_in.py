"""A plug-in that is only installed, not known: a real daemon takes its URLs and its worker imports it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.plugins import DEMO, install

from fetchd.protocol.errors import FetchdError


@pytest.fixture
def demo(make_daemon: Callable[..., DaemonProcess], downloads: Path) -> DaemonProcess:
    """A daemon beside which `demo:` and a broken `broken:` are installed."""
    site = downloads / "site"
    site.mkdir()
    install(site, "demo_transfer", {"demo": "demo_transfer:Demo", "file": "demo_transfer:Demo"}, DEMO)
    install(site, "broken_transfer", {"broken": "broken_transfer:Demo"}, "import no_such_module_here")
    return make_daemon({"PYTHONPATH": str(site)}).start()


def test_a_file_by_a_plug_in(demo: DaemonProcess, downloads: Path) -> None:
    with demo.client() as client:
        result = client.submit("demo://host/name", directory=downloads).result(timeout=20)
        assert result.path == downloads / "name"
        assert result.path.read_bytes() == b"host" * 5
        error = client.submit("demo://host/nothing", directory=downloads).exception(timeout=20)
        assert error is not None
        assert (error.code, error.message) == ("not_found", "there is nothing")


def test_a_broken_plug_in_fails_its_own_jobs_only(demo: DaemonProcess, downloads: Path) -> None:
    with demo.client() as client:
        error = client.submit("broken://host/name", directory=downloads).exception(timeout=20)
        assert error is not None
        assert error.code == "unsupported_scheme"
        assert "no_such_module_here" in error.message
        assert client.submit("demo://host/x", directory=downloads).result(timeout=20).size == 8


@pytest.mark.parametrize("url", ["gopher://host/name", "file://host/etc/passwd"])
def test_what_nobody_handles_is_refused_at_once(demo: DaemonProcess, downloads: Path, url: str) -> None:
    with demo.client() as client, pytest.raises(FetchdError) as caught:
        client.submit(url, directory=downloads)
    assert caught.value.code == "unsupported_scheme"
