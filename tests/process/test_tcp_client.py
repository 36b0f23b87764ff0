"""A person's session from another machine: their own configuration, no runtime directory, TCP alone."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.cli import Done, Fetchd
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.exchange import Resource
from support.gate import Gate
from support.look import until
from support.origin import Origin
from support.tmp import TempDir

from fetchd.client import Client, FetchdError
from fetchd.protocol import keys
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

SIZE = 2_000_000
HALF = 1_000_000


class Session:
    """The daemon's machine, `there`, and one that has nothing but a key, `here`."""

    def __init__(self, daemon: DaemonProcess, origin: Origin, downloads: Path, home: Path) -> None:
        self.daemon = daemon
        self.origin = origin
        self.downloads = downloads
        self.home = home / "config"
        self.there = Fetchd(daemon.env, downloads)
        shown = self.there("keys", "show", "--json").json()
        self.endpoint: str = shown["endpoint"]
        self.server_key: str = shown["server_key"]
        self.elsewhere = home / "cwd"
        self.elsewhere.mkdir()
        env = {key: value for key, value in daemon.env.items() if not key.startswith(("FETCHD_", "XDG_"))}
        env.update(FETCHD_STATE_DIR=str(home / "no-state"), XDG_CONFIG_HOME=str(self.home))
        self.stranger = Fetchd(env, self.elsewhere)
        self.here = Fetchd(
            env | {"FETCHD_SOCKET": self.endpoint, "FETCHD_SERVER_KEY": self.server_key}, self.elsewhere
        )

    def authorize(self, name: str = "ada", *options: str, key: str | None = None) -> str:
        """Let a key of `here` in, and return its public half."""
        line = self.here("keys", "generate", *([] if key is None else [key])).out.split(" ")
        done = self.there("keys", "authorize", name, line[1], *options)
        assert done.code == 0, done
        return line[1]

    def held(self, job_id: str) -> tuple[str, Gate]:
        """The URL of a file whose second half waits for the gate."""
        gate = self.origin.gate()
        resource = Resource(size=SIZE, seed=7, etag='"e"')
        return self.origin.add(f"/{job_id}", resource, "hold", times=1, after=HALF, gate=gate), gate

    def half_way(self, job_id: str) -> None:
        """Wait until a job has the first half."""
        with self.daemon.client() as client:
            until(client.get(job_id), lambda snapshot: snapshot.bytes == HALF)

    def client(self, **options: Any) -> Client:
        """A client of `here`."""
        key = self.home / "fetchd" / "keys" / "default.key"
        return Client(self.endpoint, server_key=self.server_key, key=key, **options)

    def close(self) -> None:
        for commands in (self.there, self.stranger, self.here):
            commands.close()


Begin = Callable[..., Session]


@pytest.fixture
def begin(make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path) -> Iterator[Begin]:
    made: list[Session] = []
    with TempDir() as home:

        def start(env: Mapping[str, str] | None = None) -> Session:
            configuration = home / "there"
            configuration.mkdir()
            settings = {
                "FETCHD_LISTEN": "tcp://127.0.0.1:0",
                "XDG_CONFIG_HOME": str(configuration),
                "CONFIGURATION_DIRECTORY": "",
            }
            daemon = make_daemon(settings | dict(env or {})).start()
            made.append(Session(daemon, origin, downloads, home))
            return made[-1]

        yield start
        for session in made:
            session.close()


@pytest.fixture
def session(begin: Begin) -> Session:
    return begin()


def refused(done: Done, code: int, words: str) -> None:
    assert done.code == code, done
    assert done.out == ""
    assert words in done.err
    assert "Traceback" not in done.err


def test_what_is_shown_is_what_works(session: Session) -> None:
    line = session.here("keys", "generate").out.strip()
    assert session.there("keys", "authorize", line).code == 0
    shown = session.there("keys", "show", "--json").json()
    assert shown["command"] in session.there("keys", "show").out
    words = shlex.split(shown["command"])
    assert words[0] == "fetchd"
    done = session.stranger(*words[1:])
    assert (done.code, done.err) == (0, "")


def test_a_download(session: Session) -> None:
    session.authorize()
    url, gate = session.held("held")
    getting = session.here.begin(
        "get", url, "-d", str(session.downloads), "--id", "held", "--progress", "plain"
    )
    getting.until("held: running")
    session.half_way("held")
    (job,) = session.here("ls", "--json").json()
    assert (job["id"], job["state"], job["bytes"]) == ("held", "running", HALF)
    following = session.here.begin("follow", "held", "--progress", "json")
    events = session.here.begin("events", "--since", "0")
    waiting = session.here.begin("wait", "held")
    assert events.read()[0]["job"] == "held"
    following.until('"job":"held"')
    gate.open()
    done = getting.end()
    assert done.code == 0, done
    assert following.end().code == 0
    assert waiting.end().code == 0
    assert f"completed: {session.downloads}/held" in done.err
    assert sha256_file(session.downloads / "held") == sha256_of(SIZE, 7)
    events.interrupt()
    assert events.end().code == 130
    assert session.here("stats", "--json").json()["completed"] == 1
    assert not list(session.elsewhere.iterdir())
    assert not (session.elsewhere.parent / "no-state").exists()  # nothing was started here
    with session.daemon.client() as client:
        assert {job.last.owner for job in client.list() if job.last} == {"key:ada"}


def test_progress_comes_over_tcp(session: Session) -> None:
    session.authorize()
    url, gate = session.held("held")
    with session.client() as client:
        job = client.submit(url, directory=session.downloads, id="held")
        seen = set()
        with client.follow([job]) as follower:
            while HALF not in seen:
                seen |= {event.snapshot.bytes for event in follower.step_before_deadline() if event.snapshot}
            gate.open()
            while follower.live:
                seen |= {event.snapshot.bytes for event in follower.step_before_deadline() if event.snapshot}
        assert SIZE in seen


