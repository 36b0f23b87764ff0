"""A scripted daemon: a ROUTER and an XPUB on real ipc sockets, in a thread, with jobs that change when told.

It speaks the wire of SPEC.md as far as a client can see it, and can be told to lose requests, answers and
events. A `Store` outlives it, as the database does.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq
from msgspec.structs import replace

from fetchd.protocol import codec, control
from fetchd.protocol.events import HEARTBEAT, EventHeader, Heartbeat, Progress
from fetchd.protocol.frames import job_topic, sys_topic
from fetchd.protocol.job import TERMINAL, JobError, JobSnapshot, State
from fetchd.protocol.paths import Endpoint, endpoint_file
from fetchd.protocol.version import PROTOCOL

from .tcp import Tcp

VERBS: dict[type[control.Verb], State] = {
    control.Cancel: State.CANCELLED, control.Pause: State.PAUSED, control.Resume: State.QUEUED,
    control.Retry: State.QUEUED,
}  # fmt: skip

WORKSPACES = [
    control.WorkspaceInfo(job="abc1", path="/s/jobs/abc1", bytes=10, age=5.0, state=State.FAILED),
    control.WorkspaceInfo(job="abd2", path="/s/jobs/abd2", bytes=1 << 20, age=99.0, state=None),
]

TIME = 1_795_190_400_000_000


def snapshot(job_id: str, **fields: Any) -> JobSnapshot:
    """A queued job, but for `fields`."""
    values: dict[str, Any] = {
        "id": job_id, "owner": "uid:1", "state": State.QUEUED, "reason": None, "url": f"http://h/{job_id}.iso",
        "path": None,
        "workspace": None, "options": {}, "group": None, "labels": {}, "priority": 0, "bytes": 0,
        "total": None, "speed": None, "eta": None, "attempt": 0, "error": None, "checksum": None,
        "created": TIME, "started": None, "finished": None, "not_before": None, "bytes_wasted": 0,
        "revision": 1, "seq": 0,
    }  # fmt: skip
    return JobSnapshot(**{**values, **fields})


class Thread(threading.Thread):
    """A call in another thread, and what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self.call = call
        self.value: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.call()
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        self.join(15)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.value


