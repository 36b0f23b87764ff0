"""What supervisor and workers do to the model of a disk, in the order in which the real ones do it.

`MUTANTS` are orders that lose or mix bytes: each of them has to be found by the histories.
"""

from dataclasses import dataclass
from random import Random

from fetchd.daemon.core.job import Job, Ranges
from fetchd.protocol.job import State

from .disk_model import Disk, File

SIZE = 4 << 20
BLOCKS = 8
BLOCK = SIZE // BLOCKS

MUTANTS = ("early", "unsealed", "unnamed", "rebooted", "deaf", "trusting")
"""Synced is reported before the sync; a file is not synced when it is sealed; its directory is not when it is
published; a frontier of another boot is trusted; a failed sync is not heard; the frontier stands after a
failed sync."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """What a frontier file says."""

    boot: int
    generation: int
    ranges: Ranges
    etag: str | None


@dataclass(slots=True)
class Place:
    """What a worker gets of a job's workspace. `have` may be kept, of the content `etag`."""

    owner: "Workspaces"
    disk: Disk
    data: File
    frontier: File
    have: Ranges
    etag: str | None
    mutant: str | None

    def note(self, generation: int, ranges: Ranges, etag: str | None) -> None:
        """Write the frontier file."""
        self.frontier.note = Frontier(self.disk.boot, generation, ranges, etag)
        self.owner.written[self.data.number] = self.disk.boot, generation, blocks(ranges)

    def distrust(self) -> None:
        """A sync has failed: what the frontier says is not so."""
        self.frontier.note = None
        self.owner.written.pop(self.data.number, None)

    def forge(self) -> None:
        """The worker lies about the file: what is delivered then is its own."""
        self.owner.forged.add(self.data.number)


