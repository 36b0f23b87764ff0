"""What each request type does. Checks and look-ups first, then an input for the core or an answer.

This is the one place where a request meets its caller's rights: everything is looked up by owner.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.intake import Intake, check
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.view import snapshot
from fetchd.protocol import control
from fetchd.protocol.codec import MAX_ITEMS, MAX_MESSAGE
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import new_correlation_id
from fetchd.protocol.job import JobSnapshot
from fetchd.protocol.version import PROTOCOL, __version__

from .control import Caller, Control, Handler
from .engine import Engine
from .loop import Loop
from .waits import Waits

PAGE_BYTES = MAX_MESSAGE - 4096

Listing = list[JobSnapshot]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the daemon lives."""

    epoch: str
    lineage: str
    hash_key: bytes
    state_dir: str
    started: int
    events: str


class Outside(msgspec.Struct, kw_only=True):
    """What requests need from the rest of the daemon. Every callback runs in the loop, later.

    `lookup(owner, req, ids, paths, then)`: then(stored reply, jobs by ID, reservations by path, error).
    `resolve(directories, then)`: then({directory: (canonical, area)}, error). `page(owner, query, then)`.
    """

    lookup: Callable[..., None]
    resolve: Callable[..., None]
    page: Callable[..., None]
    seq: Callable[[str], int]
    workspace: Callable[[Job], str]
    worker_pid: Callable[[int, int], int | None]
    sandbox: Callable[[], dict[str, str]]


