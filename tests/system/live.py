"""The shipped units under a real systemd: `python -m tests.system.live` (root).

Boots a machine in namespaces (`booted`), installs fetchd there as its administrator would, and uses it as a
member of the group. Prints what was seen, and exits with 1 where a promise is broken.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from support.content import sha256_of
from support.daemon import SANDBOX
from support.gate import Gate
from support.origin import Origin, Resource
from support.wait import read_line

from fetchd.protocol import journal

from .booted import SEARCH, Booted, why_not
from .installation import install

FETCHD, PYTHON = "/opt/fetchd/bin/fetchd", "/opt/fetchd/bin/python"
SIZE, HALF, SEED = 6_000_000, 3_000_000, 7
ALICE, STRANGER = "alice", "mallory"
SETTINGS = """
sandbox = "{sandbox}"
roots = ["/srv/fetchd", "/srv/more/{{user}}"]
allow_private = true
allow_ports = [{port}]
"""

EXPECTED = ("the configuration stays as it was", "died: ")
"""Warnings that are provoked here."""

BEGIN = """
import sys
from fetchd.client import Client
url, name, half = sys.argv[1:]
with Client(socket="/run/fetchd/control", timeout=20) as client:
    job = client.submit(url, directory="/srv/fetchd", name=name, id=name)
    for event in job.events():
        if event.snapshot is not None and event.snapshot.bytes >= int(half):
            break
"""
"""Submit a job and wait until it has got half-way."""

MEASURED = """
import sys
import zmq
from fetchd.client import Client
with Client(socket="/run/fetchd/control", timeout=20) as client, zmq.Context() as context:
    news = context.socket(zmq.SUB)
    news.setsockopt(zmq.RCVTIMEO, 15_000)
    news.connect("ipc:///run/fetchd/events")
    news.subscribe(b"sys.metrics")
    while not any(worker.job == sys.argv[1] and worker.memory for worker in client.status().workers):
        news.recv_multipart()
    news.close(0)
