"""What the store tells the core: that a commit is done, and rows that were asked for.

Rows may be older than memory: what memory has, live or unsettled, wins. What is unsettled may be missing from
the store's answer, and is merged in.
"""

from heapq import nsmallest
from itertools import takewhile
from typing import TYPE_CHECKING

from fetchd.protocol.job import State

from . import inputs
from .job import Moment

if TYPE_CHECKING:
    from .core import Core


def committed(core: "Core", event: inputs.Committed, _now: Moment) -> None:
    """The store has everything up to this stamp."""
    core.ledger.settle(event.stamp)
    # until then an answer is repeated from memory, and afterwards from the store
    settled = list(takewhile(lambda key: core.replies[key][0] <= event.stamp, core.replies))
    for key in settled:
        del core.replies[key]


def window_loaded(core: "Core", event: inputs.WindowLoaded, _now: Moment) -> None:
    """Rows of a lane, merged with those that are too new for the store to have had them."""
    window = core.schedule.answered(event.lane)
    if window is None:
        return
    more, last = event.more, event.rows[-1].order if event.rows else window.tail
    fresh = [row for row in core.ledger.current(event.rows) if row.state is State.QUEUED]
    for job in core.ledger.unsettled.queued(event.lane):
        behind = window.tail is None or job.order > window.tail
        reached = not more or (last is not None and job.order <= last)
        stopping = job.id in core.runs or job.id in core.ending
        if behind and reached and not stopping:
            fresh.append(job)
    room = 2 * core.schedule.window_size()
    if len(fresh) > room:
        fresh = nsmallest(room, fresh, key=lambda job: job.order)
        more, last = True, fresh[-1].order
    for job in fresh:
        core.ledger.hold(job)
    for job in core.schedule.extend(event.lane, fresh, more, last):
        core.ledger.release(job)


def lanes_loaded(core: "Core", event: inputs.LanesLoaded, _now: Moment) -> None:
    """Lanes of the store; where it has no more, unsettled jobs may be in lanes that it does not know yet."""
    for job in core.schedule.lanes_loaded(event.lanes, event.more, core.held):
        core.ledger.release(job)
    if core.schedule.beyond:
        return
    for lane in core.ledger.unsettled.lanes():
        if lane not in core.schedule.lanes:
            for job in list(core.ledger.unsettled.queued(lane)):
                core.enqueue(job)


def due_loaded(core: "Core", event: inputs.DueLoaded, _now: Moment) -> None:
    """Waiting rows, merged with unsettled ones that the new horizon now covers."""
    if not core.waiting.answered():
        return
    rows = [row for row in core.ledger.current(event.rows) if row.state is State.WAITING]
    for job in core.ledger.unsettled.waiting():
        covered = event.until is None or job.wait_until <= event.until
        if covered and job.id not in core.ledger.live:
            rows.append(job)
    for job in rows:
        core.ledger.hold(job)
    core.waiting.extend(rows, event.until)
