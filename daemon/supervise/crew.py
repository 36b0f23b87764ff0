"""The crew: the workers that live now. Carries out what the core wants of them and tells it what happened.

It decides nothing about jobs. Everything that may block runs in the helper pool, in order for each job.
"""

import logging
import os
import secrets
from collections.abc import Callable

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.service import entry
from fetchd.daemon.service.faults import code_of
from fetchd.protocol import mailbox
from fetchd.protocol.codec import decode
from fetchd.protocol.errors import Code, FetchdError, ProtocolError
from fetchd.protocol.mailbox import FINAL, Secrets

from .assignment import Settings, assignment
from .helpers import Helpers
from .member import Member, Post, Watch
from .spawn import Child, Spawner
from .untrusted import staged
from .workspace import Prepared, RoomGoneError, Workspaces

logger = logging.getLogger("fetchd")


class Crew:
    """All members, by (slot, incarnation). `feed` gives an input to the core."""

    def __init__(
        self,
        *,
        settings: Settings,
        post: Post,
        watch: Watch,
        helpers: Helpers,
        spawner: Spawner,
        workspaces: Workspaces,
        open_area: Callable[[str], None],
        load_secrets: Callable[[str, Callable[[bytes | None, BaseException | None], None]], None],
        feed: Callable[[inputs.Input], None],
        drop_area: Callable[[str], None] = lambda _area: None,
    ) -> None:
        self.settings = settings
        self._post = post
        self._watch = watch
        self._helpers = helpers
        self._spawner = spawner
        self._workspaces = workspaces
        self._open_area = open_area
        self._load_secrets = load_secrets
        self._feed = feed
        self._drop_area = drop_area
        self._members: dict[tuple[int, int], Member] = {}
        self.layers: dict[str, str] = {}

    def pid(self, slot: int, incarnation: int) -> int | None:
        """The process of a worker, once it is known."""
        member = self._members.get((slot, incarnation))
        return member.child.pid if member is not None and member.child is not None else None

    def pids(self) -> dict[tuple[int, int], int]:
        """The processes of all workers, by slot and incarnation."""
        return {key: member.child.pid for key, member in self._members.items() if member.child is not None}

    # coming and going

    def spawn(self, command: commands.Spawn) -> None:
        """A new worker with a private room in each area."""
        name = secrets.token_hex(8)
        rooms = {area: f"{area}/rooms/{name}" for area in command.areas}
        member = Member(command.slot, command.incarnation, rooms)
        self._members[command.slot, command.incarnation] = member
        secret = secrets.token_hex(16)
        try:
            endpoint = self._post.open(member.slot, member.incarnation, secret)
        except OSError as error:
            self._bury(member, inputs.Gone.SPAWN_FAILED, f"mailbox: {error}")
            return
        home = next(iter(rooms.values()))

        def start() -> Child:
            for area, room in rooms.items():
                self._open_area(area)
                with staged(room) as place:
                    os.mkdir(place.name, 0o700, dir_fd=place.directory)
                # an area is dropped when nothing lies in it: only now is it certain that this one stays
                self._open_area(area)
            return self._spawner.spawn(
                entry.WORKER,
                lambda parent: (
                    mailbox.Start(
                        endpoint=endpoint,
                        secret=secret,
                        parent=parent,
                        workers_lock=self.settings.workers_lock,
                        home=home,
                        ca_bundle=self.settings.ca_bundle,
                        beat=self._post.beat,
                        rooms=list(rooms.values()),
                        ports=None if (ports := self.settings.network.ports) is None else list(ports),
                        file_size=self.settings.max_size or None,
                        sandbox=self.settings.sandbox,
                    ),
                ),
            )

        self._helpers.run(
            f"spawn {member.slot}", start, lambda child, error: self._spawned(member, child, error)
        )

    def _spawned(self, member: Member, child: Child, error: BaseException | None) -> None:
        if error is not None:
            self._bury(member, inputs.Gone.SPAWN_FAILED, str(error))
            return
        member.child = child
        self._watch.add(child.sentinel, lambda: self._died(member))
        if member.doom is not None:
            child.kill()

    def kill(self, command: commands.Kill) -> None:
        """End a worker, whatever it does."""
        member = self._members.get((command.slot, command.incarnation))
        if member is None or member.doom is not None:
            return
        member.doom = command.why
        self._post.close(member.slot, member.incarnation)
        if member.child is not None:
            member.child.kill()

    def hung(self, slot: int, incarnation: int) -> None:
        """A worker has not been heard for too long."""
        member = self._members.get((slot, incarnation))
        if member is not None and member.doom is None:
            member.ended_as = inputs.Gone.HUNG
            self.kill(commands.Kill(slot, incarnation, "not heard of"))

    def greedy(self, slot: int, incarnation: int, why: str = "took too much memory") -> None:
        """A worker has taken more memory than it may, its own or ours."""
        member = self._members.get((slot, incarnation))
        if member is not None and member.doom is None:
            member.ended_as = inputs.Gone.GREEDY
            self.kill(commands.Kill(slot, incarnation, why))

    def kill_all(self) -> None:
        """End every worker, at the end of the supervisor or before it begins anew."""
        for member in list(self._members.values()):
            self.kill(commands.Kill(member.slot, member.incarnation, "the supervisor ends"))

    @property
    def empty(self) -> bool:
        return not self._members

    def _died(self, member: Member) -> None:
        assert member.child is not None
        healthy = self._spawner.healthy(member.child.server)
        self._watch.remove(member.child.sentinel)
        detail = member.doom or member.child.reap()
        if member.doom is not None:
            member.child.reap()
        if member.ended_as is not None:
            cause = member.ended_as
        elif member.doom is not None or not healthy:
            cause = inputs.Gone.KILLED
        else:
            cause = inputs.Gone.DIED
        self._bury(member, cause, detail)

    def _bury(self, member: Member, cause: inputs.Gone, detail: str) -> None:
        del self._members[member.slot, member.incarnation]
        self._post.close(member.slot, member.incarnation)
        job = member.job
        if job is not None:

            def retrieved(_result: None, error: BaseException | None) -> None:
                _noted(None, error)
                self._vacate(member)

            self._helpers.run(job.id, lambda: self._workspaces.retrieve(job), retrieved)
        else:
            self._vacate(member)
        self._feed(inputs.WorkerGone(member.slot, member.incarnation, cause, detail))

    def _vacate(self, member: Member) -> None:
        def remove() -> None:
            for area, room in member.rooms.items():
                self._workspaces.vacate(room)
                self._drop_area(area)

        self._helpers.run(f"room {member.slot}", remove, _noted, long=True)

    # attempts

    def assign(self, command: commands.AssignJob) -> None:
        """Secrets, workspace, room, mailbox: then the attempt runs."""
        member = self._members.get((command.slot, command.incarnation))
        if member is None or member.doom is not None:
            return
        job = command.job
        member.preparing, member.aborted, member.job = (job.id, job.attempt), False, job
        member.allowed, member.conditional = (command.connections, command.rate), False
        if not job.secret:
            self._prepare(member, job, Secrets())
            return

        def loaded(payload: bytes | None, error: BaseException | None) -> None:
            if member.doom is not None or self._members.get((member.slot, member.incarnation)) is not member:
                # it died meanwhile: its room may be gone before a workspace could be moved into it
                return
            try:
                hidden = None if error is not None or payload is None else decode(payload, Secrets)
            except ProtocolError:
                hidden = None
            if hidden is None:
                self._refuse(member, job, Code.SECRETS_GONE, "the secrets of the job cannot be read")
            else:
                self._prepare(member, job, hidden)

        self._load_secrets(job.id, loaded)

    def _prepare(self, member: Member, job: Job, hidden: Secrets) -> None:
        room = member.rooms.get(job.area)
        if room is None:
            self._refuse(member, job, Code.INTERNAL, "the worker has no room in the job's staging area")
            return

        def prepared(result: Prepared, error: BaseException | None) -> None:
            if isinstance(error, OSError):
                self._refuse(member, job, code_of(error), f"workspace: {error.strerror}")
            elif isinstance(error, FetchdError):
                alone = bool(error.details.get("alone"))
                self._refuse(member, job, error.code, f"workspace: {error.message}", alone=alone)
            elif isinstance(error, RoomGoneError):
                # the worker may write nowhere else: only another one is of use
                self._refuse(member, job, Code.EXHAUSTED, "the worker's room is gone")
                self.kill(commands.Kill(member.slot, member.incarnation, "its room is gone"))
            elif error is not None:
                self._refuse(member, job, Code.INTERNAL, f"workspace: {error}")
            elif member.aborted:
                self._leave_room(job)
                self._refuse(member, job, Code.CANCELLED, "stopped before it began")
            else:
                member.preparing = None
                member.conditional = result.newer_than is not None
                message = assignment(self.settings, job, hidden, result, member.allowed)
                self._post.send(member.slot, member.incarnation, message)

        def prepare() -> Prepared:
            self._open_area(job.area)
            return self._workspaces.prepare(job, room)

        self._helpers.run(job.id, prepare, prepared)

    def _refuse(self, member: Member, job: Job, code: Code, message: str, *, alone: bool = False) -> None:
        member.preparing = member.job = None
        slot, incarnation = member.slot, member.incarnation
        self._feed(inputs.AssignRefused(slot, incarnation, job.id, job.attempt, code, message, alone))

    def stop(self, command: commands.StopAttempt) -> None:
        """Ask for the end of an attempt, or keep it from beginning."""
        member = self._members.get((command.slot, command.incarnation))
        if member is None or member.doom is not None:
            return
        if member.preparing == (command.job, command.attempt):
            member.aborted = True
            return
        message = mailbox.Stop(job=command.job, attempt=command.attempt, keep=command.keep)
        self._post.send(member.slot, member.incarnation, message)

    def allow(self, command: commands.Allow) -> None:
        """Another allowance. Where the attempt has not begun yet it begins with this one."""
        member = self._members.get((command.slot, command.incarnation))
        if member is None or member.doom is not None:
            return
        if member.preparing == (command.job, command.attempt):
            member.allowed = (command.connections, command.rate)
        elif member.job is not None and (member.job.id, member.job.attempt) == (command.job, command.attempt):
            message = mailbox.Allow(
                job=command.job, attempt=command.attempt, connections=command.connections, rate=command.rate
            )
            self._post.send(member.slot, member.incarnation, message)

    def allow_restart(self, command: commands.AllowRestart) -> None:
        """The new content generation is on disk."""
        message = mailbox.Proceed(job=command.job, attempt=command.attempt, generation=command.generation)
        self._post.send(command.slot, command.incarnation, message)

    # what workers say

    def arrived(self, slot: int, incarnation: int, layers: dict[str, str]) -> None:
        """A worker has proven who it is and asks for work."""
        self.layers = layers
        self._feed(inputs.WorkerReady(slot, incarnation))

    def reported(self, slot: int, incarnation: int, report: mailbox.Report) -> None:
        """A report. After a final one the workspace leaves the room, before anything else is done with it."""
        member = self._members.get((slot, incarnation))
        if member is None or member.doom is not None:
            return
        job = member.job
        if isinstance(report, mailbox.NotModified) and not member.conditional:
            self._feed(inputs.Violation(slot, incarnation, "not modified, and nobody asked for it"))
            return
        if isinstance(report, FINAL) and job is not None and job.id == report.job:
            member.job = None
            if not isinstance(report, mailbox.Finished):
                # sealing or cleaning takes a finished one out
                self._leave_room(job)
        self._feed(inputs.WorkerReport(slot, incarnation, report))

    def _leave_room(self, job: Job) -> None:
        self._helpers.run(job.id, lambda: self._workspaces.retrieve(job), _noted)


def _noted(_result: None, error: BaseException | None) -> None:
    if error is not None:
        # whoever needs the file next finds it missing and says so
        logger.warning("cleaning up after a worker: %s", error)