def blocks(ranges: Ranges) -> set[int]:
    return {block for start, end in ranges for block in range(start // BLOCK, end // BLOCK)}


class Workspaces:
    """All workspaces of a staging area, what was published, and the source of every job."""

    def __init__(self, rng: Random, mutant: str | None = None) -> None:
        self.rng = rng
        self.disk = Disk()
        self.mutant = mutant
        self.versions: dict[str, int] = {}
        self._rooms: dict[str, str] = {}
        self._owners: dict[int, int] = {}
        self.forged: set[int] = set()
        self.written: dict[int, tuple[int, int, set[int]]] = {}

    def etag(self, job: Job) -> str:
        """What the source calls its content now."""
        return f'"v{self.versions.setdefault(job.id, 1)}"'

    def trouble(self) -> None:
        """A source changes, memory is short, the kernel writes back what is dirty or fails to."""
        rng = self.rng
        for job_id in self.versions:
            if rng.random() < 0.3:
                self.versions[job_id] += 1
        self.disk.evict(rng)
        for path, file in self.disk.names.items():
            if not path.startswith("/"):
                file.write_back(rng, 0.5)
                if path.endswith("/data") and rng.random() < 0.1:
                    file.lose(rng)

    # supervise/workspace.py

    def prepare(self, job: Job, room: str) -> Place | None:
        """Make the workspace or find out what may be kept of it, and move it into the room.

        None where synced bytes are not there: then the job has to begin with another generation.
        """
        here = self._rooms.get(job.id) or f"jobs/{job.id}"
        data, frontier = self.disk.make(f"{here}/data"), self.disk.make(f"{here}/frontier")
        have, etag = self._kept(job, data, frontier)
        if any(end > len(data.cache) * BLOCK for _, end in have):
            return None
        if blocks(have) and data.number in self._owners:
            assert self._owners[data.number] == job.seq, f"{job.id} goes on from the bytes of another job"
        self._owners[data.number] = job.seq
        self._move(here, f"{room}/{job.id}")
        self._rooms[job.id] = f"{room}/{job.id}"
        self._check_kept(job, data, have)
        return Place(self, self.disk, data, frontier, have, etag, self.mutant)

    def _kept(self, job: Job, data: File, frontier: File) -> tuple[Ranges, str | None]:
        note = frontier.note
        have, etag = job.synced, job.etag
        if (
            isinstance(note, Frontier)
            and note.generation == job.generation
            and (note.boot == self.disk.boot or self.mutant == "rebooted")
        ):
            have, etag = note.ranges, note.etag
        return have, etag

    def _check_kept(self, job: Job, data: File, have: Ranges) -> None:
        """What a process crash does not lose is kept; after a power cut, what was said to be synced."""
        boot, generation, written = self.written.get(data.number, (0, 0, set()))
        expected = written if (boot, generation) == (self.disk.boot, job.generation) else blocks(job.synced)
        assert expected <= blocks(have), f"{job.id} is fetched again: {expected - blocks(have)}"

    def seal(self, job: Job, size: int, *, bad: bool = False) -> tuple[int, int, int] | None:
        """Take a finished file and sync it: what identifies it, or None where that does not work."""
        home = f"jobs/{job.id}"
        if (room := self._rooms.pop(job.id, None)) is not None:
            self._move(room, home)
        data = self.disk.names[f"{home}/data"]
        if len(data.cache) * BLOCK != size:
            return None
        if bad:
            data.lose(self.rng)
        if self.mutant != "unsealed" and not self.disk.sync(data) and self.mutant != "deaf":
            if self.mutant != "trusting":
                self.disk.remove(f"{home}/frontier")
                self.written.pop(data.number, None)
            return None
        return size, data.number, data.number

    def clean(self, job: Job) -> None:
        for here in (self._rooms.pop(job.id, None), f"jobs/{job.id}"):
            if here is not None:
                self.disk.remove(f"{here}/data", f"{here}/frontier")

    def sweep(self, wanted: set[str]) -> None:
        """All workers are dead: workspaces come home, and those that no job can have are deleted."""
        self._rooms.clear()
        for path in list(self.disk.names):
            place, _, rest = path.rpartition("/")
            where, _, job_id = place.rpartition("/")
            if where.startswith("rooms/") and rest == "data":
                if f"jobs/{job_id}/data" in self.disk.names:
                    self.disk.remove(path, f"{place}/frontier")
                else:
                    self._move(place, f"jobs/{job_id}")
        for path in list(self.disk.names):
            part = path.split("/")
            if part[0] == "rooms" or (part[0] == "jobs" and part[1] not in wanted):
                self.disk.remove(path)

    def _move(self, old: str, new: str) -> None:
        if old != new:
            self.disk.move({f"{old}/{name}": f"{new}/{name}" for name in ("data", "frontier")})

    @property
    def left(self) -> set[str]:
        """The jobs that have one."""
        return {path.split("/")[-2] for path in self.disk.names if path.startswith(("jobs/", "rooms/"))}

    # supervise/publish.py

    def publish(self, job: Job) -> str:
        """`published`, `exists` or `lost`."""
        path, source = str(job.path), f"jobs/{job.id}/data"
        data, there = self.disk.names.get(source), self.disk.names.get(path)
        if data is not None and data.number == job.inode:
            if there is not None and job.if_exists != "overwrite":
                return "exists"
            self.disk.move({source: path})
        elif there is None or there.number != job.inode:
            return "lost"
        if self.mutant != "unnamed":
            self.disk.sync_directory(path.rpartition("/")[0])
        return "published"

    # what is to hold

    def check(self, jobs: dict[str, Job]) -> None:
        """Under final names are whole files of one version, synced; those of completed jobs are there."""
        for names in (self.disk.names, self.disk.durable):
            for path, file in names.items():
                if path.startswith("/") and file.number not in self.forged:
                    whole = len(file.disk) == BLOCKS and len(set(file.disk)) == 1 and file.disk[0] > 0
                    assert whole, f"{path} is not whole: {file.disk}, job {self._owners[file.number]}"
        for job in jobs.values():
            if job.state is State.COMPLETED and job.reason is None:
                assert str(job.path) in self.disk.durable, (
                    f"{job.id} is completed, and its name is not synced"
                )

    def power_cut(self) -> None:
        self.disk.power_cut(self.rng)
