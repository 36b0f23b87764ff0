"""Other authorities, another /etc/hosts while the daemon runs: the next download goes by them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import tls
from support.daemon import DaemonProcess
from support.look import worker_of
from support.origin import Origin, Resource
from support.tmp import TempDir
from support.wait import IN_MODIFY, Watch

from fetchd.client import Client

FILE = Resource(size=1000)


def replace(path: Path, content: str) -> None:
    """By rename, as packages do it."""
    fresh = path.with_name("fresh")
    fresh.write_text(content)
    fresh.rename(path)


def fetch(client: Client, url: str, downloads: Path) -> None:
    """Download at the first attempt, or fail."""
    client.submit(url, directory=downloads, retries=0, if_exists="overwrite").result(timeout=30)


@pytest.mark.parametrize("warmed", [True, False])
def test_other_authorities(
    make_daemon: Callable[..., DaemonProcess],
    make_origin: Callable[..., Origin],
    certificates: tls.Certificates,
    downloads: Path,
    warmed: bool,
) -> None:
    """Whether a worker has read the old ones already, or has not and may not read the new ones."""
    with TempDir() as directory:
        new = tls.make_certificates(directory)
        bundle = directory / "bundle.pem"
        shutil.copy(certificates.authority, bundle)
        daemon = make_daemon({"FETCHD_CA_BUNDLE": str(bundle), "FETCHD_WORKERS": "1"}).start()
        before, after = make_origin(tls=certificates.server_context()), make_origin(tls=new.server_context())
        held = make_origin()
        gate = held.gate()
        with daemon.client() as client:
            if warmed:
                fetch(client, before.add("/before", FILE), downloads)
            else:
                fetch(client, held.add("/before", FILE), downloads)
            replace(bundle, new.authority.read_text())
            fetch(client, after.add("/after", FILE), downloads)
            url = held.add("/busy", FILE, "stall", gate=gate)
            busy = client.submit(url, directory=downloads)
            gate.wait_arrived()
            pid = worker_of(client, busy.id)
            replace(bundle, certificates.authority.read_text())
            told = f"there is another {bundle}"
            with Watch(daemon.root, mask=IN_MODIFY) as watch:
                watch.until(lambda: daemon.log().count(told) == 2, 10, "the second change to be noticed")
            following = client.submit(before.add("/again", FILE), directory=downloads, retries=0)
            assert worker_of(client, busy.id) == pid, "nobody is taken from its job"
            gate.open()
            busy.result(timeout=30)
            assert busy.snapshot().attempt == 1
            following.result(timeout=30)


def test_another_hosts_file(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    with TempDir() as directory:
        etc = directory / "etc"
        shutil.copytree("/etc", etc, symlinks=True)
        hosts = etc / "hosts"
        hosts.write_text("127.0.0.1 first.test\n")
        bind = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc)]
        if subprocess.run([*bind, "true"], check=False).returncode:
            pytest.skip("a mount namespace takes root")
        daemon = make_daemon({"FETCHD_WORKERS": "1"}, wrapper=bind).start()
        origin.add("/f", FILE)
        with daemon.client() as client:
            fetch(client, origin.url("/f", host="first.test"), downloads)
            replace(hosts, "127.0.0.1 second.test\n")
            fetch(client, origin.url("/f", host="second.test"), downloads)


def test_a_reload_with_a_larger_size(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path
) -> None:
    """It is a limit of the process as well."""
    daemon = make_daemon()
    config = daemon.root / "fetchd.toml"
    daemon.env["FETCHD_CONFIG"] = str(config)
    config.write_text("max_size = 100\n")
    url = origin.add("/f", FILE)
    with daemon.start().client() as client:
        error = client.submit(url, directory=downloads, retries=0).exception(timeout=30)
        assert error is not None
        assert error.code == "file_too_large"
        config.write_text("max_size = 1000\n")
        client.reload()
        fetch(client, url, downloads)


def test_a_reload_with_other_authorities(
    make_daemon: Callable[..., DaemonProcess],
    make_origin: Callable[..., Origin],
    certificates: tls.Certificates,
    downloads: Path,
) -> None:
    origin = make_origin(tls=certificates.server_context())
    with TempDir() as directory:
        other = tls.make_certificates(directory)
        daemon = make_daemon()
        config = daemon.root / "fetchd.toml"
        daemon.env["FETCHD_CONFIG"] = str(config)
        config.write_text(f'ca_bundle = "{other.authority}"\n')
        with daemon.start().client() as client:
            url = origin.add("/f", FILE)
            error = client.submit(url, directory=downloads, retries=0).exception(timeout=30)
            assert error is not None
            assert error.code == "tls_cert"
            config.write_text(f'ca_bundle = "{certificates.authority}"\n')
            assert client.reload().next_worker == ["ca_bundle"]
            fetch(client, url, downloads)
