"""What the handlers of requests have in common: their surroundings, look-ups by owner, and the view of a job.

What is found is what the caller may see (`core.rights`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fetchd.daemon.core.core import Core
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.rights import Asker, may_see
from fetchd.daemon.core.view import snapshot
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSnapshot

from .control import Caller, Control
from .engine import Engine, moment


class Facts(msgspec.Struct, kw_only=True):
    """What does not change while the daemon lives, but for the lineage, where a backup is restored.

    `tcp` has, where the daemon listens at TCP, its endpoint there and its public key for the status.
    """

    epoch: str
    lineage: str
    hash_key: bytes
    state_dir: str
    started: int
    started_mono: int
    tcp: dict[str, str] = msgspec.field(default_factory=dict)


class Outside(msgspec.Struct, kw_only=True):
    """What requests need from the rest of the daemon. Every callback runs in the loop, later.

    `lookup(owner, req, ids, paths, then)`: then(stored reply, jobs by ID, reservations by path,
    IDs with secrets, error).
    `resolve(key, owner, directories, then)`: then({directory: (canonical, area)}, error).
    `page(scope, query, then)`, `replay` alike. `events(caller, host)`: where to subscribe. `relative()`:
    whether directories may be relative. `trouble()`: what is wrong with the keys. `schemes()`: the URL
    schemes that have a transfer; slow at the first call.
    """

    lookup: Callable[..., None]
    resolve: Callable[..., None]
    events: Callable[[Asker, str | None], str]
    relative: Callable[[], bool]
    trouble: Callable[[], str | None]
    page: Callable[..., None]
    seq: Callable[[str], int]
    workspace: Callable[[Job], str]
    usage: Callable[[int, int], dict[str, Any]]
    worker_pid: Callable[[int, int], int | None]
    sandbox: Callable[[], dict[str, str]]
    replay: Callable[..., None]
    survey: Callable[..., None]
    discard: Callable[..., None]
    reload: Callable[..., None]
    schemes: Callable[[], frozenset[str]]


class Desk:
    """Where handlers work: the control socket, the engine, and what lies outside."""

    def __init__(self, control_socket: Control, engine: Engine, facts: Facts, outside: Outside) -> None:
        self.control = control_socket
        self.engine = engine
        self.facts = facts
        self.outside = outside

    @property
    def core(self) -> Core:
        return self.engine.core

    def look_up(
        self,
        caller: Caller,
        ids: Sequence[str],
        names: list[tuple[str, str]],
        then: Callable[[dict[str, Job], dict[str, str]], None],
        *,
        stored: bool = True,
    ) -> None:
        """Stored jobs by ID and reservations by path; a stored reply to this request is sent instead."""
        self.look_up_secrets(caller, ids, names, lambda jobs, paths, _held: then(jobs, paths), stored=stored)

    def look_up_secrets(
        self,
        caller: Caller,
        ids: Sequence[str],
        names: list[tuple[str, str]],
        then: Callable[[dict[str, Job], dict[str, str], frozenset[str]], None],
        *,
        stored: bool = True,
    ) -> None:
        """The same, with the IDs among these whose secrets are kept, all as of one moment."""

        def found(
            reply: tuple[bytes, bytes] | None,
            jobs: dict[str, Job],
            paths: dict[str, str],
            held: frozenset[str],
            error: BaseException | None,
        ) -> None:
            if error is not None:
                self.control.refuse(caller, FetchdError(Code.STORE_FAILED, str(error)))
            elif reply is None:
                then(jobs, paths, held)
            elif reply[0] == caller.digest:
                self.control.reply_encoded(caller, reply[1])
            else:
                text = "this request ID was used for another request"
                self.control.refuse(caller, FetchdError(Code.CONFLICT, text))

        self.outside.lookup(caller.owner if stored else None, caller.req, ids, names, found)

    def visible(self, caller: Caller, ids: Sequence[str], stored: dict[str, Job]) -> dict[str, Job]:
        """The jobs among these that the caller may see, memory before store."""
        found = {}
        for job_id in ids:
            job = self.core.ledger.lookup(job_id, stored)
            if job is not None and may_see(caller, job.owner):
                found[job_id] = job
        return found

    def view(self, job: Job) -> JobSnapshot:
        """A job as the outside sees it now."""
        run = self.core.runs.get(job.id)
        now = moment()
        lying = job.attempt > 0 and not job.terminal
        return snapshot(
            job,
            shown=self.core.shown(job),
            run=run,
            workspace=self.outside.workspace(job) if lying else None,
            seq=self.outside.seq(job.id),
            not_before=self.core.gates.opens(job, now.wall - now.mono),
            error=self.core.gates.error(job),
        )

    def freshened(self, entry: dict[str, Any]) -> JobSnapshot:
        """A job from a page of the store, with what memory knows better."""
        job = self.core.ledger.find(entry["id"])
        if job is not None:
            return self.view(job)
        found = msgspec.convert(entry, JobSnapshot)
        return msgspec.structs.replace(found, seq=self.outside.seq(found.id))