class Store:
    """What survives a restart: the jobs, the newest revision, and the replies to repeated requests."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobSnapshot] = {}
        self.revision = 0
        self.replies: dict[str, msgspec.Struct] = {}
        self.submits = 0
        self.record: list[control.PastEvent] = []
        self.kept_from = 0  # what happened up to this revision is not in the record any more
        self.lineage = "l"
        self.limits: dict[str, int] = {}  # by host; "" is everything together


class Peer:
    """One life of the daemon. Close it; closing breaks the connections as a crash does."""

    def __init__(
        self, state: Path, store: Store, epoch: str = "e1", name: str = "c", tcp: Tcp | None = None
    ) -> None:
        self.store = store
        self.epoch = epoch
        self.lose: Counter[str] = Counter()  # by request type: how many to ignore
        self.requests: list[tuple[str, str, msgspec.Struct]] = []  # (type, req, body), the ignored ones too
        self.subscriptions: set[bytes] = set()
        self.refuse: dict[str, control.ErrorBody] = {}
        self.held: list[tuple[bytes, control.RequestHeader, control.Wait]] = []
        self.mute_waits = False
        self.page = 2  # events in one answer, so that there are several
        self._changed = threading.Condition()
        self._tasks: list[Callable[[], None]] = []
        self._stop = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._xpub = self._context.socket(zmq.XPUB)
        for sock in (self._router, self._xpub):
            sock.linger = 0
        self.control, self.events = f"ipc://{state}/{name}", f"ipc://{state}/{name}e"
        self._tcp = tcp
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._router.bind(self.control)
        self._xpub.bind(self.events)
        if tcp is not None:
            tcp.port = tcp.bind(self._router, tcp.port)
            self.events_port = tcp.bind(self._xpub, "*")
        endpoint = Endpoint(
            pid=os.getpid(), version="0", epoch=epoch, control=self.control, events=self.events
        )
        endpoint_file(state).write_bytes(msgspec.json.encode(endpoint))
        self._thread = threading.Thread(target=self._run, name="peer")
        self._thread.start()

    def close(self) -> None:
        """End; connections break."""
        if not self._stop:
            self._stop = True
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            os.close(self._wake)

    def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until something that the peer sees is so."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"{self.requests} {self.subscriptions}"

    def asked(self, kind: str) -> list[tuple[str, msgspec.Struct]]:
        """The requests of a type so far, as (req, body)."""
        return [(req, body) for k, req, body in self.requests if k == kind]

    def change(self, job_id: str, state: State, *, publish: bool = True, **fields: Any) -> None:
        """A job changes, durably; without `publish` its event is lost on the way."""
        self._do(lambda: self._change(job_id, state, publish, fields))

    def progress(self, job_id: str, count: int, *, publish: bool = True) -> None:
        """A job has this many bytes."""
        self._do(lambda: self._progress(job_id, count, publish))

    def heartbeat(self) -> None:
        """Tell quiet watchers how far we are."""
        self._do(self._heartbeat)

    def complete(self, job_id: str, **options: Any) -> None:
        """A job is completed with 10 bytes."""
        self.change(job_id, State.COMPLETED, path=f"/d/{job_id}.iso", bytes=10, total=10, **options)

    def fail(self, job_id: str, code: str = "not_found") -> None:
        """A job fails."""
        self.change(job_id, State.FAILED, error=JobError(code, "no"), attempt=3)

    def _do(self, task: Callable[[], None]) -> None:
        done = threading.Event()
        self._tasks.append(lambda: (task(), done.set())[0])  # type: ignore[func-returns-value]
        os.eventfd_write(self._wake, 1)
        assert done.wait(10)

    def _run(self) -> None:
        poller = zmq.Poller()
        for sock in (self._router, self._xpub, self._zap, self._wake):
            poller.register(sock, zmq.POLLIN)
        while not self._stop:
            ready = dict(poller.poll())
            with self._changed:
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                while self._tasks:
                    self._tasks.pop(0)()
                if self._zap in ready and self._tcp is not None:
                    self._zap.send_multipart(self._tcp.judge(self._zap.recv_multipart()))
                if self._xpub in ready:
                    data = self._xpub.recv()
                    (self.subscriptions.add if data[0] else self.subscriptions.discard)(data[1:])
                if self._router in ready:
                    self._request(*self._router.recv_multipart())
                self._changed.notify_all()
        self._router.close()
        self._xpub.close()
        self._zap.close(linger=0)
        self._context.term()

    def _request(self, identity: bytes, head: bytes, body: bytes) -> None:
        header = codec.decode(head, control.RequestHeader)
        request = codec.decode(body, control.REQUESTS[header.type])
        self.requests.append((header.type, header.req, request))
        if self.lose[header.type] > 0:
            self.lose[header.type] -= 1
        elif header.type in self.refuse:
            self._send(identity, header, self.refuse.pop(header.type), ok=False)
        elif isinstance(request, control.Wait):
            self.held.append((identity, header, request))
            self._answer_waits()
        else:
            answer = self.store.replies.get(header.req) or self._answer(request)
            if header.type == "submit":
                self.store.replies[header.req] = answer
            self._send(identity, header, answer, ok=not isinstance(answer, control.ErrorBody))

    def _answer(self, request: msgspec.Struct) -> msgspec.Struct:
        store = self.store
        match request:
            case control.Hello():
                host = request.host and (f"[{request.host}]" if ":" in request.host else request.host)
                events = f"tcp://{host}:{self.events_port}" if host else self.events
                return control.Welcome(
                    version="0", protocol=PROTOCOL, epoch=self.epoch, lineage=store.lineage,
                    revision=store.revision,
                    owner="uid:1", pid=os.getpid(), events=events, features=[], max_message=1 << 20,
                    max_items=1000,
                )  # fmt: skip
            case control.Submit():
                store.submits += 1
                for new in request.jobs:
                    store.revision += 1
                    job = store.jobs[str(new.id)] = snapshot(
                        str(new.id), url=new.spec.url, revision=store.revision, labels=new.spec.labels
                    )
                    self._note(job, "queued")
                accepted = [
                    control.Accepted(id=str(n.id), state=State.QUEUED, revision=store.revision)
                    for n in request.jobs
                ]
                return control.Submitted(jobs=accepted)
            case control.Get():
                return self._jobs(request.ids)
            case control.List():
                jobs = sorted(store.jobs.values(), key=lambda job: -job.revision)
                fitting = [
                    job for job in jobs
                    if job.id.startswith(request.prefix)
                    and (request.cursor is None or job.revision < request.cursor)
                ]  # fmt: skip
                page = fitting[: min(request.limit, 3)]  # small pages, so that there are several
                return control.Page(jobs=page, cursor=page[-1].revision if len(fitting) > len(page) else None)
            case control.Verb():
                if request.all:
                    return control.Outcomes(jobs=[], intent=1)
                return control.Outcomes(jobs=[self._apply(type(request), job_id) for job_id in request.ids])
            case control.Limits():
                return self._limits()
            case control.Limit():
                return self._limit(request)
            case control.Replay():
                return self._replay(request)
            case control.Stats():
                return control.Statistics(
                    active=1, pending=2, slots=control.Slots(total=5, free=4), completed=3, failed=1,
                    cancelled=0, success_rate=0.75, bytes=1 << 20, speed=1024.0, counts={"queued": 2},
                    intents=1, uptime=61.0,
                )  # fmt: skip
            case control.Workspaces():
                return control.WorkspaceList(workspaces=WORKSPACES)
            case control.Clean():
                chosen = request.ids or [w.job for w in WORKSPACES if w.state is None]
                return control.Outcomes(jobs=[control.Outcome(id=i, state=None, revision=0) for i in chosen])
            case control.Reload():
                return control.Reloaded(live=["workers"], next_worker=[], restart=["socket"])
        return control.Done()

    def _apply(self, verb: type[control.Verb], job_id: str) -> control.Outcome:
        job = self.store.jobs[job_id]
        if job.state in TERMINAL and verb in (control.Cancel, control.Pause, control.Resume):
            return control.Outcome(id=job_id, state=job.state, revision=job.revision, code="too_late")
        if verb is control.Remove:
            del self.store.jobs[job_id]
            return control.Outcome(id=job_id, state=None, revision=job.revision)
        self._change(job_id, VERBS[verb], True, {})
        job = self.store.jobs[job_id]
        return control.Outcome(id=job_id, state=job.state, revision=job.revision)

    def _limits(self, jobs: list[control.Outcome] | None = None) -> control.LimitsInForce:
        limits = dict(self.store.limits)
        return control.LimitsInForce(total=limits.pop("", None), hosts=limits, jobs=jobs or [])

    def _limit(self, request: control.Limit) -> control.LimitsInForce:
        jobs = [self.store.jobs[job_id] for job_id in request.ids]
        if not jobs:
            self.store.limits.pop(request.host or "", None)
            if request.rate is not None:
                self.store.limits[request.host or ""] = request.rate
        return self._limits(
            [
                control.Outcome(
                    id=job.id, state=job.state, revision=job.revision,
                    code="too_late" if job.state in TERMINAL else None,
                )
                for job in jobs
            ]
        )  # fmt: skip

    def _replay(self, request: control.Replay) -> msgspec.Struct:
        store = self.store
        if request.since < store.kept_from or request.lineage not in {None, store.lineage}:
            return control.ErrorBody(code="history_gone", message="not kept any more")
        found = [past for past in store.record if past.revision > request.since]
        page = found[: min(self.page, request.limit)]
        more = len(page) < len(found)
        return control.History(events=page, revision=page[-1].revision if more else store.revision, more=more)

    def _jobs(self, ids: list[str], since: int = -1) -> control.Jobs:
        jobs = self.store.jobs
        return control.Jobs(
            jobs=[jobs[i] for i in ids if i in jobs and jobs[i].revision > since],
            missing=[i for i in ids if i not in jobs],
            revision=self.store.revision,
        )

    def _answer_waits(self) -> None:
        for wait in list(self.held):
            identity, header, request = wait
            answer = self._jobs(request.ids, request.since)
            first = request.since == 0
            if (answer.jobs or answer.missing or not request.timeout) and (first or not self.mute_waits):
                self.held.remove(wait)
                self._send(identity, header, answer)

    def _change(self, job_id: str, state: State, publish: bool, fields: dict[str, Any]) -> None:
        self.store.revision += 1
        old = self.store.jobs[job_id]
        job = replace(old, state=state, revision=self.store.revision, seq=old.seq + 1, **fields)
        self.store.jobs[job_id] = job
        kind = "warning" if "warning" in fields else str(state)
        self._note(job, kind)
        if publish:
            self._publish(job, kind, job.revision, job)
        self._answer_waits()

    def _note(self, job: JobSnapshot, kind: str) -> None:
        past = control.PastEvent(revision=job.revision, time=TIME, type=kind, job=job.id, data=job)
        self.store.record.append(past)

    def _heartbeat(self) -> None:
        revision = self.store.revision
        header = EventHeader(
            v=PROTOCOL, epoch=self.epoch, seq=0, revision=revision, time=TIME, type=HEARTBEAT, job=None
        )
        body = Heartbeat(epoch=self.epoch, revision=revision)
        self._xpub.send_multipart([sys_topic(HEARTBEAT), codec.encode(header), codec.encode(body)])

    def _progress(self, job_id: str, count: int, publish: bool) -> None:
        old = self.store.jobs[job_id]
        job = self.store.jobs[job_id] = replace(old, bytes=count, seq=old.seq + 1)
        body = Progress(attempt=job.attempt, bytes=count, total=job.total, speed=None, eta=None)
        if publish:
            self._publish(job, "progress", None, body)

    def _publish(self, job: JobSnapshot, kind: str, revision: int | None, body: msgspec.Struct) -> None:
        header = EventHeader(
            v=PROTOCOL, epoch=self.epoch, seq=job.seq, revision=revision, time=TIME, type=kind, job=job.id
        )
        self._xpub.send_multipart([job_topic(job.id, kind), codec.encode(header), codec.encode(body)])

    def _send(
        self, identity: bytes, header: control.RequestHeader, body: msgspec.Struct, ok: bool = True
    ) -> None:
        reply = control.ReplyHeader(
            v=PROTOCOL, type=header.type, req=header.req, ok=ok, epoch=self.epoch, lineage=self.store.lineage
        )
        self._router.send_multipart([identity, codec.encode(reply), codec.encode(body)])
