"""Requests that change something, and who the daemon is: checks, look-ups, then an input for the core."""

import os
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.gates import Gate
from fetchd.daemon.core.intake import SCHEMES, Intake, check
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.rights import in_scope, may_govern, may_see, scope
from fetchd.daemon.core.slot import Slot
from fetchd.protocol import control
from fetchd.protocol.codec import MAX_ITEMS, MAX_MESSAGE
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import new_correlation_id
from fetchd.protocol.status import DaemonStatus, Held, Status, WorkerStatus
from fetchd.protocol.version import PROTOCOL, __version__

from .control import Caller, Control, Handler
from .desk import Desk, Facts, Outside
from .engine import Engine
from .limits import Limits
from .loop import Loop
from .reading import Reading
from .staging import Staging
from .waits import Waits

HELD = 100
"""As many gates are told of in the status."""


def _governed(handler: Handler) -> Handler:
    """For admins only."""

    def governed(caller: Caller, body: Any) -> None:
        if not may_govern(caller):
            raise FetchdError(Code.DENIED, "only an admin of the daemon may do this")
        handler(caller, body)

    return governed


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
        self._facts = facts
        self._outside = outside
        self._desk = Desk(control_socket, engine, facts, outside)
        reading, staging, limits = Reading(self._desk, waits), Staging(self._desk), Limits(self._desk)
        handlers: dict[str, Handler] = {
            "hello": self.hello,
            "submit": self.submit,
            "cancel": lambda caller, body: self.verb(caller, "cancel", body),
            "pause": lambda caller, body: self.verb(caller, "pause", body),
            "resume": lambda caller, body: self.verb(caller, "resume", body),
            "retry": lambda caller, body: self.verb(caller, "retry", body),
            "remove": lambda caller, body: self.verb(caller, "remove", body),
            "limit": limits.limit,
            "limits": limits.limits,
            "get": reading.get,
            "list": reading.list_jobs,
            "wait": reading.wait,
            "events": reading.events,
            "stats": reading.stats,
            "workspaces": staging.workspaces,
            "clean": staging.clean,
            "status": self.status,
            "reload": _governed(self.reload),
            "shutdown": _governed(self.shutdown),
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
        error = FetchdError(command.code, command.message, retry_after=command.retry_after)
        error.details = command.details
        self._control.refuse(command.token, error)

    def lost(self, token: object) -> None:
        """A request whose batch could not be committed: nothing of it was done."""
        assert isinstance(token, Caller)
        self._control.refuse(token, FetchdError(Code.STORE_FAILED, retry_after=1.0))

    # handlers

    def hello(self, caller: Caller, body: control.Hello) -> None:
        facts = self._facts
        welcome = control.Welcome(
            version=__version__,
            protocol=PROTOCOL,
            epoch=facts.epoch,
            lineage=facts.lineage,
            revision=self._core.ledger.revision,
            owner=caller.owner,
            pid=os.getpid(),
            events=self._outside.events(caller, body.host),
            features=[],
            max_message=MAX_MESSAGE,
            max_items=MAX_ITEMS,
        )
        self._engine.after(lambda: self._control.reply(caller, welcome), caller)

    def submit(self, caller: Caller, body: control.Submit) -> None:
        key = self._facts.hash_key
        intakes = []
        relative = self._outside.relative()
        for index, new in enumerate(body.jobs):
            try:
                schemes = self._schemes((new.spec.url, *new.spec.mirrors))
                intakes.append(
                    check(new.id or new_correlation_id(), new.spec, key, schemes, relative=relative)
                )
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

        directories = {intake.directory for intake in intakes}
        # one caller's requests stay in order, and nobody waits for another's dead mount
        self._outside.resolve(caller.route.hex(), caller.owner, directories, resolved)

    def _schemes(self, urls: Iterable[str]) -> frozenset[str]:
        """Plug-ins are looked for once somebody may want one."""
        known = all(url.partition(":")[0].lower() in SCHEMES for url in urls)
        return SCHEMES if known else self._outside.schemes()

    def _submit(self, caller: Caller, intakes: tuple[Intake, ...]) -> None:
        def known(jobs: dict[str, Job], paths: dict[str, str]) -> None:
            self._engine.feed(inputs.Submit(self._request(caller), intakes, jobs, paths))

        names = [(intake.directory, intake.spec.name) for intake in intakes if intake.spec.name is not None]
        self._desk.look_up(caller, [intake.id for intake in intakes], names, known)

    def verb(self, caller: Caller, name: inputs.VerbName, body: control.Verb) -> None:
        """Cancel, pause, resume, retry or remove: by IDs, or in bulk."""
        if bool(body.ids) == (body.all or body.failed):
            raise FetchdError(Code.BAD_REQUEST, "a verb is for IDs, or for all, or for all failed jobs")
        if body.failed and name not in ("retry", "remove"):
            raise FetchdError(Code.BAD_REQUEST, f"failed jobs cannot be asked to {name}")

        def known(jobs: dict[str, Job], _paths: dict[str, str], held: frozenset[str]) -> None:
            request = self._request(caller)
            if body.ids:
                self._engine.feed(inputs.Verb(request, name, tuple(body.ids), jobs, held))
            else:
                self._engine.feed(inputs.Bulk(request, name, body.failed))

        self._desk.look_up_secrets(caller, body.ids, [], known)

    def status(self, caller: Caller, _body: Status) -> None:
        facts, core = self._facts, self._core
        owner = scope(caller)

        def shown(slot: Slot) -> bool:
            return owner is None or (slot.run is not None and in_scope(owner, slot.run.owner))

        workers = [
            WorkerStatus(
                slot=slot.index,
                state="busy"
                if slot.run
                else "idle"
                if slot.ready
                else "starting"
                if slot.filled
                else "empty",
                pid=self._outside.worker_pid(slot.index, slot.incarnation) if slot.filled else None,
                job=slot.run.job if slot.run and shown(slot) else None,
                **(self._outside.usage(slot.index, slot.incarnation) if shown(slot) else {}),
            )
            for slot in core.pool.slots
        ]
        answer = DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            epoch=facts.epoch,
            lineage=facts.lineage,
            revision=core.ledger.revision,
            state_dir=facts.state_dir,
            started=facts.started,
            draining=core.draining,
            sockets={
                "control": self._control.endpoint,
                "events": self._outside.events(caller, None),
                **facts.tcp,
            },
            sandbox=self._outside.sandbox(),
            workers=workers,
            counts={str(state): number for state, number in core.ledger.counts_of(owner).items()},
            loop_p99=self._loop.percentile(0.99),
            held=[
                Held(
                    kind=gate.key.kind,
                    name=gate.key.name,
                    reason=gate.key.reason,
                    since=gate.since,
                    detail=gate.detail,
                )
                for gate in islice((gate for gate in core.gates if _concerns(caller, gate)), HELD)
            ],
            keys_trouble=self._outside.trouble() if may_govern(caller) else None,
        )
        self._engine.after(lambda: self._control.reply(caller, answer), caller)

    def shutdown(self, caller: Caller, body: control.Shutdown) -> None:
        self._control.reply(caller, control.Done())
        self._engine.feed(inputs.Drain(body.now))

    def reload(self, caller: Caller, _body: control.Reload) -> None:
        def reloaded(answer: control.Reloaded | None, error: str | None) -> None:
            if answer is None:
                self._control.refuse(caller, FetchdError(Code.INVALID_CONFIG, error or ""))
            else:
                self._control.reply(caller, answer)

        self._outside.reload(reloaded)

    @staticmethod
    def _request(caller: Caller) -> inputs.Request:
        return inputs.Request(caller.owner, caller.req, caller.digest, caller, caller.admin)


def _concerns(caller: Caller, gate: Gate) -> bool:
    """Whether a gate is told of: one of a host or a file system shows what others fetch, and where to."""
    own = gate.key.kind == "owner" and may_see(caller, gate.key.name)
    return own or gate.key.kind == "daemon" or may_govern(caller)
