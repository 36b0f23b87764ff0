"""Jobs with a canary in each kind of secret: origins and proxies see it, and nothing that stays shows one."""

import os
import signal
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import zmq
from support.cli import Fetchd
from support.daemon import DaemonProcess
from support.look import nothing_staged, until, worker_of
from support.net import refused_port
from support.origin import Origin, Resource, Step
from support.proxy import HttpProxy
from support.tls import Certificates

from fetchd.client import Client, Job

FILE = Resource(size=100_000, seed=5)
KINDS = (
    "header", "bearer", "password", "cookie", "netrc", "userinfo", "signature", "token", "mirror", "proxy",
    "redirect", "environment",
)  # fmt: skip
CANARY = {kind: f"canary+{kind}/{os.urandom(6).hex()}~tweet" for kind in KINDS}


def forms(secret: bytes) -> Iterator[bytes]:
    """A secret as it may lie somewhere: itself (in MessagePack and JSON too), in a URL, in base64."""
    yield secret
    for safe in ("", "/", "+", "+/"):
        yield quote(secret, safe=safe).encode()
    for before in range(3):
        # what stands before and after it changes the first and the last characters
        yield b64encode(b"\0" * before + secret)[4:-4]


class Places:
    """Everything that is written and said about the jobs of one daemon."""

    def __init__(self, daemon: DaemonProcess, downloads: Path, secrets: dict[str, str]) -> None:
        self.daemon, self.downloads = daemon, downloads
        self._wanted = {form: kind for kind, secret in secrets.items() for form in forms(secret.encode())}
        self._context = zmq.Context()
        self._events = self._context.socket(zmq.SUB)
        self._events.rcvhwm = 0
        self._events.subscribe(b"")
        self.heard = 0

    def listen(self) -> None:
        """Hear what is published from now on."""
        self._events.connect(self.daemon.endpoint.events)

    def close(self) -> None:
        self._context.destroy(linger=0)

    def search(self, *, secrets_too: bool = False) -> None:
        """Fail where there is a canary; `secrets_too`: in the secrets database as well."""
        found = [(name, kind) for name, data in self._all(secrets_too) for kind in self.kinds(data)]
        assert not found

    def kinds(self, data: bytes) -> set[str]:
        return {kind for form, kind in self._wanted.items() if form in data}

    def _all(self, secrets_too: bool) -> Iterator[tuple[str, bytes]]:
        runtime = Path(self.daemon.endpoint.control.removeprefix("ipc://")).parent
        for place in (self.daemon.root, self.downloads, runtime):
            for path in place.rglob("*"):
                yield "a name", os.fsencode(path)
                if path.is_file() and (secrets_too or not path.name.startswith("secrets.db")):
                    yield str(path), path.read_bytes()
        for pid in self.daemon.family():
            # what the supervisor was started with is ours
            for name in ("cmdline", "comm", *(["environ"] if pid != self.daemon.pid else [])):
                try:
                    yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    continue
        fetchd = Fetchd(self.daemon.env, self.downloads)
        with self.daemon.client() as client:
            snapshots = [client.get(job.id).snapshot() for job in client.list()]
        yield "snapshots", msgspec.msgpack.encode(snapshots)
        shown = [["show", snapshots[-1].id]] if snapshots else []
        for words in (["ls"], ["stats"], ["workspace", "ls"], *shown):
            done = fetchd(*words, "--json")
            assert done.code == 0, (words, done)
            yield " ".join(words), (done.out + done.err).encode()
        while self._events.poll(200):
            self.heard += 1
            yield "an event", b"\0".join(self._events.recv_multipart())


class Owner:
    """Submits jobs that have something of everything."""

    def __init__(self, client: Client, origin: Origin, downloads: Path) -> None:
        self.client, self.origin, self.downloads = client, origin, downloads
        self.cookies = downloads.parent / f"{downloads.name}.cookies"
        far = 4_000_000_000
        self.cookies.write_text(f"127.0.0.1\tFALSE\t/\tFALSE\t{far}\tname\t{CANARY['cookie']}\n")

    def url(self, path: str) -> str:
        """Of the origin, with a password and signatures in it."""
        url = self.origin.url(path).replace("//", f"//me:{quote(CANARY['userinfo'], safe='')}@")
        signature, token = (quote(CANARY[name], safe="") for name in ("signature", "token"))
        return f"{url}?x=1&X-Amz-Signature={signature};key={token}"

    def submit(self, name: str, path: str = "", url: str = "", **fields: Any) -> Job:
        headers = {"X-Api-Key": CANARY["header"]} | fields.pop("headers", {})
        return self.client.submit(
            url or self.url(path), directory=self.downloads, id=name, name=name, cookie_file=self.cookies,
            headers=headers, **{"retries": 0, **fields},
        )  # fmt: skip


