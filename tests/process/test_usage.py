"""What workers take: shown, published, and bounded."""

from pathlib import Path

import zmq
from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource

from fetchd.protocol.codec import decode
from fetchd.protocol.events import METRICS, Metrics
from fetchd.protocol.frames import sys_topic
from fetchd.protocol.job import State
from fetchd.protocol.status import Slots

SIZE = 3_000_000


def published(endpoint: str) -> Metrics:
    """The next event about what workers take."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        socket.subscribe(sys_topic(METRICS))
        socket.connect(endpoint)
        return decode(socket.recv_multipart()[2], Metrics)


def test_a_worker_over_its_memory_is_ended_and_its_job_tried_again(
    make_daemon: type[DaemonProcess], origin: Origin, downloads: Path
) -> None:
    daemon = make_daemon({"FETCHD_WORKER_MEMORY": "1000000"}).start()
    url = origin.add("/f", Resource(size=SIZE), "hold", times=1, after=1000, gate=origin.gate())
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.error is not None and s.error.code == "worker_memory")
        assert job.snapshot().state is not State.FAILED
        job.cancel()


def test_what_workers_take_is_in_the_status(daemon: DaemonProcess, origin: Origin, downloads: Path) -> None:
    gate = origin.gate()
    url = origin.add("/f", Resource(size=SIZE), "hold", after=1000, gate=gate)
    with daemon.client() as client:
        job = client.submit(url, directory=downloads)
        until(job, lambda s: s.bytes == 1000)
        body = published(daemon.endpoint.events)
        (worker,) = [worker for worker in client.status().workers if worker.job == job.id]
        gate.open()
        job.result(timeout=20)
    assert 1_000_000 < (worker.memory or 0) < 500_000_000
    assert worker.cpu is not None
    (usage,) = [usage for usage in body.workers if usage.job == job.id]
    assert (usage.slot, usage.pid, usage.connections) == (worker.slot, worker.pid, worker.connections)
    assert worker.connections
    assert {state: count for state, count in body.counts.items() if count} == {"running": 1}


def test_how_things_are_is_told_without_jobs_too(make_daemon: type[DaemonProcess]) -> None:
    daemon = make_daemon({"FETCHD_WORKERS": "3"}).start()
    body = published(daemon.endpoint.events)
    assert {usage.job for usage in body.workers} <= {None}
    assert (body.slots, body.held) == (Slots(total=3, free=3), [])
    assert set(body.counts) == set(State)