@pytest.mark.parametrize("kill", [False, True])
def test_the_daemon_is_restarted_half_way(begin: Begin, kill: bool) -> None:
    session = begin()
    port = session.endpoint.rpartition(":")[2]
    session.daemon.env["FETCHD_LISTEN"] = f"tcp://127.0.0.1:{port}"
    session.authorize()
    url, gate = session.held("held")
    getting = session.here.begin(
        "get", url, "-d", str(session.downloads), "--id", "held", "--progress", "plain"
    )
    getting.until("held: running")
    session.half_way("held")
    session.daemon.restart(kill=kill)
    gate.open()
    done = getting.end(60)
    assert done.code == 0, done
    assert sha256_file(session.downloads / "held") == sha256_of(SIZE, 7)


def test_directories_are_those_there(begin: Begin, downloads: Path) -> None:
    session = begin({"FETCHD_ROOTS": f"{downloads}/{{user}}"})
    session.authorize()
    url = session.origin.add("/a", Resource(size=1000, seed=7))
    for arguments, path in (
        ([], "a"),
        (["-d", "sub"], "sub/a"),
        (["-o", "sub/b"], "sub/b"),
        (["-d", str(downloads / "key-ada" / "c")], "c/a"),
    ):
        done = session.here("get", url, *arguments)
        assert done.code == 0, done
        assert (downloads / "key-ada" / path).stat().st_size == 1000
    refused(session.here("get", url, "-d", "/tmp"), 1, "destination")
    refused(session.here("get", url, "-d", "../eve"), 1, "destination")


def test_without_roots_a_directory_is_needed(session: Session) -> None:
    session.authorize()
    url = session.origin.add("/a", Resource(size=1000, seed=7))
    refused(session.here("get", url), 2, "invalid_directory")
    assert "choose an absolute one with -d" in session.here("get", url).err
    refused(session.here("add", url, "-d", "~/x"), 2, "whole path on the daemon's machine")


# -- not let in


def test_who_is_not_let_in(session: Session) -> None:
    refused(session.here("ls"), 2, "fetchd keys generate")
    line = session.here("keys", "generate").out.split()
    refused(session.here("ls"), 7, f"fetchd keys authorize NAME '{line[1]}'")
    assert session.there("keys", "authorize", "ada", line[1]).code == 0
    assert session.here("ls").code == 0
    refused(session.here("ls", "--server-key", line[1]), 7, "is not the daemon with the key")
    refused(session.here("ls", "--server-key", "abc"), 2, "40 characters")
    refused(session.here("ls", "--key", "other"), 2, "fetchd keys generate")
    refused(session.stranger("ls", "--socket", session.endpoint), 2, "fetchd keys show")
    (session.home / "fetchd" / "keys" / "default.key").chmod(0o644)
    refused(session.here("ls"), 2, "others may read it")


def test_an_error_for_scripts(session: Session) -> None:
    session.here("keys", "generate")
    done = session.here("ls", "--json")
    assert done.code == 7
    assert json.loads(done.err)["error"]["code"] == "denied"


def test_a_revoked_key(session: Session) -> None:
    session.authorize()
    other = session.authorize("ada", key="second")
    url, gate = session.held("held")
    getting = session.here.begin("get", url, "-d", str(session.downloads), "--id", "held")
    getting.until("held: running")
    session.half_way("held")
    with session.client() as client:
        assert client.get("held").state is State.RUNNING
        public = keys.read_secret(session.home / "fetchd" / "keys" / "default.key").public
        assert session.there("keys", "revoke", public).code == 0
        with pytest.raises(FetchdError) as caught:
            client.stats()
        assert caught.value.code is Code.DENIED
    done = getting.end(20)  # sooner than a `wait` would be answered by itself
    assert done.code == 7, done
    assert "denied" in done.err
    refused(session.here("ls"), 7, "does not know this key")
    (job,) = session.here("ls", "--key", "second", "--json").json()  # of the same person
    assert job["state"] == "running"
    gate.open()
    assert session.here("wait", "held", "--key", "second").code == 0
    assert session.there("keys", "revoke", other).code == 0
    refused(session.here("ls", "--key", "second"), 7, "does not know this key")


# -- what is of one machine alone


def test_a_daemon_that_does_not_listen(daemon: DaemonProcess, downloads: Path) -> None:
    refused(Fetchd(daemon.env, downloads)("keys", "show"), 1, 'listen = "tcp://HOST:PORT"')


def test_what_does_not_work_from_afar(session: Session) -> None:
    session.authorize()
    for command in (["daemon", "start"], ["daemon", "logs"]):
        refused(session.here(*command), 2, "on its own machine")
    refused(session.here("daemon", "stop"), 7, "admin")
    refused(session.here("daemon", "reload"), 7, "admin")


def test_an_admin_stops_it_from_afar(session: Session) -> None:
    session.authorize("root", "--admin")
    assert session.here("daemon", "status", "--json").json()["pid"] == session.daemon.pid
    done = session.here("daemon", "stop")
    assert done.code == 0, done
    assert "which has to be started there" in done.err
    assert session.daemon.wait() == 0
    refused(session.here("ls"), 3, "no daemon answers at tcp://")
    assert "hint" not in session.here("ls").err


def test_a_workspace_from_afar(session: Session) -> None:
    session.authorize()
    url, gate = session.held("held")
    session.here("add", url, "-d", str(session.downloads), "--id", "held")
    session.half_way("held")
    done = session.here("workspace", "path", "held")
    assert Path(done.out.strip()).is_dir()
    assert "on the daemon's machine" in done.err
    gate.open()
    assert session.here("wait", "held").code == 0
