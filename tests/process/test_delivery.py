"""Files come whole through the real daemon: from nginx, many at once, in order, each in its own workspace."""

import os
import stat
from pathlib import Path

import pytest
from support.content import Pattern, sha256_file, sha256_of, write_content
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.nginx import Nginx
from support.origin import Origin, Resource

from fetchd.client import DownloadError, as_completed
from fetchd.protocol.job import State


def test_a_file_from_nginx(daemon: DaemonProcess, nginx: Nginx, downloads: Path) -> None:
    content = Pattern(20_000_000, 1)
    write_content(nginx.www / "album.flac", content)
    with daemon.client() as client:
        job = client.submit(
            nginx.url("album.flac"), directory=downloads, checksum=f"sha256:{sha256_of(20_000_000, 1)}"
        )
        result = job.result(timeout=30)
    assert result.path == downloads / "album.flac"
    assert sha256_file(result.path) == sha256_of(20_000_000, 1)
    assert result.size == 20_000_000
    nothing_staged(daemon)


def test_https_with_the_configured_authority(
    make_daemon: type[DaemonProcess], nginx: Nginx, https: object, downloads: Path
) -> None:
    write_content(nginx.www / "secret.bin", Pattern(300_000, 2))
    trusted = make_daemon({"FETCHD_CA_BUNDLE": str(https.authority)}).start()  # type: ignore[attr-defined]
    with trusted.client() as client:
        path = client.submit(nginx.url("secret.bin", https=True), directory=downloads).result(timeout=30).path
    assert sha256_file(path) == sha256_of(300_000, 2)


def test_an_unknown_authority_is_refused(
    daemon: DaemonProcess, nginx: Nginx, https: object, downloads: Path
) -> None:
    write_content(nginx.www / "secret.bin", Pattern(1000, 2))
    with daemon.client() as client:
        error = client.submit(nginx.url("secret.bin", https=True), directory=downloads).exception(timeout=30)
    assert error is not None
    assert error.code == "tls_cert"
    assert os.listdir(downloads) == []


