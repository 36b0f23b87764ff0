"""What a test asks of a daemon's house: what lies in staging, who runs a job, when it has got somewhere."""

from collections.abc import Callable
from pathlib import Path

from fetchd.client import Client, Job
from fetchd.protocol.job import JobSnapshot
from fetchd.protocol.status import DaemonStatus

from .daemon import DaemonProcess
from .wait import Deadline, Watch


def staged(daemon: DaemonProcess) -> list[Path]:
    """Everything that lies in the workspaces and rooms of the state directory's staging area."""
    area = daemon.state / ".fetchd"
    found = [*area.glob("*/jobs/*"), *area.glob("*/rooms/*/*")]
    return [path for path in found if path.exists()]


def nothing_staged(daemon: DaemonProcess, timeout: float = 10.0) -> None:
    """Wait until nothing lies in the staging area: the supervisor cleans up behind its answers."""
    area = daemon.state / ".fetchd"
    with Watch(*area.glob("*/jobs"), *area.glob("*/rooms"), *area.glob("*/rooms/*")) as watch:
        watch.until(lambda: staged(daemon) == [], timeout, "an empty staging area")


def until(job: Job, wanted: Callable[[JobSnapshot], bool], timeout: float = 15.0) -> JobSnapshot:
    """The first snapshot of a job that is as wanted, pushed by its events."""
    deadline = Deadline(timeout)
    for event in job.events():
        deadline.left("the job to be as wanted")
        if event.snapshot is not None and wanted(event.snapshot):
            return event.snapshot
    snapshot = job.snapshot()
    assert wanted(snapshot), f"the job ended otherwise: {snapshot}"
    return snapshot


def worker_of(client: Client, job_id: str) -> int:
    """The process that runs a job now."""
    status: DaemonStatus = client.status()
    pids = [worker.pid for worker in status.workers if worker.job == job_id and worker.pid is not None]
    assert len(pids) == 1, f"{job_id} is run by {pids}"
    return pids[0]