class Requests:
    """The handlers, to be registered at the control socket."""

    def __init__(
        self,
        control_socket: Control,
        engine: Engine,
        loop: Loop,
        waits: Waits,
        facts: Facts,
        outside: Outside,
    ) -> None:
        self._control = control_socket
        self._engine = engine
        self._loop = loop
        self._waits = waits
        self._facts = facts
        self._outside = outside
        handlers: dict[str, Handler] = {
            "hello": self.hello,
            "submit": self.submit,
            "get": self.get,
            "list": self.list_jobs,
            "wait": self.wait,
            "cancel": self.cancel,
            "status": self.status,
            "shutdown": self.shutdown,
        }
        control_socket.handlers.update({name: self._guarded(handler) for name, handler in handlers.items()})

    def _guarded(self, handler: Handler) -> Handler:
        def guarded(caller: Caller, body: Any) -> None:
            if self._engine.dead:
                raise FetchdError(Code.STORE_FAILED, "the database is in trouble", retry_after=1.0)
            handler(caller, body)

        return guarded

    @property
    def _core(self) -> Core:
        return self._engine.core

    # commands of the core

    def reply(self, command: commands.Reply) -> None:
        assert isinstance(command.token, Caller)
        self._control.reply(command.token, command.body)

    def refuse(self, command: commands.Refuse) -> None:
        assert isinstance(command.token, Caller)
        error = FetchdError(command.code, command.message)
        error.details = command.details
        self._control.refuse(command.token, error)

    def lost(self, token: object) -> None:
        """A request whose batch could not be committed: nothing of it was done."""
        assert isinstance(token, Caller)
        self._control.refuse(token, FetchdError(Code.STORE_FAILED, retry_after=1.0))

    # handlers

    def hello(self, caller: Caller, _body: control.Hello) -> None:
        facts = self._facts
        welcome = control.Welcome(
            version=__version__,
            protocol=PROTOCOL,
            epoch=facts.epoch,
            lineage=facts.lineage,
            revision=self._core.ledger.revision,
            owner=caller.owner,
            pid=os.getpid(),
            events=facts.events,
            features=[],
            max_message=MAX_MESSAGE,
            max_items=MAX_ITEMS,
        )
        self._engine.after(lambda: self._control.reply(caller, welcome))

    def submit(self, caller: Caller, body: control.Submit) -> None:
        key = self._facts.hash_key
        intakes = []
        for index, new in enumerate(body.jobs):
            try:
                intakes.append(check(new.id or new_correlation_id(), new.spec, key))
            except FetchdError as error:
                raise FetchdError(error.code, error.message, job=new.id, index=index) from None

        def resolved(places: dict[str, tuple[str, str]], error: FetchdError | None) -> None:
            if error is not None:
                self._control.refuse(caller, error)
                return
            ready = tuple(
                msgspec.structs.replace(
                    intake, directory=places[intake.directory][0], area=places[intake.directory][1]
                )
                for intake in intakes
            )
            self._submit(caller, ready)

        self._outside.resolve({intake.directory for intake in intakes}, resolved)

    def _submit(self, caller: Caller, intakes: tuple[Intake, ...]) -> None:
        def known(jobs: dict[str, Job], paths: dict[str, str]) -> None:
            self._engine.feed(inputs.Submit(self._request(caller), intakes, jobs, paths))

        names = [(intake.directory, intake.spec.name) for intake in intakes if intake.spec.name is not None]
        self._look_up(caller, [intake.id for intake in intakes], names, known)

    def cancel(self, caller: Caller, body: control.Cancel) -> None:
        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            self._engine.feed(inputs.Cancel(self._request(caller), tuple(body.ids), jobs))

        self._look_up(caller, body.ids, [], known)

    def get(self, caller: Caller, body: control.Get) -> None:
        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            found = self._visible(caller, body.ids, jobs)
            self._answer_jobs(caller, found, [job_id for job_id in body.ids if job_id not in found])

        self._look_up(caller, body.ids, [], known, stored=False)

    def wait(self, caller: Caller, body: control.Wait) -> None:
        if self._waits.full:
            raise FetchdError(Code.BUSY, "too many clients wait", retry_after=5.0)

        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            found = self._visible(caller, body.ids, jobs)
            missing = [job_id for job_id in body.ids if job_id not in found]
            newer = {job_id: job for job_id, job in found.items() if job.revision > body.since}
            if newer or not found:
                self._answer_jobs(caller, newer, missing)
                return

            def changed(ids: list[str]) -> None:
                current = {i: job for i in ids if (job := self._core.ledger.find(i)) is not None}
                if len(current) == len(ids):
                    self._answer_jobs(caller, current, missing)
                else:
                    # it left memory in the meantime: ask the store
                    self.get(caller, control.Get(ids=ids))

            self._waits.add(found, body.timeout, changed)

        self._look_up(caller, body.ids, [], known, stored=False)

    def list_jobs(self, caller: Caller, body: control.List) -> None:
        def page(jobs: Sequence[dict[str, Any]], cursor: int | None, error: str | None) -> None:
            if error is not None:
                self._control.refuse(caller, FetchdError(Code.STORE_FAILED, error))
                return
            shown = [self._freshened(entry) for entry in jobs]
            kept: Listing = []
            size = 0
            for entry in shown:
                size += len(msgspec.msgpack.encode(entry))
                if size > PAGE_BYTES:
                    cursor = kept[-1].revision
                    break
                kept.append(entry)
            self._control.reply(caller, control.Page(jobs=kept, cursor=cursor))

        # what was acknowledged is on disk, so a page that is read now has it
        self._engine.after(lambda: self._outside.page(caller.owner, body, page))

    def status(self, caller: Caller, _body: control.Status) -> None:
        facts, core = self._facts, self._core
        workers = [
            control.WorkerStatus(
                slot=slot.index,
                state="busy"
                if slot.run
                else "idle"
                if slot.ready
                else "starting"
                if slot.filled
                else "empty",
                pid=self._outside.worker_pid(slot.index, slot.incarnation) if slot.filled else None,
                job=slot.run.job if slot.run else None,
            )
            for slot in core.pool.slots
        ]
        status = control.DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            epoch=facts.epoch,
            lineage=facts.lineage,
            revision=core.ledger.revision,
            state_dir=facts.state_dir,
            started=facts.started,
            draining=core.draining,
            sockets={"control": self._control.endpoint, "events": facts.events},
            sandbox=self._outside.sandbox(),
            workers=workers,
            counts={str(state): number for state, number in core.ledger.counts.items()},
            loop_p99=self._loop.percentile(0.99),
        )
        self._engine.after(lambda: self._control.reply(caller, status))

    def shutdown(self, caller: Caller, body: control.Shutdown) -> None:
        self._control.reply(caller, control.Done())
        self._engine.feed(inputs.Drain(body.now))

    # helpers

    @staticmethod
    def _request(caller: Caller) -> inputs.Request:
        return inputs.Request(caller.owner, caller.req, caller.digest, caller)

    def _look_up(
        self,
        caller: Caller,
        ids: Sequence[str],
        names: list[tuple[str, str]],
        then: Callable[[dict[str, Job], dict[str, str]], None],
        *,
        stored: bool = True,
    ) -> None:
        def found(
            reply: tuple[bytes, bytes] | None,
            jobs: dict[str, Job],
            paths: dict[str, str],
            error: BaseException | None,
        ) -> None:
            if error is not None:
                self._control.refuse(caller, FetchdError(Code.STORE_FAILED, str(error)))
            elif reply is None:
                then(jobs, paths)
            elif reply[0] == caller.digest:
                self._control.reply_encoded(caller, reply[1])
            else:
                text = "this request ID was used for another request"
                self._control.refuse(caller, FetchdError(Code.CONFLICT, text))

        self._outside.lookup(caller.owner if stored else None, caller.req, ids, names, found)

    def _visible(self, caller: Caller, ids: Sequence[str], stored: dict[str, Job]) -> dict[str, Job]:
        """The jobs among these that the caller may see, memory before store."""
        found = {}
        for job_id in ids:
            job = self._core.ledger.find(job_id) or stored.get(job_id)
            if job is not None and job.owner == caller.owner:
                found[job_id] = job
        return found

    def _answer_jobs(self, caller: Caller, found: dict[str, Job], missing: Sequence[str]) -> None:
        body = control.Jobs(
            jobs=[self.view(job) for job in found.values()],
            missing=[*missing],
            revision=self._core.ledger.revision,
        )
        # memory may be ahead of the disk, so the answer waits for it
        self._engine.after(lambda: self._control.reply(caller, body))

    def view(self, job: Job) -> JobSnapshot:
        """A job as the outside sees it now."""
        run = self._core.runs.get(job.id)
        lying = job.attempt > 0 and not job.terminal
        return snapshot(
            job,
            shown=self._core.gates.shown(job),
            run=run,
            workspace=self._outside.workspace(job) if lying else None,
            seq=self._outside.seq(job.id),
        )

    def _freshened(self, entry: dict[str, Any]) -> JobSnapshot:
        """A job from a page of the store, with what memory knows better."""
        job = self._core.ledger.find(entry["id"])
        if job is not None:
            return self.view(job)
        found = msgspec.convert(entry, JobSnapshot)
        return msgspec.structs.replace(found, seq=self._outside.seq(found.id))
