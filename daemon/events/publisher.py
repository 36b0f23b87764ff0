"""The events. Never waits for a subscriber: one that does not read loses messages and can tell.

Lifecycle events are published when they are on disk, progress at once. The last value of a job is sent again
to whoever subscribes to exactly that job. A private daemon has one socket for everything. A shared one has it
for its admins, and one for each other owner, with the events of that owner's jobs and the same numbers. One
that listens at TCP has the same there for those who come by a key.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from fetchd.daemon.core.commands import Event, Progress
from fetchd.daemon.core.rights import Asker, has_key, in_scope, scope
from fetchd.daemon.core.view import eta
from fetchd.daemon.service.doors import Doors
from fetchd.daemon.service.tcp import Tcp
from fetchd.protocol import events
from fetchd.protocol.codec import encode
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.frames import job_of_subscription, job_topic, sys_topic
from fetchd.protocol.version import PROTOCOL

from .outlet import FarOutlet, Outlet

KEEP = 4096
"""Jobs whose last values are kept, those that changed least recently go first."""

MOST = 256
"""Owners that have a socket; one that nobody listens to makes way for another's."""


class _Message(NamedTuple):
    kind: str
    seq: int
    revision: int | None
    time: int
    body: bytes


class _Last:
    __slots__ = ("lifecycle", "owner", "progress", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.owner = ""
        self.lifecycle: _Message | None = None
        self.progress: _Message | None = None


class Publisher:
    """All events sockets, the first one at `path`. `opened` and `closed` are told of the others, and of each
    that is opened anew."""

    def __init__(
        self, doors: Doors, path: Path, epoch: str, passed: int | None = None, tcp: Tcp | None = None
    ) -> None:
        self._doors = doors
        self._tcp = tcp
        self._epoch = epoch
        self._last: OrderedDict[str, _Last] = OrderedDict()
        self._highest_forgotten = 0
        self._numbers = count(1)
        self._everything = Outlet(doors, path, None, passed)
        self._of: dict[str | None, Outlet] = {}
        self.endpoint = self._everything.endpoint
        self.path = path
        self.opened: Callable[[Outlet, Callable[[], None]], None] = lambda _outlet, _take: None
        self.closed: Callable[[Outlet], None] = lambda _outlet: None

    @property
    def socket(self) -> Any:
        """The first one."""
        return self._everything.socket

    def close(self) -> None:
        for outlet in self._outlets():
            outlet.close()

    def endpoint_of(self, asker: Asker, host: str | None = None) -> str:
        """Where this caller, who dialled this host, may subscribe. Raises `busy` where too many listen."""
        owner = scope(asker)
        if owner is None and not has_key(asker):
            return self.endpoint
        if owner not in self._of:
            self._make_room()
            outlet = self._of[owner] = self._made(owner, far=has_key(asker))
            self.opened(outlet, partial(self._take, outlet))
        return self._of[owner].at(host)

    def _made(self, owner: str | None, *, far: bool) -> Outlet:
        if far:
            assert self._tcp is not None
            return FarOutlet(self._doors, self._tcp, owner)
        return Outlet(self._doors, self.path.with_name(f"{self.path.name}-{next(self._numbers)}"), owner)

    def drop(self, lost: Iterable[Asker]) -> None:
        """These have come in by keys that do not stand for them any more: nothing more is sent to them.

        Others who listen at the same sockets, at all of them if an admin was among these, come again at once.
        """
        owners = {scope(asker) for asker in lost}
        for owner in self._of if None in owners else owners:
            outlet = self._of.get(owner)
            if isinstance(outlet, FarOutlet):
                self._reopen(outlet)

    def renew(self) -> None:
        """Whose rights have gone hears no more: everybody has to come in anew, and who still may does so."""
        for outlet in self._outlets():
            self._reopen(outlet)

    def _reopen(self, outlet: Outlet) -> None:
        self.closed(outlet)
        outlet.reopen()
        self.opened(outlet, partial(self._take, outlet))

    def take(self) -> None:
        """Look at new subscriptions to everything, and send last values."""
        self._take(self._everything)

    def _take(self, outlet: Outlet) -> None:
        for topic in outlet.subscriptions():
            job = job_of_subscription(topic)
            last = self._last.get(job) if job is not None else None
            if last is not None and job is not None and in_scope(outlet.owner, last.owner):
                for message in (last.lifecycle, last.progress):
                    if message is not None:
                        outlet.send(self._frames(job, message))

    def seq(self, job: str) -> int:
        """The number of the last event published for a job in this epoch."""
        last = self._last.get(job)
        return 0 if last is None else last.seq

    def announce(self, event: Event, body: bytes) -> None:
        """Publish a lifecycle event that is on disk."""
        job = event.job.id
        last = self._touch(job, event.job.owner, new=event.time == event.job.created)
        last.seq += 1
        last.lifecycle = _Message(event.kind, last.seq, event.revision, event.time, body)
        last.progress = None
        self._publish(job, last.owner, last.lifecycle)

    def progress(self, command: Progress) -> None:
        """Publish how far an attempt is; workers report at the rate that is wanted here."""
        last = self._touch(command.job, command.owner, new=False)
        last.seq += 1
        body = encode(
            events.Progress(
                attempt=command.attempt,
                bytes=command.bytes,
                total=command.total,
                speed=command.speed,
                eta=eta(command.bytes, command.total, command.speed),
            )
        )
        last.progress = _Message(events.PROGRESS, last.seq, None, time.time_ns() // 1000, body)
        self._publish(command.job, last.owner, last.progress)

    def heartbeat(self, revision: int) -> None:
        """Tell quiet watchers how far we are."""
        body = events.Heartbeat(epoch=self._epoch, revision=revision)
        self._system(self._outlets(), events.HEARTBEAT, body, revision)

    def listeners(self) -> list[str | None]:
        """The owners whose sockets somebody listens at; None: that of admins."""
        return [outlet.owner for outlet in self._outlets() if self._hears(outlet)]

    def metrics(self, of: Mapping[str | None, events.Metrics], revision: int) -> None:
        """Tell each of these owners, and admins (None), what they may know."""
        for outlet in self._outlets():
            if outlet.owner in of:
                self._system((outlet,), events.METRICS, of[outlet.owner], revision)

    def _system(self, outlets: Iterable[Outlet], kind: str, body: Struct, revision: int) -> None:
        header = events.EventHeader(
            v=PROTOCOL,
            epoch=self._epoch,
            seq=0,
            revision=revision,
            time=time.time_ns() // 1000,
            type=kind,
            job=None,
        )
        frames = [sys_topic(kind), encode(header), encode(body)]
        for outlet in outlets:
            outlet.send(frames)

    def _touch(self, job: str, owner: str, *, new: bool) -> _Last:
        last = self._last.get(job)
        if last is None:
            last = self._last[job] = _Last()
            # numbers of a job never go back; a jump tells a subscriber to take a snapshot
            last.seq = 0 if new else self._highest_forgotten
            if len(self._last) > KEEP:
                self._highest_forgotten = max(self._highest_forgotten, self._last.popitem(last=False)[1].seq)
        else:
            self._last.move_to_end(job)
        last.owner = owner
        return last

    def _publish(self, job: str, owner: str, message: _Message) -> None:
        """To whoever may hear it. Most of the time of a burst of submits nobody listens at all."""
        frames: list[bytes] | None = None
        for outlet in (self._everything, self._of.get(None), self._of.get(owner)):
            if outlet is not None and self._hears(outlet):
                frames = frames or self._frames(job, message)
                outlet.send(frames)

    def _hears(self, outlet: Outlet) -> bool:
        if not outlet.heard and outlet.news:
            self._take(outlet)
        return outlet.heard

    def _frames(self, job: str, message: _Message) -> list[bytes]:
        header = events.EventHeader(
            v=PROTOCOL,
            epoch=self._epoch,
            seq=message.seq,
            revision=message.revision,
            time=message.time,
            type=message.kind,
            job=job,
        )
        return [job_topic(job, message.kind), encode(header), message.body]

    def _outlets(self) -> tuple[Outlet, ...]:
        return (self._everything, *self._of.values())

    def _make_room(self) -> None:
        if len(self._of) < min(MOST, self._doors.most // 10):  # each takes five descriptors
            return
        idle = next((name for name, outlet in self._of.items() if not (outlet.heard or outlet.news)), None)
        if idle is None:
            raise FetchdError(Code.BUSY, "too many users listen to events", retry_after=60.0)
        outlet = self._of.pop(idle)
        self.closed(outlet)
        outlet.close()
