"""Simulated workers: they do what real ones do, at any speed, and sometimes what real ones must not do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import AllowRestart, AssignJob, StopAttempt
from fetchd.daemon.core.job import Job, Ranges
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code

from .disks import FakeDisks
from .workspaces import BLOCK, SIZE, Frontier, Place, blocks

FAILURES = (
    Code.DNS, Code.CONNECT, Code.RESET, Code.SHORT_BODY, Code.RATE_LIMITED, Code.SERVER_ERROR, Code.NOT_FOUND,
    Code.TLS_CERT, Code.IO_ERROR, Code.UNAVAILABLE, Code.CHECKSUM_MISMATCH, Code.TOO_SLOW, Code.FORBIDDEN,
    Code.EXHAUSTED,
)  # fmt: skip
HALF = SIZE // 2
"""Where the second of two connections begins."""


@dataclass
class Worker:
    """One incarnation. `mail` is what it has sent and the supervisor has not read yet."""

    slot: int
    incarnation: int
    mail: list[inputs.Input] = field(default_factory=list)
    alive: bool = True
    ready: bool = False
    job: Job | None = None
    generation: int = 0
    front: int = 0  # bytes from the beginning on
    back: int = 0  # bytes from the middle on
    responded: bool = False
    asking: bool = False
    stopping: bool = False
    deaf: bool = False
    mute: bool = False  # never comes up
    preparing: Job | None = None
    aborted: bool = False
    disks: FakeDisks = field(default_factory=FakeDisks)
    holds: Job | None = None  # until the supervisor has read that it does not any more
    place: Place | None = None
    source: Callable[[Job], str] = lambda job: '"v1"'
    etag: str = ""
    untold: mailbox.Synced | None = None
    broken: bool = False  # a sync has failed

    def step(self, rng: Random, faults: float, failures: float) -> None:
        """Do the next thing."""
        if self.mute:
            return
        if not self.ready:
            self.ready = True
            self.mail.append(inputs.WorkerReady(self.slot, self.incarnation))
        elif rng.random() < faults / 6:
            self._misbehave(rng)
        elif self.job is not None:
            self._fetch(rng, faults, failures, self.job)

    def _fetch(self, rng: Random, faults: float, failures: float, job: Job) -> None:
        name: dict[str, Any] = {"job": job.id, "attempt": job.attempt}
        if self.stopping:
            if not self.deaf:
                if self.responded and rng.random() < 0.5 and self._sync(rng, faults, job):
                    self._tell()
                if self.broken:
                    self._over(mailbox.Failed(**name, code=Code.IO_ERROR, message="", bytes=self.bytes))
                else:
                    self._over(mailbox.Stopped(**name, bytes=self.bytes))
        elif self.untold is not None and rng.random() < 0.5:
            # the sync thread does not wait for a restart
            self._tell()
        elif self.asking:
            return
        elif self.broken:
            self._over(mailbox.Failed(**name, code=Code.IO_ERROR, message="", bytes=self.bytes))
        elif self.responded and rng.random() < 0.3:
            self._sync(rng, faults, job)
        elif (full := self.disks.code(job.area)) is not None or rng.random() < failures:
            code = full or rng.choice(FAILURES)
            after = rng.choice([None, 0.0, 3.0, 30.0])
            which, mixed = rng.randrange(1 + len(job.options.mirrors)), rng.random() < 0.3
            self._over(
                mailbox.Failed(
                    **name,
                    code=code,
                    message="",
                    bytes=self.bytes,
                    retry_after=after,
                    source=which,
                    mixed=mixed,
                )
            )
        elif job.options.if_newer and not self.responded and rng.random() < 0.2:
            self._over(mailbox.NotModified(**name, origins=[f"http://{job.host}"]))
        elif rng.random() < faults / 6:
            self.say(mailbox.Warned(**name, code="mirror_differs", message=""))
        elif not self.responded:
            self.etag = self.source(job)
            if rng.random() < faults / 2 or (self.bytes and self.etag != self._place.etag):
                self.asking = True
                self.say(mailbox.Restart(**name, generation=self.generation, why="changed"))
                return
            self.responded = True
            if rng.random() < 0.2:
                self.back = 0  # one connection for all, which overwrites what is behind
            self.say(
                mailbox.Responded(
                    **name, generation=self.generation, status=200, url=job.url, total=SIZE, kept=self.bytes,
                    validator=mailbox.Validator(etag=self.etag), disposition=None,
                    origins=[f"http://{job.host}"], have=self.ranges,
                )
            )  # fmt: skip
            self._begin()
        elif self.bytes < SIZE and rng.random() < faults / 10:
            # another content in the middle of it
            self.asking, self.responded = True, False
            self.say(mailbox.Restart(**name, generation=self.generation, why="changed"))
        elif self.bytes < SIZE:
            more = rng.choice([1, 2, SIZE // BLOCK]) * BLOCK
            if self.back < HALF and rng.random() < 0.5:
                self.back = min(HALF, self.back + more)
            else:
                self.front = min(HALF, self.front + more)
            self._write()
            self.say(mailbox.Progressed(**name, bytes=self.bytes, total=SIZE, speed=1.0))
        else:
            self._over(mailbox.Finished(**name, size=SIZE))

    def _misbehave(self, rng: Random) -> None:
        job = self.job or Job(seq=0, id="nobody", owner="", host="", area="", url="", directory="",
                              spec_hash=b"", created=0)  # fmt: skip
        forged = rng.randrange(10)
        if self.job is not None and forged > 2:
            self._place.forge()
        if forged <= 2:
            self.die(rng.choice([inputs.Gone.DIED, inputs.Gone.HUNG, inputs.Gone.LEFT]))
        elif forged == 3:
            self.mail.append(inputs.Violation(self.slot, self.incarnation, "garbage"))
        elif forged == 4:
            self._over(mailbox.Stopped(job=job.id, attempt=job.attempt, bytes=0))
        elif forged == 5:
            attempt = job.attempt + rng.choice([-1, 1])
            self.say(mailbox.Finished(job=job.id, attempt=attempt, size=SIZE))
        elif forged == 6:
            bad = rng.choice([[(5, 3)], [(0, 4), (2, 9)], [(0, SIZE + 1)]])
            self.say(mailbox.Synced(job=job.id, attempt=job.attempt, generation=0, ranges=bad))
        elif forged == 7:
            self._over(mailbox.NotModified(job=job.id, attempt=job.attempt))
        elif forged == 8:
            bad_source = mailbox.Failed(
                job=job.id, attempt=job.attempt, code=Code.CONNECT, message="", bytes=0, source=31
            )
            self._over(bad_source)
        else:
            self._over(mailbox.Finished(job=job.id, attempt=job.attempt, size=rng.choice([0, SIZE])))
            if rng.random() < 0.5:
                self.say(mailbox.Restart(job=job.id, attempt=job.attempt, generation=0, why="again"))

    # the files

    @property
    def _place(self) -> Place:
        assert self.place is not None
        return self.place

    def _begin(self) -> None:
        """As `Sink.begin`: what the frontier says, then the cut."""
        self._note(tuple(self.ranges))
        self._place.data.truncate(max((end for _, end in self.ranges), default=0) // BLOCK)

    def _write(self) -> None:
        """As `Stripe.write`: the bytes, then the frontier."""
        known = self._place.frontier.note
        assert isinstance(known, Frontier)
        for block in sorted(blocks(tuple(self.ranges)) - blocks(known.ranges)):
            self._place.data.write(block, int(self.etag[2:-1]))
        self._note(tuple(self.ranges))

    def _note(self, ranges: Ranges) -> None:
        self._place.note(self.generation, ranges, self.etag)

    def _sync(self, rng: Random, faults: float, job: Job) -> bool:
        """As the sync thread: what is there, then the sync, and later the report of it."""
        place, ranges = self._place, tuple(self.ranges)
        if rng.random() < faults / 6:
            place.data.lose(rng)
        early = place.mutant == "early"
        if not early and not place.disk.sync(place.data) and place.mutant != "deaf":
            self.broken = True
            if place.mutant != "trusting":
                place.distrust()
            return False
        self.untold = mailbox.Synced(
            job=job.id, attempt=job.attempt, generation=self.generation, ranges=list(ranges)
        )
        return True

    def _tell(self) -> None:
        if self.untold is not None:
            self.say(self.untold)
        self.untold = None

    @property
    def bytes(self) -> int:
        return self.front + self.back

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """What is there."""
        if self.front == HALF:
            return [(0, self.bytes)]
        return [pair for pair in ((0, self.front), (HALF, HALF + self.back)) if pair[0] < pair[1]]

    def take_up(self, ranges: Ranges) -> None:
        """Go on from these."""
        self.front = max((min(end, HALF) for start, end in ranges if start == 0), default=0)
        self.back = max((end - HALF for _, end in ranges if end > HALF), default=0)

    def say(self, report: mailbox.Report) -> None:
        self.mail.append(inputs.WorkerReport(self.slot, self.incarnation, report))

    def _over(self, report: mailbox.Report) -> None:
        self.say(report)
        self.job = None

    def die(self, cause: inputs.Gone) -> None:
        """The process is no more; its sentinel says so after its last message."""
        if self.alive:
            self.alive, self.job = False, None
            self.mail.append(inputs.WorkerGone(self.slot, self.incarnation, cause))

    # what the supervisor does

    def assign(self, command: AssignJob, place: Place, *, deaf: bool) -> None:
        self.job, self.generation, self.deaf = command.job, command.job.generation, deaf
        self.place, self.untold, self.broken = place, None, False
        self.take_up(place.have)
        self.responded = self.asking = self.stopping = False

    def stop(self, command: StopAttempt) -> None:
        if self.preparing is not None:
            assert (self.preparing.id, self.preparing.attempt) == (command.job, command.attempt)
            self.aborted = True
        elif self.job is not None and (self.job.id, self.job.attempt) == (command.job, command.attempt):
            self.stopping = True

    def proceed(self, command: AllowRestart) -> None:
        if self.job is not None and (self.job.id, self.job.attempt) == (command.job, command.attempt):
            assert self.asking or self.stopping, "a restart that nobody asked for"
            self.asking, self.generation = False, command.generation
            self.front = self.back = 0
