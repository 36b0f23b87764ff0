"""A computer whose power can be cut: its file systems, its daemon, the files it fetches, and who uses it."""

import ctypes
import os
import random
import shutil
import sqlite3
import threading
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import processes, volumes
from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.intercept import Call, Deed, Interceptor
from support.origin import Origin, Resource, Step
from support.tmp import TempDir
from support.volumes import Volume
from support.wait import IN_CREATE, IN_MOVED_TO, Watch

from fetchd.protocol.errors import FetchdError

from .onlooker import Witness

SIZE = 2 << 30
SIZES = (0, 1, 4096, 70_000, 700_000, 3_000_000)
LARGE = 20_000_000
RATE = 8_000_000
PATIENCE = 8.0
"""Seconds that a cut waits for its moment before it comes anyway."""

HONEST = ("plain", "paced")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYNCS = ("fsync", "fdatasync")
NAMES = ("rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class File:
    """One file that is to be fetched: under which name, of what content, from how good a server."""

    name: str
    size: int
    seed: int
    behaviour: str


class Moment:
    """The moment of a cut: the `number`-th call of a kind. Whoever makes it is held until the cut is over."""

    def __init__(self, without: tuple[str, str] | None) -> None:
        self._without = without
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._part = ""
        self._left = 0
        self.come = threading.Event()
        self.over = threading.Event()
        self.last = ""

    def arm(self, names: tuple[str, ...], part: str, number: int) -> None:
        """Wait for this from now on: the number-th of these calls on a path with that part."""
        with self._lock:
            self._names, self._part, self._left = names, part, number
            self.come.clear()
            self.over.clear()

    def decide(self, call: Call) -> Deed:
        """What becomes of a call."""
        with self._lock:
            meant = call.name in self._names and self._part in call.path
            self._left -= meant
            now = meant and self._left == 0
        if now:
            self.last = f"{call.name} {Path(call.path).name}"
            self.come.set()
            self.over.wait(60)
        name, part = self._without or ("", "")
        return Deed.SKIP if call.name == name and part in call.path else Deed.DO


class Machine:
    """A computer whose power can be cut: its file systems, its daemon, and the world around it."""

    def __init__(
        self, stack: ExitStack, apart: bool, rng: random.Random, without: tuple[str, str] | None
    ) -> None:
        self.rng = rng
        self.files: dict[str, File] = {}
        self.fetched: set[str] = set()
        self.base = stack.enter_context(TempDir())
        self.daemon = DaemonProcess()
        stack.callback(self.daemon.close)
        self.volumes = [Volume(self.base / "image", self.daemon.root / "disk", SIZE)]
        if apart:
            self.volumes.append(Volume(self.base / "image2", self.daemon.root / "disk2", SIZE))
        for volume in self.volumes:
            stack.callback(volume.unmount)
        self.state = self.daemon.state = self.volumes[0].point / "state"
        self.downloads = self.volumes[-1].point / "downloads"
        runtime = self.daemon.root / "run"
        # sockets are of this boot only, and a client has to find them under the same name after it
        self.daemon.env.update(FETCHD_STATE_DIR=str(self.state), FETCHD_RUNTIME_DIR=str(runtime))
        self.daemon.env.update(FETCHD_WORKERS="4", PYTHONDONTWRITEBYTECODE="1")
        self.moment = Moment(without)
        roots = [volume.point for volume in self.volumes]
        self.interceptor = Interceptor([*SYNCS, *NAMES], roots, self.moment.decide)
        stack.callback(self.interceptor.close)
        stack.callback(self.die)
        self.daemon.wrapper = self.interceptor.wrapper
        self.origin = stack.enter_context(Origin())
        self.boot = self.base / "boot_id"
        self.boot.write_text("")
        volumes.mount_over(self.boot, BOOT_ID)
        stack.callback(volumes.unmount, Path(BOOT_ID))
        self.mount()
        self.downloads.mkdir()
        self.start()
        self.witness = Witness(runtime / "control")
        stack.callback(self.witness.close)

    def mount(self) -> str:
        """Power comes back, to a machine that writes back sooner or later. Says how it is mounted."""
        options = f"commit={self.rng.choice((1, 5, 300))}"
        for volume in self.volumes:
            volume.mount(options + ",noauto_da_alloc")
        return options

    def start(self) -> None:
        """The next boot."""
        self.boot.write_text(f"{uuid.UUID(int=self.rng.getrandbits(128))}\n")
        self.daemon.start(60)

    def cut(self) -> None:
        """Everything ends at once.

        First nobody can say anything any more, and then nothing reaches the disks: a sync that is under way
        when a file system is shut down may return as if all were well, and no computer without power does.
        """
        fds = [volume.open() for volume in self.volumes]
        cutters = [threading.Thread(target=Volume.cut, args=(fd,)) for fd in fds]
        assert self.daemon.process is not None
        family = processes.descendants(self.daemon.process.pid) | {self.daemon.process.pid}
        if self.rng.random() < 0.8:
            self._write_back()
        processes.kill(family)
        for cutter in cutters:
            cutter.start()
        for cutter in cutters:
            cutter.join()
        for fd in fds:
            os.close(fd)
        self.die()
        for volume in self.volumes:
            volume.unmount()

    def _write_back(self) -> None:
        """What the kernel may do at any time: some pages of a file are written, and their metadata too."""
        for volume in self.volumes:
            found = [Path(top, "data") for top, _, names in os.walk(volume.point) if "data" in names]
            for path in found:
                with suppress(OSError), path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    for _ in range(3):
                        _sync_range(file.fileno(), self.rng.randrange(size + 1) & ~4095, 1 << 20)
            fd = os.open(volume.point / "scratch", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.write(fd, b"x")
            os.fsync(fd)
            os.close(fd)

    def die(self) -> None:
        """SIGKILL for the daemon and all its children."""
        self.moment.over.set()
        process, self.daemon.process = self.daemon.process, None
        while family := self.daemon.family():
            processes.kill(family)
            processes.await_end(family, 30)
        if process is not None:
            process.kill()
            process.wait()

    # work

    def order(self, count: int) -> None:
        """Submit so many more files, one in five of them a large one that takes seconds."""
        for _ in range(count):
            number = len(self.files)
            job = f"j{number}"
            size = LARGE if number % 5 == 0 else self.rng.choice(SIZES)
            kind = "paced" if size == LARGE else self.rng.choice(("plain", "cut", "chunked", "no_ranges"))
            file = self.files[job] = File(f"{job}.bin", size, number, kind)
            resource = Resource(size=size, seed=number)
            more: dict[str, Any] = {"rate": RATE} if kind == "paced" else {}
            if kind == "cut":
                steps = [Step(resource, "cut", after=size // 2), Step(resource)]
            else:
                steps = [Step(resource, kind, **more)]
            url = self.origin.script(f"/{job}", *steps)
            checksum = f"sha256:{sha256_of(size, number)}" if self.rng.random() < 0.5 else None
            self.witness.submit(
                url=url, id=job, directory=self.downloads / self.rng.choice("abc"), name=file.name,
                checksum=checksum,
            )  # fmt: skip

    def await_moment(self) -> str:
        """Wait for a moment by chance; says what it was."""
        rng, witness = self.rng, self.witness
        kind = rng.choice(("sync", "sync", "name", "name", "bytes", "bytes", "ack", "completed", "staged"))
        number = rng.randint(1, 8)
        with suppress(TimeoutError):
            if kind in ("sync", "name"):
                part = rng.choice(("", "/data", "/downloads"))
                self.moment.arm(SYNCS if kind == "sync" else NAMES, part, rng.randint(1, 15 if part else 60))
                if self.moment.come.wait(PATIENCE):
                    return f"before {self.moment.last}"
            elif kind == "bytes":
                seen, wanted = len(self.origin.requests), rng.randint(LARGE // 2, LARGE)
                self.origin.wait_for(
                    lambda: any(request.sent >= wanted for request in self.origin.requests[seen:]), PATIENCE
                )
                return f"{wanted} bytes of one file"
            elif kind == "staged":
                jobs = [path for volume in self.volumes for path in volume.point.rglob(".fetchd/*/jobs")][-1]
                self._entries(jobs, number)
                return f"{number} moves in jobs"
            else:
                acked = kind == "ack"
                have = len(witness.acked) if acked else len(witness.completed)
                witness.wait_for(have + number, acked=acked, timeout=PATIENCE)
                return f"{number} more {kind}"
        return f"{kind}: nothing came"

    @staticmethod
    def _entries(directory: Path, number: int) -> None:
        with Watch(directory, mask=IN_MOVED_TO | IN_CREATE) as watch:
            while number > 0:
                number -= len(watch.next(PATIENCE))

    # checks

    def check(self) -> list[str]:
        """What is wrong on the disks of a machine that does not run."""
        faults = []
        with TempDir() as copy:
            for path in self.state.glob("fetchd.db*"):
                shutil.copy(path, copy)
            rows, sound = _rows(copy / "fetchd.db")
        if sound != "ok":
            faults.append(f"the database is damaged: {sound}")
        with self.witness.changed:
            acked, told = list(self.witness.acked), set(self.witness.completed)
        faults += [f"{job} was acknowledged and is gone" for job in acked if job not in rows]
        faults += [
            f"{job} was completed and is {rows.get(job)}" for job in told if rows.get(job) != "completed"
        ]
        good = set()
        for path in self.downloads.rglob("*"):
            if path.is_file() and not self._hidden(path):
                job = path.stem
                file = self.files.get(job)
                if file is None or sha256_file(path) != sha256_of(file.size, file.seed):
                    faults.append(f"{path.name} has a wrong content ({path.stat().st_size} bytes)")
                else:
                    good.add(job)
        done = {job for job, state in rows.items() if state == "completed"} | told
        faults += [f"{job} is completed and its file is missing" for job in done - good - self.fetched]
        for job in done & good:
            # room for others; a later cut may bring it back
            self.fetched.add(job)
            for path in self.downloads.glob(f"*/{self.files[job].name}"):
                path.unlink()
        return faults

    def _hidden(self, path: Path) -> bool:
        return any(part.startswith(".fetchd") for part in path.relative_to(self.downloads).parts)

    def finish(self) -> list[str]:
        """The last daemon of all brings everything to its end; what is wrong then."""
        faults = []
        try:
            self.witness.wait_for(len(self.files), acked=True, timeout=60)
            self.witness.wait_for(len(self.files), acked=False, timeout=120)
        except TimeoutError as error:
            faults.append(f"not all came to their end: {error}")
            with suppress(FetchdError):
                faults += [
                    f"{job.id}: {job.last.state} {job.last.error}"
                    for job in self.witness.client.list()
                    if job.last is not None and job.last.state != "completed"
                ]
        self.daemon.terminate(30)
        faults += self.check()
        areas = [*self.state.glob(".fetchd/*"), *self.downloads.rglob(".fetchd*")]
        left = [path for area in areas for part in ("jobs", "rooms") for path in area.glob(f"{part}/*")]
        left += [path for path in self.downloads.rglob("*") if self._hidden(path)]
        return faults + [f"left behind: {path}" for path in left] + self.witness.errors

    def again(self) -> tuple[int, int]:
        """Bytes that honest servers sent more than once (what waited in sockets included), and how many
        requests went on from somewhere."""
        more = resumed = 0
        for job, file in self.files.items():
            requests = self.origin.requests_for(f"/{job}")
            if file.behaviour in HONEST:
                more += max(0, sum(request.sent for request in requests) - file.size)
            resumed += sum((request.range or "bytes=0-") != "bytes=0-" for request in requests)
        return more, resumed


def _sync_range(fd: int, start: int, length: int) -> None:
    """sync_file_range(2): write these pages, and wait for it."""
    _libc.sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(length), ctypes.c_uint(7))


def _rows(path: Path) -> tuple[dict[str, str], str]:
    """State by job, and what the integrity check says."""
    try:
        connection = sqlite3.connect(path)
        try:
            (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
            found = connection.execute("SELECT id, state FROM jobs UNION SELECT id, state FROM history")
            return dict(found), sound
        finally:
            connection.close()
    except sqlite3.Error as error:
        return {}, str(error)
