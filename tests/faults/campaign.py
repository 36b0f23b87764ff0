"""A kill campaign: a daemon at work, clients that want something all the time, and an assassin."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support import nginx as nginxes
from support import processes
from support.daemon import DaemonProcess
from support.look import staged
from support.nginx import Nginx
from support.tmp import TempDir

from fetchd.client import Client
from fetchd.protocol.job import JobSnapshot, State

from . import verdict
from .assassin import Assassin
from .bell import Bell, Listener
from .goods import Shop
from .ledger import Ledger
from .publications import Publications
from .traffic import Traffic
from .witness import Witness

CLIENTS = {"patient": (60.0, 1.0), "steady": (60.0, 5.0), "hasty": (0.4, 0.2)}
"""Their patience, and after how long they ask again, in seconds."""

SETTINGS = {"FETCHD_WORKERS": "4", "FETCHD_READ_TIMEOUT": "2", "FETCHD_LOG_LEVEL": "warning"}
TO_END = 300.0
"""Seconds within which everything has to come to its end once nobody is killed any more."""


@dataclass
class Report:
    """What a campaign was like. `wrong` are the faults it found, `stories` what happened to their jobs,
    `notes` what was left out."""

    seed: int
    seconds: float = 0.0
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    twice: tuple[int, int, int, int] = (0, 0, 0, 0)
    wrong: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)
    log: str = ""
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def quick_threads() -> Iterator[None]:
    """Let threads take turns fifty times as often as usual: a kill has to come right behind its event."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 50)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def other_mount(directory: Path) -> Iterator[Path]:
    """A file system of its own at a directory, as root; else the directory as it is."""
    directory.mkdir()
    if os.geteuid() != 0:
        yield directory
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def run(rounds: int, seed: int) -> Report:
    """A campaign of so many rounds. It raises nothing that the daemon is to blame for: see `Report.wrong`."""
    began = time.monotonic()
    chance, report, ledger, bell = random.Random(seed), Report(seed), Ledger(), Bell()
    with ExitStack() as stack:
        stack.enter_context(quick_threads())
        base = stack.enter_context(TempDir())
        places = [base / "near", stack.enter_context(other_mount(base / "far"))]
        places[0].mkdir()
        if os.geteuid() != 0:
            report.notes.append("not root: no destination on another file system")
        origin = Witness()
        stack.callback(origin.close)
        nginx = None
        if nginxes.find() is None:
            report.notes.append(nginxes.MISSING)
        else:
            nginx = Nginx(rate=400_000)
            stack.callback(nginx.close)
            nginx.start()
        publications = Publications(places, ledger.known)
        stack.callback(publications.close)
        daemon = stack.enter_context(DaemonProcess(SETTINGS)).start()
        socket = daemon.endpoint.control
        assassin = Assassin(daemon, origin, bell, chance)
        hearing = Client(socket=socket, timeout=60)
        listener = Listener(hearing, bell, ledger)
        clients = {
            name: stack.enter_context(Client(socket=socket, timeout=timeout, resend_after=again))
            for name, (timeout, again) in CLIENTS.items()
        }
        traffic = [
            Traffic(
                name,
                client,
                Shop(name, origin, nginx, random.Random(f"{seed} goods of {name}")),
                origin,
                places,
                ledger,
                bell,
                listener,
                seed,
            )
            for name, client in clients.items()
        ]
        try:
            for _ in range(rounds):
                if assassin.strike():
                    told = ledger.revision
                    assassin.start()
                    report.wrong += _forgotten(clients["patient"], told)
        finally:
            for each in traffic:
                each.stop()
            bell.silence()
            hearing.close()
            listener.join(60)
        report.kills, report.told, ledger.completed = assassin.kills, ledger.counts, listener.completed
        _judge(report, clients["patient"], daemon, ledger, publications, origin, places)
        report.log = daemon.log()[-20_000:]
        # the standard library's fork server traces when its supervisor is killed in mid-sentence: no fault
        faults = [line for line in daemon.log().splitlines() if "a fault in" in line]
        report.wrong += [f"logged: {line}" for line in faults]
    report.seconds = time.monotonic() - began
    return report


def _forgotten(client: Client, told: int) -> list[str]:
    """A new daemon knows every revision that an old one has told to anybody."""
    now = client.status().revision
    return [] if now >= told else [f"revision {told} was told to a client, the new daemon is at {now}"]


def _judge(
    report: Report, client: Client, daemon: DaemonProcess, ledger: Ledger, publications: Publications,
    origin: Witness, places: list[Path],
) -> None:  # fmt: skip
    """Look at pauses, let everything come to its end, and look at everything."""
    wrong = report.wrong
    wrong += verdict.held(client, ledger)
    ids = list(client.find(ledger.entries))
    _finish(client, ids)
    found = client.find(ids)
    publications.close()
    origin_faults = [*origin.overlaps, *origin.errors]
    wrong += [*ledger.wrong, *publications.wrong, *origin_faults]
    wrong += verdict.jobs(found, ledger)
    wrong += verdict.delivered(found, ledger, publications, places)
    report.ends = Counter(map(_end, found.values()))
    report.ends["not taken"] = len(ledger.entries) - len(found)
    report.twice = verdict.fetched_twice(found, ledger, origin)
    _, size, beyond, under_way = report.twice
    if size >= verdict.ENOUGH and beyond - under_way > verdict.MOST_TWICE * size:
        wrong.append(f"{beyond - under_way} of {size} bytes were fetched twice")
    report.stories = _stories(client, ledger, wrong)
    client.remove(all=True)
    daemon.terminate()
    wrong += _survivors(daemon)
    wrong += [f"left in the staging area: {path}" for path in staged(daemon)]
    wrong += [f"left at the destination: {path}" for place in places for path in place.glob(".*")]


def _survivors(daemon: DaemonProcess) -> list[str]:
    """Processes that are left behind the daemon; they are ended."""
    try:
        daemon.wait_all_gone()
    except TimeoutError as error:
        processes.kill(daemon.family())
        return [str(error)]
    return []


def _finish(client: Client, ids: list[str]) -> None:
    """Nobody is killed any more: every job comes to its end. What waits need not wait."""
    client.resume(ids)
    deadline = time.monotonic() + TO_END
    with client.follow(ids, deadline=deadline) as follower:
        while follower.live:
            for event in follower.step_before_deadline():
                if event.snapshot is not None and event.snapshot.state is State.WAITING:
                    client.retry([event.snapshot.id])


def _end(snapshot: JobSnapshot) -> str:
    if snapshot.error is not None and snapshot.state is State.FAILED:
        return f"{snapshot.state}: {snapshot.error.code}"
    return f"{snapshot.state}{f' ({snapshot.reason})' if snapshot.reason else ''}"


def _stories(client: Client, ledger: Ledger, wrong: list[str]) -> list[str]:
    """Everything that happened to jobs with something wrong, as their clients and the daemon have it."""
    blamed = [job_id for job_id in ledger.entries if any(_names(line, job_id) for line in wrong)][:10]
    if not blamed:
        return []
    stories = [str(ledger.entries[job_id]) for job_id in blamed]
    for past in client.events(0, follow=False):
        if past.job in blamed:
            stories.append(f"{past.revision} {past.job} {past.type} {past.snapshot}")
    return stories


def _names(line: str, job_id: str) -> bool:
    """Whether a fault is about a job."""
    return job_id in line.replace(":", " ").replace(",", " ").replace(".", " ").replace("/", " ").split()
