"""What a worker is told about its attempt: the job's wishes, the usual where it has none, and its secrets."""

from typing import TypeVar

from msgspec import Struct

from fetchd.daemon.core.job import Job
from fetchd.daemon.sandbox.room import Mode
from fetchd.protocol import mailbox
from fetchd.protocol.mailbox import Secrets

from .workspace import Prepared

T = TypeVar("T")

RESTARTS_WITH_RANGES = 2
"""A server that has answered ranges so often by other content is asked for the whole."""


class Settings(Struct, frozen=True, kw_only=True):
    """What workers are given. Times in seconds, sizes in bytes, speeds in bytes a second; 0: no limit."""

    connect_timeout: float
    read_timeout: float
    ca_bundle: str
    workers_lock: str
    min_speed: int = 0
    min_speed_time: float = 60.0
    max_size: int = 0
    sandbox: Mode = "best-effort"
    network: mailbox.Network = mailbox.Network()


def assignment(
    usual: Settings, job: Job, hidden: Secrets, prepared: Prepared, allowed: tuple[int, int | None]
) -> mailbox.Assign:
    """The message that hands an attempt over. `allowed`: connections, and bytes a second or None."""
    wishes = job.options
    return mailbox.Assign(
        job=job.id,
        attempt=job.attempt,
        workspace=prepared.path,
        url=hidden.url or job.url,
        headers=hidden.headers,
        checksum=job.checksum,
        generation=job.generation,
        have=list(prepared.have),
        validator=prepared.validator,
        total=prepared.total,
        connect_timeout=_wish(wishes.connect_timeout, usual.connect_timeout),
        read_timeout=_wish(wishes.read_timeout, usual.read_timeout),
        options=wishes,
        mirrors=list(hidden.mirrors or wishes.mirrors),
        source=job.source,
        alone=job.alone,
        ranges=job.restarts < RESTARTS_WITH_RANGES,
        credentials=hidden.credentials,
        cookies=hidden.cookies,
        proxy=hidden.proxy or wishes.proxy,
        client_certificate=hidden.client_certificate,
        ca=hidden.ca,
        min_speed=_wish(wishes.min_speed, usual.min_speed),
        min_speed_time=_wish(wishes.min_speed_time, usual.min_speed_time),
        max_size=_least(wishes.max_size, usual.max_size),
        connections=allowed[0],
        rate=allowed[1],
        newer_than=prepared.newer_than,
        network=usual.network,
    )


def _least(wanted: int | None, most: int) -> int | None:
    """What the job allows and the configuration, the smaller of them; 0: anything."""
    return min((size for size in (wanted or 0, most) if size), default=None)


def _wish(wanted: T | None, usual: T) -> T:
    """What the job wants, or else what is configured."""
    return usual if wanted is None else wanted