def ended(job: Job) -> str:
    error = job.exception(timeout=40)
    return "completed" if error is None else str(error.code)


def seen(origin: Origin, path: str) -> str:
    return str([(request.target, request.headers) for request in origin.requests_for(path)])


@pytest.fixture
def places(make_daemon: Callable[..., DaemonProcess], downloads: Path) -> Iterator[Places]:
    daemon = make_daemon(
        {
            "FETCHD_LOG_LEVEL": "debug", "FETCHD_BACKUP_INTERVAL": "0.5", "FETCHD_WORKERS": "2",
            "HTTPS_PROXY": f"http://u:{CANARY['environment']}@proxy.invalid:1",
            "SOME_TOKEN": CANARY["environment"],
        }
    ).start()  # fmt: skip
    made = Places(daemon, downloads, CANARY)
    made.listen()
    yield made
    made.close()


def test_success_and_every_failure(
    make_origin: Callable[..., Origin], places: Places, downloads: Path
) -> None:
    origin, mirror = make_origin(), make_origin()
    echo = " ".join((CANARY["header"], CANARY["userinfo"], CANARY["password"], CANARY["redirect"]))
    signed = f"/end?token={quote(CANARY['redirect'], safe='')}"
    origin.add("/ok", FILE)
    origin.add("/end", FILE)
    origin.add("/404", FILE, "status", code=404)
    origin.add("/401", FILE, "status", code=401)
    origin.add("/moved", FILE, "redirect", to=signed)
    origin.add("/gone", FILE, "redirect", to=f"/404?sig={quote(CANARY['redirect'], safe='')}")
    origin.add("/scheme", FILE, "redirect", to=f"ftp://x:{CANARY['redirect']}@h/f")
    origin.add("/nowhere", FILE, "redirect", to=f"http://x:{CANARY['redirect']}@[::1/f")
    origin.add("/loop", FILE, "redirect_loop")
    origin.add("/rubbish", FILE, "rubbish")
    origin.add("/odd", FILE, "extra_headers", headers=[("X-One", "a\r\nno header at all"), ("X-Two", "b")])
    try:
        with places.daemon.client() as client, HttpProxy(auth=("u", "no")) as proxy, refused_port() as nobody:
            owner = Owner(client, origin, downloads)
            me = ("me", CANARY["password"])
            netrc = owner.cookies.with_suffix(".netrc")
            netrc.touch(0o600)
            netrc.write_text(f"machine 127.0.0.1 login me password {CANARY['netrc']}\n")
            plain, token = origin.url("/ok"), quote(CANARY["signature"], safe="")
            place = mirror.add("/m", FILE).replace("//", f"//m:{quote(CANARY['mirror'], safe='')}@")
            jobs = {
                "ok": owner.submit("ok", "/ok"),
                "basic": owner.submit("basic", "/ok", credentials=me),
                "bearer": owner.submit("bearer", url=f"{plain}?b", bearer=CANARY["bearer"]),
                "netrc": owner.submit("netrc", url=f"{plain}?n", netrc=netrc),
                "sum": owner.submit("sum", "/ok", checksum="sha256:" + "0" * 64),
                "moved": owner.submit("moved", "/moved"),
                "refused": owner.submit("refused", url=f"http://127.0.0.1:{nobody}/f?sig={token}"),
                "mirrored": owner.submit("mirrored", "/404", mirrors=[place]),
                "tls": owner.submit("tls", url=owner.url("/ok").replace("http:", "https:", 1)),
                "proxy": owner.submit(
                    "proxy", "/ok", proxy=proxy.url("u:" + quote(CANARY["proxy"], safe=""))
                ),
            }  # fmt: skip
            for name in ("404", "401", "gone", "scheme", "nowhere", "loop", "rubbish", "odd"):
                jobs[name] = owner.submit(name, f"/{name}")
            codes = {name: ended(job) for name, job in jobs.items()}
            said = origin_says(client, owner, echo)
            assert {name for name, code in codes.items() if code == "completed"} == {
                "ok", "basic", "bearer", "netrc", "mirrored", "moved", "odd"
            }, codes  # fmt: skip
            assert "internal" not in codes.values()
            assert said == "401 no *** *** *** ***"
            requests = [*origin.requests, *mirror.requests]
            everything = str([(request.target, request.headers) for request in requests]) + str(proxy.seen)
            assert places.kinds(everything.encode()) == set(KINDS) - {"environment"}, "they have been sent"
            places.search()
            assert client.retry(["404"])
            ended(client.get("404"))
            client.remove([job.id for job in client.list()])
            assert not list(client.list())
        places.daemon.restart()
        places.search(secrets_too=True)
        assert places.heard > len(jobs), "events were published"
    finally:
        for path in downloads.parent.glob(f"{downloads.name}.*"):
            path.unlink()


