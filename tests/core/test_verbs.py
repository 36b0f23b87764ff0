"""Each verb on a job in each state, by `SPEC.md`'s table: what becomes of the job, and what is answered."""

from collections.abc import Callable

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import Reply
from fetchd.daemon.core.job import Job
from fetchd.protocol import mailbox
from fetchd.protocol.control import Outcome
from fetchd.protocol.errors import Code
from fetchd.protocol.job import State

from . import make
from .make import Walk, bulk, intake, job, submit, verb

VERBS: tuple[inputs.VerbName, ...] = ("cancel", "pause", "resume", "retry", "remove")
STOPPED = mailbox.Stopped(job="job", attempt=1, bytes=0)
Q, W, R, B, P = State.QUEUED, State.WAITING, State.RUNNING, State.PUBLISHING, State.PAUSED
D, F, C = State.COMPLETED, State.FAILED, State.CANCELLED
LATE, NONE, CLOSED, GONE = Code.TOO_LATE, Code.NO_SUCH_JOB, Code.QUEUE_PAUSED, Code.SECRETS_GONE


def stored(**fields: object) -> Callable[[], Walk]:
    """A job that memory does not have."""

    def lead() -> Walk:
        walk = Walk()
        row = job("job", **fields)
        walk.core, _ = make.new_core(workers=1, counts={row.state: 1}, seq=1, delivered=row.size)
        walk.stored["job"] = row
        return walk

    return lead


def in_window() -> Walk:
    walk = Walk()
    walk.core, _ = make.new_core(workers=1)
    walk.do(submit(intake("other")))
    walk.do(submit(intake()))
    return walk


def led(*steps: str) -> Callable[[], Walk]:
    def lead() -> Walk:
        walk = Walk()
        for step in steps:
            getattr(walk, step)()
        return walk

    return lead


def after(*verbs: inputs.VerbName, steps: tuple[str, ...] = ("respond",)) -> Callable[[], Walk]:
    """The verbs on a running job, whose worker has not stopped yet."""

    def lead() -> Walk:
        walk = led(*steps)()
        for number, name in enumerate(verbs):
            walk.do(verb(name, "job", req=f"before {number}"))
        return walk

    return lead


def settled(name: inputs.VerbName) -> Callable[[], Walk]:
    def lead() -> Walk:
        walk = after(name)()
        walk.say(STOPPED)
        return walk

    return lead


def failing(code: Code, kept: int = 500, **spec: object) -> Callable[[], Walk]:
    def lead() -> Walk:
        walk = Walk(**spec)
        walk.respond()
        walk.say(make.failed(code, kept=kept))
        return walk

    return lead


def named_wrong() -> Walk:
    """Failed because of its name, while the worker still fetches."""
    walk = led("respond")()
    walk.name(taken=("f", "f (1)"))
    return walk


def behind_a_closed_queue(lead: Callable[[], Walk]) -> Callable[[], Walk]:
    def closed() -> Walk:
        walk = lead()
        walk.do(bulk("pause"))
        return walk

    return closed


def foreign() -> Walk:
    return stored(owner="uid:2")()


