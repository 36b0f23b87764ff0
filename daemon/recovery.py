"""Recovery at a start: what lies in the staging areas, what the core makes of it, and the report of that.

Part of the composition root. Only what lies there is looked up: jobs without a workspace cost nothing.
"""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from fetchd.daemon.core.job import Job
from fetchd.daemon.core.recovery import Action, Adopt, Finding, Park, Republish, Sweep, plan
from fetchd.protocol.ids import is_correlation_id
from fetchd.protocol.journal import boot_id

from .service import report
from .store.database import Database
from .supervise.area import Areas
from .supervise.leftovers import carry_out, collect

logger = logging.getLogger("fetchd")

AT_ONCE = 1000
"""Jobs that are looked up together."""

TOLD = 20
"""Surprises that are logged; of the others only the number is."""

VERBS = {Adopt: "adopted", Republish: "republished", Park: "parked", Sweep: "swept"}


def recover(
    areas: Areas, database: Database, state: Path, publishing: Iterable[Job], *, restored: bool
) -> None:
    """Put in order what earlier lives left in all areas. Nobody works there meanwhile.

    What no job is known of is parked if the database was `restored`, or is another one than at the last
    recovery; in areas that are out of reach now that is done when they are back.
    """
    lineage, last = database.identity("lineage", 8).hex(), report.read(state)
    other = restored or last.get("lineage") != lineage
    missed = before = set(last.get("missed", ()))
    if other:
        areas.take_strays()
        missed = set(database.areas())
    tally = Tally()
    waiting = {job.id: job for job in publishing}
    for area in areas.known():
        if areas.mend(area):
            unknown = other or area in missed
            carry_out(area, tally.over(_planned(area, database, waiting, restored=unknown)))
            areas.put_in_order(area)
            missed = missed - {area}
    areas.recovered = True
    for _ in tally.over(plan((), waiting, boot_id(), restored=other)):
        pass
    try:
        tally.tell(state)
        if missed != before:
            report.note(state, "missed", sorted(missed))
        if other:
            # from now on what no job is known of is swept, so this comes last
            report.note(state, "lineage", lineage)
    except OSError as error:
        # the next start parks what it could have deleted: no harm
        logger.warning("the report of the recovery cannot be written: %s", error)


def _planned(
    area: str, database: Database, publishing: dict[str, Job], *, restored: bool
) -> Iterator[Action]:
    """The actions for an area. Takes the jobs that it has seen there out of `publishing`."""
    found: dict[str, list[Finding]] = {}
    for one in collect(area):
        found.setdefault(one.name, []).append(one)
    for names in _batched(found):
        jobs = {job.id: job for job in database.by_ids(_named(names)).values() if job.area == area}
        for job_id in jobs:
            publishing.pop(job_id, None)
        several = (one for name in names for one in found[name])
        yield from plan(several, jobs, boot_id(), restored=restored)


def _batched(names: Iterable[str]) -> Iterator[list[str]]:
    """Up to `AT_ONCE` of them at a time."""
    left = iter(names)
    while part := list(itertools.islice(left, AT_ONCE)):
        yield part


def _named(names: Iterable[str]) -> list[str]:
    """Those that can be the names of jobs: a worker may have left any."""
    return [name for name in names if is_correlation_id(name)]


class Tally:
    """What was done, as it is reported."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._surprises = 0

    def over(self, actions: Iterable[Action]) -> Iterator[Action]:
        """The same actions, counted on their way, the first surprises logged."""
        for action in actions:
            verb = VERBS[type(action)]
            self._counts[verb] += 1
            if isinstance(action, (Adopt, Republish)) and action.found is not None:
                self._bytes += action.found.size or 0
            if action.surprising:
                self._surprises += 1
                if self._surprises <= TOLD and action.found is not None:
                    logger.warning("%s %r: %s", verb, action.found.path, action.why)
            yield action

    def tell(self, state: Path) -> None:
        """One line, and the same for `doctor`; nothing where there was nothing."""
        if not self._counts:
            return
        counts = {verb: self._counts[verb] for verb in VERBS.values()}
        more = f"; {self._surprises - TOLD} more of this are not listed" if self._surprises > TOLD else ""
        text = ", ".join(f"{count} {verb}" for verb, count in counts.items())
        logger.info("workspaces: %s, %d bytes kept%s", text, self._bytes, more)
        report.note(state, "recovery", {"time": time.time_ns() // 1000, **counts, "bytes": self._bytes})


def told(state: Path) -> tuple[Literal["ok", "warn"], str, str | None]:
    """For `doctor`: the last recovery that found something, and what to do about what is parked."""
    last = report.read(state).get("recovery")
    if last is None:
        return "ok", "never needed", None
    when = datetime.fromtimestamp(last["time"] / 1e6).astimezone().isoformat(sep=" ", timespec="seconds")
    counts = ", ".join(f"{last[verb]} {verb}" for verb in VERBS.values())
    text = f"{when}: {counts}; {last['bytes'] / (1 << 20):.1f} MiB kept"
    if not any((state / ".fetchd").glob("*/parked/*")):
        return "ok", text, None
    advice = (
        "fetchd workspace ls shows what is parked as orphans, fetchd workspace clean --orphans deletes it"
    )
    return "warn", text, advice