def origin_says(client: Client, owner: Owner, echo: str) -> str:
    """What is kept of the reason of a server that quotes what it was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        token = quote(CANARY["redirect"], safe="")
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/f?sig={token}"
        url = url.replace("//", f"//me:{quote(CANARY['userinfo'], safe='')}@")
        job = owner.client.submit(
            url, directory=owner.downloads, id="echo", name="echo", retries=0,
            headers={"X-Api-Key": CANARY["header"]}, credentials=("me", CANARY["password"]),
        )  # fmt: skip
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(f"HTTP/1.1 401 no {echo}\r\nContent-Length: 0\r\n\r\n".encode())
            error = job.exception(timeout=20)
    assert error is not None
    return error.message


def test_ends_by_force(places: Places, origin: Origin, downloads: Path) -> None:
    """Cancelled, the worker killed, the supervisor killed; and damage to both databases."""
    daemon, gate = places.daemon, origin.gate()
    hold = ("hold", 1)
    steps = Step(FILE, hold[0], hold[1], after=1000, gate=gate), Step(FILE)
    for name in ("cancel", "worker", "supervisor"):
        origin.script(f"/{name}", *steps)
    with daemon.client() as client:
        owner = Owner(client, origin, downloads)
        try:
            job = owner.submit("cancel", "/cancel")
            until(job, lambda s: s.bytes == 1000)
            job.cancel()
            job = owner.submit("worker", "/worker", retries=3)
            until(job, lambda s: s.bytes == 1000)
            places.search()
            os.kill(worker_of(client, "worker"), signal.SIGKILL)
            assert ended(job) == "completed"
            job = owner.submit("supervisor", "/supervisor", retries=3)
            until(job, lambda s: s.bytes == 1000)
        finally:
            owner.cookies.unlink()
    daemon.kill()
    assert places.kinds((daemon.state / "secrets.db").read_bytes()) >= {"header", "cookie"}, "it is needed"
    daemon.start()
    with daemon.client() as client:
        assert ended(client.get("supervisor")) == "completed"
    places.search(secrets_too=True)
    for name in ("worker", "supervisor"):
        assert places.kinds(seen(origin, f"/{name}").encode()) >= {"header", "cookie", "userinfo", "token"}
    nothing_staged(daemon)


def test_damaged_secrets_are_gone(places: Places, origin: Origin, downloads: Path) -> None:
    """A damaged database of secrets is not kept for a look at it."""
    with places.daemon.client() as client:
        client.pause(all=True)
        owner = Owner(client, origin, downloads)
        owner.submit("held", "/held")
        owner.cookies.unlink()
    places.daemon.kill()
    with open(places.daemon.state / "secrets.db", "r+b") as file:
        file.write(b"no database")
    places.daemon.start()
    places.search(secrets_too=True)


def test_a_client_certificate(
    make_origin: Callable[..., Origin], places: Places, certificates: Certificates, downloads: Path
) -> None:
    """Its key is used, and lies nowhere afterwards."""
    line = certificates.key.read_text().splitlines()[1]
    places._wanted |= {line[:40].encode(): "key"}
    secure = make_origin(tls=certificates.server_context(clients=certificates.authority))
    pair = downloads.parent / f"{downloads.name}.pem"
    pair.write_text(certificates.chain)
    try:
        with places.daemon.client() as client:
            job = client.submit(
                secure.add("/f", FILE), directory=downloads, client_certificate=pair,
                ca=certificates.authority,
            )  # fmt: skip
            assert ended(job) == "completed"
        places.search(secrets_too=True)
    finally:
        pair.unlink()
