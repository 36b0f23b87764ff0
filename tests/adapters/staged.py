"""A staging area with jobs, for the tests of what the supervisor does with files."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fetchd.daemon.core.job import Job
from fetchd.daemon.supervise.workspace import Workspaces
from fetchd.protocol import journal
from fetchd.protocol.job import State
from fetchd.protocol.journal import Content, Journal
from fetchd.protocol.mailbox import Validator

from .store_jobs import job as plain_job

BOOT = "01234567-89ab-cdef-0123-456789abcdef"
CONTENT = b"the content of the file"
INSTANCE = "0123456789abcdef"


class House:
    """An area, one worker's room in it, and a directory to publish into."""

    def __init__(self, directory: Path, target: Path) -> None:
        self.area = directory / "area"
        self.room = self.area / "rooms" / "r"
        self.target = target
        self.workspaces = Workspaces(BOOT)
        for path in (self.area / "jobs", self.room):
            path.mkdir(parents=True)

    def job(self, **fields: Any) -> Job:
        """A running job that is to be `name` in the target directory."""
        values: dict[str, Any] = {
            "id": "job", "area": str(self.area), "directory": str(self.target), "name": "f", "umask": 0o022,
        }  # fmt: skip
        return plain_job(1, State.RUNNING, **{**values, **fields})

    def prepared(self, job: Job) -> Path:
        """Its workspace, in the room."""
        return Path(self.workspaces.prepare(job, str(self.room)).path)

    def sealed(self, content: bytes = CONTENT, **fields: Any) -> Job:
        """A job whose worker has finished, and whose file was taken from it."""
        job = self.job(**fields)
        (self.prepared(job) / "data").write_bytes(content)
        seal = self.workspaces.seal(job, len(content))
        return replace(job, state=State.PUBLISHING, size=seal.size, inode=seal.inode, mtime_ns=seal.mtime_ns)

    def data(self, job: Job) -> Path:
        """The sealed file in the staging area."""
        return self.area / "jobs" / job.id / "data"


def write_frontier(
    workspace: Path, end: int, *, boot: str = BOOT, generation: int = 0, etag: str = '"v1"', total: int = 100
) -> None:
    """What a worker notes."""
    path = workspace / "frontier"
    if not path.exists():
        path.write_bytes(journal.blank())
    fd = os.open(path, os.O_RDWR)
    made = Journal(fd, boot)
    made.begin(generation, Content(validator=Validator(etag=etag), total=total), ((0, end),))
    made.close()
    os.close(fd)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process has none left; those that are open go on working."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