"""
"""Wait until the worker of a job has been measured."""


class Live:
    """The machine and its origin, and what is looked at, in this order. Each look returns what it saw."""

    def __init__(self, machine: Booted, origin: Origin) -> None:
        self.machine = machine
        self.origin = origin

    # what is done

    def fetchd(self, *arguments: str, user: str | None = None, code: int = 0) -> str:
        """The command, as root or as a user."""
        return self.machine.run(FETCHD, *arguments, user=user, code=code).stdout

    def configure(self, *lines: str) -> None:
        """Write the configuration: the usual settings and some more."""
        usual = SETTINGS.format(port=self.origin.port, sandbox=SANDBOX)
        self.machine.write("/etc/fetchd/fetchd.toml", "\n".join([usual, *lines]))

    def begin(self, name: str) -> Gate:
        """A job of alice that has got half-way and is held there, the first time."""
        gate = self.origin.gate()
        resource = Resource(size=SIZE, seed=SEED, etag='"e"')
        url = self.origin.add(f"/{name}", resource, "hold", times=1, after=HALF, gate=gate)
        self.machine.run(PYTHON, "-c", BEGIN, url, name, str(HALF), user=ALICE)
        return gate

    def resumed(self, name: str) -> str:
        """A job that was interrupted half-way asks for the rest alone; the file is right."""
        self.origin.wait_for(lambda: len(self.origin.requests_for(f"/{name}")) > 1, 30)
        ranges = [request.range for request in self.origin.requests_for(f"/{name}")]
        assert ranges == [None, f"bytes={HALF}-"], ranges
        self.finished(name)
        return f"resumed at byte {HALF}"

    def finished(self, name: str) -> None:
        """A job of alice comes to its end, and the file is right."""
        self.fetchd("wait", "--system", name, user=ALICE)
        told = self.machine.run("sha256sum", f"/srv/fetchd/{name}", user=ALICE).stdout
        assert told.split()[0] == sha256_of(SIZE, SEED), "it has a wrong content"

    def service(self, *names: str) -> list[str]:
        """Properties of the service."""
        found = self.machine.properties("fetchd.service", *names)
        return [found[name] for name in names]

    def heard(self, text: str) -> None:
        """Wait until the daemon has said this in the journal."""
        command = self.machine.command("journalctl", "-f", "-n", "all", "-o", "cat", "-u", "fetchd.service")
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": SEARCH}) as journal:
            assert journal.stdout is not None
            told = b""
            try:
                while text.encode() not in told:
                    piece = read_line(journal.stdout.fileno(), 20, f"{text!r} in the journal")
                    assert piece, f"the journal ended: {told!r}"
                    told += piece
            finally:
                journal.kill()

    # what is promised

    def installs(self) -> str:
        """`fetchd daemon install --system --now` makes it a service that runs"""
        self.configure("workers = 3")
        for user in (ALICE, STRANGER):
            self.machine.run("useradd", "--create-home", user)
        self.machine.run("mkdir", "--mode=1777", "/srv/more")
        self.fetchd("daemon", "install", "--system", "--now")
        self.machine.run("usermod", "--append", "--groups", "fetchd", ALICE)
        names = ("ActiveState", "User", "TasksMax", "MemoryMax", "WatchdogUSec", "NRestarts")
        found = self.service(*names)
        assert found == ["active", "fetchd", "304", str(5 * 512 << 20), "30s", "0"], found
        return f"{', '.join(found)}; {self.service('StatusText')[0]}"

    def downloads(self) -> str:
        """a member of the group downloads files below each root, and nobody else gets near"""
        url = self.origin.add("/first", Resource(size=SIZE, seed=SEED))
        asked = ("--id", "first", "--segments", "4", "--checksum", f"sha256:{sha256_of(SIZE, SEED)}")
        self.fetchd("get", "--system", *asked, "-d", "/srv/fetchd", url, user=ALICE)
        self.finished("first")
        for directory, mode in (("/srv/fetchd/new", "drwxr-s---"), (f"/srv/more/{ALICE}", "drwxr-x---")):
            self.fetchd("get", "--system", "-d", directory, url, user=ALICE)
            self.machine.run("cmp", "/srv/fetchd/first", f"{directory}/first", user=ALICE)
            made = self.machine.run("stat", "-c", "%A %U:%G", directory).stdout.strip()
            assert made == f"{mode} fetchd:fetchd", made
        found = self.machine.run("stat", "-c", "%A %U:%G", "/srv/fetchd/first").stdout.strip()
        assert found == "-rw-r----- fetchd:fetchd", found
        self.machine.run("cat", "/srv/fetchd/first", user=STRANGER, code=1)
        refused = self.machine.run(FETCHD, "ls", "--system", user=STRANGER, code=None)
        assert refused.returncode != 0, refused
        assert "first" not in refused.stdout, refused
        return f"{found}; to others: {refused.stderr.strip()}"

    def shows(self) -> str:
        """`daemon status` has the layers of the sandbox, and the memory of a worker under ProtectProc"""
        self.gate = self.begin("second")
        self.machine.run(PYTHON, "-c", MEASURED, "second")
        status = json.loads(self.fetchd("daemon", "status", "--system", "--json", user=ALICE))
        layers = status["sandbox"]
        assert SANDBOX != "required" or set(layers.values()) == {"on"}, layers
        (worker,) = [worker for worker in status["workers"] if worker["job"] == "second"]
        assert 1 << 20 < worker["memory"] < 512 << 20, worker
        told = ", ".join(f"{layer} {found}" for layer, found in layers.items())
        return f"{told}; worker {worker['memory'] >> 10} KiB"

    def knows_the_boot(self) -> str:
        """the ID of this boot is read, and in the frontier of a running download"""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (path,) = self.machine.root.glob("srv/fetchd/.fetchd/*/rooms/**/frontier")
        frontier = journal.read(path.read_bytes())
        assert frontier is not None
        assert frontier.boot_id.replace("-", "") == boot.replace("-", ""), (frontier.boot_id, boot)
        return boot

    def stops(self) -> str:
        """`systemctl stop` drains"""
        self.machine.run("systemctl", "stop", "fetchd.service")
        found = self.service("ActiveState", "Result", "ExecMainStatus")
        assert found == ["inactive", "success", "0"], found
        self.gate.open()
        return ", ".join(found)

    def is_activated(self) -> str:
        """a client wakes the daemon through fetchd.socket, and the download is resumed"""
        self.fetchd("ls", "--system", user=ALICE)
        found = self.service("ActiveState", "TriggeredBy")
        assert found == ["active", "fetchd.socket"], found
        return self.resumed("second")

    def reloads(self) -> str:
        """`systemctl reload` brings other settings into force, and a bad file changes nothing"""
        before = self.service("MainPID")
        self.configure("workers = 2")
        self.machine.run("systemctl", "reload", "fetchd.service")
        self.heard("changed: workers")
        slots = json.loads(self.fetchd("stats", "--system", "--json", user=ALICE))["slots"]
        assert slots["total"] == 2, slots
        for bad, why in (
            ("workers = 'none'", "Expected `int`"),
            ("group = 'root'", "a group that the daemon is in"),
        ):
            self.configure(bad)
            self.machine.run("systemctl", "reload", "fetchd.service")
            self.heard(why)
        self.configure("workers = 2")
        self.fetchd("ls", "--system", user=ALICE)
        assert self.service("MainPID") == before
        return f"workers {slots['total']}"

    def has_its_key(self) -> str:
        """a key in /etc/credstore is handed to the daemon, and none was no fault until now"""
        self.machine.write("/etc/credstore/fetchd-server-key", "key")
        (self.machine.root / "etc/credstore/fetchd-server-key").chmod(0o600)
        drop_in = "[Service]\nWatchdogSec=2\n"
        self.machine.write("/etc/systemd/system/fetchd.service.d/test.conf", drop_in)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "restart", "fetchd.service")
        key = "/run/credentials/fetchd.service/fetchd-server-key"
        assert self.machine.run("cat", key, user="fetchd").stdout == "key"
        self.machine.run("cat", key, user=ALICE, code=1)
        return key

    def is_watched(self) -> str:
        """a daemon that hangs is killed by the watchdog and started again, and the download is resumed"""
        gate = self.begin("third")
        self.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "fetchd.service")
        seen = self.resumed("third")
        gate.open()
        self.heard("Watchdog timeout")
        (restarts,) = self.service("NRestarts")
        assert int(restarts) == 1, restarts
        return f"{restarts} restart, {seen}"

    def survives_a_worker(self) -> str:
        """a worker that dies is told to the journal with fields of its own, and its download is resumed"""
        gate = self.begin("fourth")
        status = json.loads(self.fetchd("daemon", "status", "--system", "--json", user=ALICE))
        (worker,) = [worker for worker in status["workers"] if worker["job"] == "fourth"]
        self.machine.run("kill", "-KILL", str(worker["pid"]))
        self.resumed("fourth")
        gate.open()
        (told,) = self.told("JOB=fourth")
        found = {name: told[name] for name in ("JOB", "WORKER", "ATTEMPT", "PRIORITY", "MESSAGE")}
        assert told["SYSLOG_IDENTIFIER"] == "fetchd", told
        assert found["PRIORITY"] == "4", told
        return ", ".join(f"{name}={value}" for name, value in found.items())

    def says_nothing_else(self) -> str:
        """nothing else was wrong in all this: no traceback, no system call denied, no backup failed"""
        stray = [one["MESSAGE"] for one in self.told("SYSLOG_IDENTIFIER=python")]
        assert stray == [], "\n".join(stray)
        warned = [one["MESSAGE"] for one in self.told("SYSLOG_IDENTIFIER=fetchd") if one["PRIORITY"] < "6"]
        unknown = [message for message in warned if not any(known in message for known in EXPECTED)]
        assert unknown == [], unknown
        backups = list(self.machine.root.glob("var/lib/fetchd/backups/*.db"))
        assert backups, "there is no backup"
        return f"{len(warned)} warnings, all of them meant; {len(backups)} backups"

    def told(self, match: str) -> list[dict[str, str]]:
        """What the journal has of the service, entry by entry."""
        self.machine.run("journalctl", "--sync")
        lines = self.machine.run("journalctl", "-u", "fetchd.service", "-o", "json", match).stdout
        return [json.loads(line) for line in lines.splitlines()]

    def uninstalls(self) -> str:
        """`fetchd daemon uninstall --system --now` takes the units away, and neither state nor downloads"""
        self.fetchd("daemon", "uninstall", "--system", "--now")
        (found,) = self.service("LoadState")
        assert found == "not-found", found
        for place in ("etc/systemd/system", "etc/sysusers.d", "etc/tmpfiles.d"):
            left = [path.name for path in (self.machine.root / place).rglob("*fetchd*")]
            assert left in ([], ["fetchd.service.d"]), left
        for kept in ("var/lib/fetchd/fetchd.db", "srv/fetchd/third"):
            assert (self.machine.root / kept).is_file(), kept
        self.fetchd("ls", "--system", user=ALICE, code=3)
        return found

    def serves_its_user(self) -> str:
        """`fetchd daemon install --user --now` makes a daemon of alice's own, under her own systemd"""
        uid = self.machine.run("id", "-u", ALICE).stdout.strip()
        self.machine.run("systemctl", "start", f"user@{uid}.service")

        def alice(*arguments: str) -> str:
            at = ("env", f"XDG_RUNTIME_DIR=/run/user/{uid}")
            return self.machine.run(*at, *arguments, user=ALICE).stdout

        alice(FETCHD, "daemon", "install", "--user", "--now")
        url = self.origin.add("/own", Resource(size=SIZE, seed=SEED))
        alice(FETCHD, "get", "--no-start", "-d", f"/home/{ALICE}", url)
        assert alice("sha256sum", f"/home/{ALICE}/own").split()[0] == sha256_of(SIZE, SEED)
        alice("systemctl", "--user", "reload", "fetchd.service")
        found = alice("systemctl", "--user", "show", "fetchd.service", "-p", "ActiveState,StatusText")
        # systemctl does not wait for the end of the reload, which the daemon tells
        assert re.search("^ActiveState=(active|reloading)$", found, re.MULTILINE), found
        alice(FETCHD, "daemon", "uninstall", "--user", "--now")
        assert not list(self.machine.root.glob(f"home/{ALICE}/.config/systemd/user/**/fetchd*"))
        return ", ".join(found.split("\n")).rstrip(", ")