def test_two_hundred_files_five_at_once(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    sizes = [0, 1, 4096, 70_000, 1_000_000]
    specs = []
    for number in range(200):
        size = sizes[number % 5] + number
        url = origin.add(f"/f{number}", Resource(size=size, seed=number))
        specs.append({"url": url, "directory": str(downloads), "id": f"n{number:03}"})
    with daemon.client() as client:
        jobs = client.submit_many(specs)
        workspaces = set()
        for job in as_completed(jobs, timeout=120):
            snapshot = job.snapshot()
            assert snapshot.state is State.COMPLETED, snapshot
            workspaces.add(snapshot.id)
    assert len(workspaces) == 200
    assert origin.max_concurrent <= 5
    for number in range(200):
        size = sizes[number % 5] + number
        assert sha256_file(downloads / f"f{number}") == sha256_of(size, number), number
    nothing_staged(daemon)
    assert len(os.listdir(downloads)) == 200


def test_first_come_first_served_within_a_priority(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    one = make_daemon({"FETCHD_WORKERS": "1"}).start()
    first = origin.add("/first", Resource(size=10), "stall", gate=gate)
    urls = {name: origin.add(f"/{name}", Resource(size=10)) for name in ("a", "b", "c", "urgent", "late")}
    with one.client() as client:
        jobs = [client.submit(first, directory=downloads)]
        gate.wait_arrived()
        jobs += [client.submit(urls[name], directory=downloads) for name in ("a", "b", "c")]
        jobs.append(client.submit(urls["late"], directory=downloads, priority=-1))
        jobs.append(client.submit(urls["urgent"], directory=downloads, priority=1))
        gate.open()
        for job in jobs:
            job.result(timeout=20)
    assert [request.path for request in origin.requests] == ["/first", "/urgent", "/a", "/b", "/c", "/late"]


def test_each_attempt_has_a_workspace_of_its_own(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    gate = origin.gate()
    names = [f"x{number}" for number in range(5)]
    with daemon.client() as client:
        jobs = [
            client.submit(
                origin.add(f"/{name}", Resource(size=50_000), "hold", after=20_000, gate=gate),
                directory=downloads,
                id=name,
            )
            for name in names
        ]
        gate.wait_arrived(5)
        for job in jobs:
            until(job, lambda s: s.bytes >= 20_000)
        here = [job.snapshot().workspace for job in jobs]
        assert len(set(here)) == 5
        for path, name in zip(here, names, strict=True):
            assert path is not None
            assert Path(path).name == name
            assert sorted(os.listdir(path)) == ["data", "frontier"]
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert len({worker_of(client, name) for name in names}) == 5
        assert os.listdir(downloads) == [], "nothing may be visible before it is whole"
        gate.open()
        for job in jobs:
            job.result(timeout=20)
    nothing_staged(daemon)


def test_the_mode_follows_the_submitters_umask(
    daemon: DaemonProcess, origin: Origin, downloads: Path
) -> None:
    url = origin.add("/f", Resource(size=10))
    with daemon.client() as client:
        before = os.umask(0o027)
        try:
            path = client.submit(url, directory=downloads / "new" / "deep").result(timeout=20).path
        finally:
            os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("policy", "state", "names"),
    [("skip", "completed", ["f.txt"]), ("rename", "completed", ["f (1).txt", "f.txt"]),
     ("overwrite", "completed", ["f.txt"]), ("fail", "failed", ["f.txt"])],
)  # fmt: skip
def test_if_exists(
    daemon: DaemonProcess, origin: Origin, downloads: Path, policy: str, state: str, names: list[str]
) -> None:
    (downloads / "f.txt").write_text("mine")
    url = origin.add("/f.txt", Resource(size=100))
    with daemon.client() as client:
        job = client.submit(url, directory=downloads, if_exists=policy, keep_partial=False)
        error = job.exception(timeout=20)
        snapshot = job.snapshot()
    assert snapshot.state == state
    assert sorted(os.listdir(downloads)) == names
    assert ((downloads / "f.txt").read_text(errors="replace") == "mine") == (policy != "overwrite")
    assert (error.code if error else None) == ("exists" if policy == "fail" else None)
    assert snapshot.reason == ("exists" if policy == "skip" else None)
    nothing_staged(daemon)


def test_two_live_jobs_for_one_path(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    held = origin.add("/a", Resource(size=100), "stall", gate=gate)
    other = origin.add("/b", Resource(size=100))
    with daemon.client() as client:
        first = client.submit(held, directory=downloads, name="same")
        with pytest.raises(Exception, match="will be published by job") as caught:
            client.submit(other, directory=downloads, name="same")
        assert caught.value.code == "path_reserved"  # type: ignore[attr-defined]
        skipped = client.submit(other, directory=downloads, name="same", if_exists="skip")
        assert skipped.snapshot().reason == "exists"
        renamed = client.submit(other, directory=downloads, name="same", if_exists="rename")
        assert renamed.result(timeout=20).path.name == "same (1)"
        gate.open()
        assert first.result(timeout=20).path.name == "same"


def test_a_wrong_checksum_publishes_nothing(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    url = origin.add("/f", Resource(size=5_000_000, seed=3))
    with daemon.client() as client:
        wrong = client.submit(url, directory=downloads, checksum="sha256:" + "0" * 64)
        with pytest.raises(DownloadError) as caught:
            wrong.result(timeout=20)
        assert caught.value.code == "checksum_mismatch"
    assert os.listdir(downloads) == []
    nothing_staged(daemon)


def test_the_name_comes_from_the_response(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    final = origin.add(
        "/d/real.iso", Resource(size=10, disposition="attachment; filename*=UTF-8''na%C3%AFve%2F..%2Fx.txt")
    )
    start = origin.add("/go", Resource(size=0), "redirect", to=final)
    with daemon.client() as client:
        assert client.submit(start, directory=downloads).result(timeout=20).path == downloads / "x.txt"


def test_credentials_never_follow_to_another_origin(
    daemon: DaemonProcess, origin: Origin, make_origin: type[Origin], downloads: Path
) -> None:
    other = make_origin()
    final = other.add("/f", Resource(size=10))
    start = origin.add("/go", Resource(size=0), "redirect", to=final)
    secret = start.replace("http://", "http://user:pa%3Ass@")
    with daemon.client() as client:
        job = client.submit(secret, directory=downloads, headers={"X-Api-Key": "canary"})
        job.result(timeout=20)
        assert "pa" not in job.snapshot().url.partition("/go")[0]
    at_home, abroad = origin.requests[0], other.requests[0]
    assert at_home.header("x-api-key") == "canary"
    assert (at_home.header("authorization") or "").startswith("Basic ")
    assert abroad.header("x-api-key") is None
    assert abroad.header("authorization") is None
    for path in daemon.state.rglob("*"):
        if path.is_file() and path.name != "lock":
            assert b"canary" not in path.read_bytes(), f"the secret is in {path}"
