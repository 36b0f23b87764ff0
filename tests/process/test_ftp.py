"""FTP through the real daemon: named by the URL, the password nowhere to be seen, cut and continued."""

from collections.abc import Callable
from pathlib import Path

from support.content import pattern
from support.daemon import DaemonProcess
from support.ftp import FtpServer
from support.look import nothing_staged
from support.origin import Origin, Resource
from support.tls import Certificates

CONTENT = pattern(3_000_000, 1)


def test_a_file_by_ftp(daemon: DaemonProcess, downloads: Path) -> None:
    with FtpServer({"dir/a b": CONTENT}) as server, daemon.client() as client:
        server.cut = 2_000_000
        job = client.submit(server.url("dir/a%20b;type=i", "me:hushhush@"), directory=downloads)
        assert job.result(timeout=30).path == downloads / "a b"
        snapshot = job.snapshot()
    assert (downloads / "a b").read_bytes() == CONTENT
    assert "REST 2000000" in server.commands
    assert "PASS hushhush" in server.commands
    assert "hushhush" not in f"{snapshot}{daemon.log()}"
    nothing_staged(daemon)


def test_a_web_page_may_have_an_ftp_mirror(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url = origin.add("/f", Resource(), "status", code=404)
    with FtpServer({"f": CONTENT}) as server, daemon.client() as client:
        job = client.submit(url, mirrors=[server.url("f")], directory=downloads)
        assert job.result(timeout=30).size == len(CONTENT)
    assert (downloads / "f").read_bytes() == CONTENT


def test_a_file_by_ftps(
    make_daemon: Callable[..., DaemonProcess], certificates: Certificates, downloads: Path
) -> None:
    trusting = make_daemon({"FETCHD_CA_BUNDLE": str(certificates.authority)}).start()
    with FtpServer({"f": CONTENT}, certificates.server_context()) as server, trusting.client() as client:
        assert client.submit(server.url("f"), directory=downloads).result(timeout=30).size == len(CONTENT)
    assert (downloads / "f").read_bytes() == CONTENT