# situation: the state after each verb and the code, in the order of VERBS
Row = tuple[Callable[[], Walk], tuple[tuple[State | None, Code | None], ...]]
LIVE = ((C, None), (P, None))
DONE: tuple[tuple[State | None, Code | None], ...] = (
    (D, LATE),
    (D, LATE),
    (D, LATE),
    (D, LATE),
    (None, None),
)
REVIVED: tuple[tuple[State | None, Code | None], ...] = (
    (F, LATE), (F, LATE), (F, LATE), (R, None), (None, None)
)  # fmt: skip
TABLE: dict[str, Row] = {
    "queued in window": (in_window, (*LIVE, (Q, None), (Q, None), (None, None))),
    "queued only in the store": (stored(), (*LIVE, (Q, None), (Q, None), (None, None))),
    "queued, closed": (
        behind_a_closed_queue(in_window), ((C, None), (P, None), (P, CLOSED), (P, None), (None, None))
    ),
    "waiting": (failing(Code.CONNECT), (*LIVE, (W, None), (R, None), (None, None))),
    "waiting only in the store": (
        stored(state=W, wait_until=9 * 10**12), (*LIVE, (W, None), (R, None), (None, None))
    ),
    "waiting, closed": (
        behind_a_closed_queue(failing(Code.CONNECT)),
        ((C, None), (P, None), (W, None), (P, None), (None, None)),
    ),
    "starting": (led(), (*LIVE, (R, None), (R, None), (None, None))),
    "assigned": (led("ready"), (*LIVE, (R, None), (R, None), (None, None))),
    "responded": (led("respond"), (*LIVE, (R, None), (R, None), (None, None))),
    "sealing": (led("finish"), ((C, None), (R, LATE), (R, None), (R, None), (None, None))),
    "publishing": (led("seal"), ((B, LATE), (B, LATE), (B, LATE), (B, LATE), (B, LATE))),
    "pausing": (after("pause"), ((C, None), (P, None), (Q, None), (P, None), (None, None))),
    "pausing, resumed": (after("pause", "resume"), (*LIVE, (Q, None), (Q, None), (None, None))),
    "paused": (settled("pause"), ((C, None), (P, None), (R, None), (P, None), (None, None))),
    "paused only in the store": (
        stored(state=P), ((C, None), (P, None), (R, None), (P, None), (None, None))
    ),
    "paused, closed": (
        behind_a_closed_queue(settled("pause")),
        ((C, None), (P, None), (P, None), (P, None), (None, None)),
    ),
    "completed": (stored(state=D, attempt=1, size=7), DONE),
    "failed, kept": (failing(Code.NOT_FOUND), REVIVED),
    "failed, not kept": (failing(Code.NOT_FOUND, kept=0), REVIVED),
    "failed, ending": (
        named_wrong, ((F, LATE), (F, LATE), (F, LATE), (Q, None), (None, None))
    ),
    "failed, without its secrets": (
        stored(state=F, secret=True), ((F, LATE), (F, LATE), (F, LATE), (F, GONE), (None, None))
    ),
    "cancelled": (settled("cancel"), ((C, None), (C, LATE), (C, LATE), (R, None), (None, None))),
    "cancelled, ending": (after("cancel"), ((C, None), (C, LATE), (C, LATE), (Q, None), (None, None))),
    "cancelled, ending, retried": (
        after("cancel", "retry"), (*LIVE, (Q, None), (Q, None), (None, None))
    ),
    "cancelled, without its secrets": (
        stored(state=C, secret=True), ((C, None), (C, LATE), (C, LATE), (C, GONE), (None, None))
    ),
    "removed": (after("remove"), ((None, NONE),) * 5),
    "unknown": (lambda: led()().forgotten(), ((None, NONE),) * 5),
    "foreign": (foreign, ((None, NONE),) * 5),
}  # fmt: skip


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("situation", TABLE)
def test_every_verb_in_every_state(situation: str, name: inputs.VerbName) -> None:
    lead, expected = TABLE[situation]
    walk = lead()
    before = walk.core.ledger.revision
    state, code = expected[VERBS.index(name)]
    outcome = ask(walk, name)
    assert outcome.code == code
    # what may run at once does so in the same turn, after the answer
    after_it = State.QUEUED if state is R and outcome.state is Q else state
    assert outcome.state == after_it
    found = walk.core.ledger.lookup("job", walk.stored)
    if situation == "foreign":
        assert found is not None
        return
    shown = None if found is None else walk.core.gates.shown(found)[0]
    assert shown == state
    if code == NONE:
        assert outcome.revision == 0
    elif found is None:
        assert outcome.revision > before
    again = ask(walk, name, "again")
    if name == "remove" and code is None:
        assert again.code == NONE
    elif code is None:
        # once a job is not paused by itself any more, only the closed queue holds it
        refused = CLOSED if (situation, name) == ("paused, closed", "resume") else None
        assert (again.state, again.code) == (state, refused), "twice is once"


def ask(walk: Walk, name: inputs.VerbName, req: str = "asked") -> Outcome:
    reply = make.of(walk.do(verb(name, "job", req=req, known=dict(walk.stored))), Reply)[0]
    outcome = reply.body.jobs[0]
    assert isinstance(outcome, Outcome)
    return outcome


def test_a_verb_for_many_does_what_it_can() -> None:
    walk = led("seal")()
    walk.do(submit(intake("a")))
    reply = make.of(walk.do(verb("cancel", "job", "nobody", "a", "a")), Reply)[0]
    codes = [outcome.code for outcome in reply.body.jobs]
    assert codes == [LATE, NONE, None, None]


def test_counts_follow_every_verb() -> None:
    for lead, _ in TABLE.values():
        for name in VERBS:
            walk = lead()
            ask(walk, name)
            found: Job | None = walk.core.ledger.lookup("job", walk.stored)
            counts = {state: n for state, n in walk.core.ledger.counts.items() if n}
            others = walk.core.ledger.find("other") is not None
            assert sum(counts.values()) == (found is not None) + others
            assert found is None or counts[found.state] >= 1