LOOKS: tuple[Callable[[Live], str], ...] = (
    Live.installs, Live.downloads, Live.shows, Live.knows_the_boot, Live.stops, Live.is_activated,
    Live.reloads, Live.has_its_key, Live.is_watched, Live.survives_a_worker, Live.says_nothing_else,
    Live.uninstalls, Live.serves_its_user,
)  # fmt: skip


def look() -> int:
    """Boot, look at everything, and print it. The exit status."""
    with ExitStack() as end:
        machine = Booted()
        end.callback(machine.close)
        install(machine.root)
        machine.boot()
        # its loopback is up from here on
        live = Live(machine, end.enter_context(Origin()))
        for one in LOOKS:
            try:
                print(f"ok      {one.__doc__}: {one(live)}", flush=True)
            except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
                print(f"BROKEN  {one.__doc__}: {type(error).__name__}: {error}\n\n{journal_of(machine)}")
                return 1
    return 0


def journal_of(machine: Booted) -> str:
    """The end of the machine's journal."""
    return machine.run("journalctl", "-b", "--no-pager", "-n", "50", code=None).stdout


def main() -> int:
    """Look in namespaces of our own; 2 where there can be none here."""
    if (why := why_not()) is not None:
        print(f"not here: {why}")
        return 2
    if "--inside" not in sys.argv:
        inside = ["unshare", "--mount", "--net", sys.executable, "-m", "tests.system.live", "--inside"]
        os.execvp(inside[0], inside)
    return look()


if __name__ == "__main__":
    sys.exit(main())
