"""What has to hold when a campaign is over: acknowledgements, contents, names, and that nothing is left."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from support.content import sha256_file

from fetchd.client import Client
from fetchd.protocol.errors import Code
from fetchd.protocol.job import JobSnapshot, State

from .ledger import Entry, Ledger
from .publications import Publications, asked_name
from .witness import Witness

BY_KILLS = frozenset({Code.POISONED})
BY_OTHERS = frozenset({Code.EXISTS, Code.PATH_RESERVED})
"""What a job may fail with because its worker was killed, and because others want its name."""

MOST_TWICE, ENOUGH = 0.1, 20_000_000
"""The share of the bytes that may be fetched twice, those under way aside, and of how many bytes it is asked.
The goal is a hundredth; a busy machine has more under way, and beginning anew would be half of everything."""


def held(client: Client, ledger: Ledger) -> Iterator[str]:
    """Acknowledged pauses that do not hold, before anybody resumes them."""
    wanted = [entry.id for entry in ledger.entries.values() if entry.is_held]
    for job_id, snapshot in client.find(wanted).items():
        if snapshot.state is not State.PAUSED:
            yield f"{job_id}: its pause was acknowledged, and it is {snapshot.state}"


def jobs(found: dict[str, JobSnapshot], ledger: Ledger) -> Iterator[str]:
    """Every job by itself: it is there, and it has ended as it was told and as it may."""
    for entry in ledger.entries.values():
        snapshot = found.get(entry.id)
        if snapshot is None:
            if entry.acked:
                yield f"{entry.id}: its submit was acknowledged, and it is lost"
            continue
        if entry.refused is not None:
            yield f"{entry.id}: its submit was refused ({entry.refused}), and it is there"
        told = entry.id in ledger.completed or any(told.state == State.COMPLETED for told in entry.told)
        if told and snapshot.state is not State.COMPLETED:
            yield f"{entry.id}: it was said to be completed, and it is {snapshot.state}"
        cancelled = snapshot.state is State.CANCELLED
        if entry.is_cancelled and not cancelled:
            yield f"{entry.id}: its cancel was acknowledged, and it is {snapshot.state}"
        if cancelled and not any(told.verb == "cancel" for told in entry.told):
            yield f"{entry.id}: cancelled, and nobody asked for it"
        if snapshot.state is State.FAILED:
            code = snapshot.error.code if snapshot.error else "no error"
            if code not in BY_KILLS | entry.goods.failures | (BY_OTHERS if entry.shared else set()):
                yield f"{entry.id} ({entry.goods.kind}): failed with {snapshot.error}"
            if code == Code.POISONED and snapshot.attempt < 3:
                yield f"{entry.id}: poisoned at attempt {snapshot.attempt}"


def delivered(
    found: dict[str, JobSnapshot], ledger: Ledger, publications: Publications, places: Iterable[Path]
) -> Iterator[str]:
    """The files: each is the delivery of a job, has a content that its URL had, and was published once."""
    by_path: dict[Path, list[Entry]] = defaultdict(list)
    for entry in ledger.entries.values():
        snapshot = found.get(entry.id)
        if snapshot is not None and snapshot.state is State.COMPLETED and snapshot.reason is None:
            by_path[Path(snapshot.path or "")].append(entry)
    files = {file for place in places for file in place.iterdir() if file.name != ".fetchd"}
    for file in files - by_path.keys():
        yield f"{file}: no job says that it has delivered it"
    for path, entries in by_path.items():
        names = ", ".join(entry.id for entry in entries)
        if path not in files:
            yield f"{names}: {path} was delivered and is not there"
            continue
        versions = frozenset[str]().union(*(entry.goods.versions for entry in entries))
        if sha256_file(path) not in versions:
            yield f"{names}: {path} has a content that no URL of theirs had"
        if sum(entry.policy != "overwrite" for entry in entries) > 1:
            yield f"{names}: all of them say that they have made {path}"
        if publications.seen[path] != len(entries):
            yield f"{names}: {path} was published {publications.seen[path]} times"
        if path.name != asked_name(path.name) and not any(e.shared and e.policy == "rename" for e in entries):
            yield f"{names}: {path} has a number that nobody asked for"


def fetched_twice(
    found: dict[str, JobSnapshot], ledger: Ledger, origin: Witness
) -> tuple[int, int, int, int]:
    """(files, their bytes, bytes fetched beyond them, those of them that were under way at a break).

    Of steady files whose connections broke, by a kill or a pause, and that nobody made begin anew.
    """
    files = size = beyond = under_way = 0
    for entry in ledger.entries.values():
        goods, snapshot = entry.goods, found.get(entry.id)
        if not goods.steady or snapshot is None or snapshot.state is not State.COMPLETED:
            continue
        broken, more, lost = origin.twice(goods.path, goods.size)
        if not broken or any(told.verb in ("cancel", "retry") for told in entry.told):
            continue
        files, size, beyond, under_way = files + 1, size + goods.size, beyond + more, under_way + lost
    return files, size, beyond, under_way
