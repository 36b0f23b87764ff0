"""Short ways to make what the tests of the core are about."""

from random import Random
from typing import Any

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import Command
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.intake import Intake
from fetchd.daemon.core.job import Job, Lane, Moment
from fetchd.daemon.core.settings import Settings
from fetchd.protocol import mailbox
from fetchd.protocol.errors import Code
from fetchd.protocol.job import JobSpec

SECOND = 1_000_000
WALL = 1_800_000_000 * SECOND
AREA = "/data/.fetchd/one"
PLAIN = mailbox.Options()
VALIDATOR = mailbox.Validator(etag='"v1"')


def moment(seconds: float = 100.0, rand: float = 0.5) -> Moment:
    """A moment at so many seconds of the boot-time clock."""
    mono = int(seconds * SECOND)
    return Moment(mono, WALL + mono, rand)


def job(job_id: str = "job", seq: int = 1, **fields: Any) -> Job:
    """A stored job."""
    values: dict[str, Any] = {
        "owner": "uid:1", "host": "a.test", "area": AREA, "url": f"http://{fields.get('host', 'a.test')}/f",
        "directory": "/data", "spec_hash": b"h" * 16, "created": WALL,
    }  # fmt: skip
    return Job(seq=seq, id=job_id, **{**values, **fields})


def intake(
    job_id: str = "job", host: str = "a.test", secrets: bytes | None = None,
    options: mailbox.Options = PLAIN, area: str = AREA, **spec: Any,
) -> Intake:  # fmt: skip
    """A checked job of a submit."""
    made = JobSpec(url=f"http://{host}/f", directory="/data", **spec)
    return Intake(
        id=job_id, spec=made, url=made.url, host=host, checksum=None, spec_hash=f"{spec}".encode(),
        secrets=secrets, directory="/data", area=area, options=options,
    )  # fmt: skip


def request(
    req: str = "r1", owner: str = "uid:1", digest: bytes = b"d", *, admin: bool = False
) -> inputs.Request:
    return inputs.Request(owner, req, digest, (owner, req), admin)


def submit(*jobs: Intake, req: str = "", **fields: Any) -> inputs.Submit:
    """A submit under a request ID of its own."""
    asked = request(req or "s-" + "-".join(one.id for one in jobs[:3]))
    return inputs.Submit(**{"request": asked, "jobs": jobs, "known": {}, "paths": {}, **fields})


def cancel(*ids: str, req: str = "", known: dict[str, Job] | None = None) -> inputs.Verb:
    return inputs.Verb(request(req or "c-" + "-".join(ids)), "cancel", ids, known or {})


def verb(name: inputs.VerbName, *ids: str, req: str = "", known: dict[str, Job] | None = None) -> inputs.Verb:
    """A verb for jobs whose secrets are all there as far as the store knows."""
    asked = request(req or f"{name}-" + "-".join(ids))
    return inputs.Verb(asked, name, ids, known or {}, frozenset(ids))


def bulk(name: inputs.VerbName, *, failed: bool = False, req: str = "", owner: str = "uid:1") -> inputs.Bulk:
    return inputs.Bulk(request(req or f"bulk-{name}-{failed}", owner), name, failed)


def new_core(
    now: Moment | None = None, *, workers: int = 2, settings: dict[str, Any] | None = None, **loaded: Any
) -> tuple[Core, list[Command]]:
    """A started core whose store has no lanes and no waits, and what it did first."""
    core = Core(Settings(workers=workers, default_area=AREA, **(settings or {})), Loaded(**loaded))
    now = now or moment()
    commands = core.start(now)
    commands += core.handle(inputs.LanesLoaded((), more=False), now)
    commands += core.handle(inputs.DueLoaded((), until=None), now)
    return core, commands


def choose_quotas(rng: Random) -> dict[str, int]:
    """Limits of what each owner may take."""
    return {
        "max_queued": rng.choice([0, 0, 5]),
        "max_running": rng.choice([0, 0, 1]),
        "max_in_flight": rng.choice([0, 0, 600]),
    }


def of(commands: list[Command], kind: type) -> list[Any]:
    """The commands of one type."""
    return [command for command in commands if type(command) is kind]


def lane(host: str = "a.test", owner: str = "uid:1", area: str = AREA) -> Lane:
    return Lane(host, owner, "", area)


# reports of a worker


def responded(job_id: str = "job", attempt: int = 1, **fields: Any) -> mailbox.Responded:
    values: dict[str, Any] = {
        "generation": 0, "status": 200, "url": "http://a.test/f", "total": 1000, "kept": 0,
        "validator": VALIDATOR, "disposition": None, "origins": [],
    }  # fmt: skip
    values.update(fields)
    values.setdefault("have", [(0, values["kept"])] if values["kept"] else [])
    return mailbox.Responded(job=job_id, attempt=attempt, **values)


def failed(code: Code, job_id: str = "job", attempt: int = 1, kept: int = 0, **fields: Any) -> mailbox.Failed:
    return mailbox.Failed(job=job_id, attempt=attempt, code=str(code), message="", bytes=kept, **fields)


def limit(rate: int | None, *ids: str, host: str | None = None, **fields: Any) -> inputs.Limit:
    """A request for a limit of speed; of an admin where it is for everybody."""
    asked = request(fields.pop("req", f"l-{rate}-{ids}-{host}"), admin=not ids)
    return inputs.Limit(asked, rate, ids, host, **fields)


class Walk:
    """A core with one job, led to wherever a test wants it."""

    def __init__(self, workers: int = 1, settings: dict[str, Any] | None = None, **spec: Any) -> None:
        self.core, self.commands = new_core(workers=workers, settings=settings)
        self.now = moment()
        self.stored: dict[str, Job] = {}
        self.do(submit(intake(**spec)))

    def do(self, event: inputs.Input) -> list[Command]:
        """Handle one input, and check that the core is sane after it."""
        self.commands = self.core.handle(event, self.now)
        self.core.validate()
        return self.commands

    def say(self, report: mailbox.Report, slot: int = 0) -> list[Command]:
        """A report of the worker in a slot."""
        return self.do(inputs.WorkerReport(slot, self.core.pool.slots[slot].incarnation, report))

    def forgotten(self) -> "Walk":
        """As if the job had never been."""
        self.core, self.commands = new_core(workers=1)
        return self

    def settle(self) -> list[Command]:
        return self.do(inputs.Committed(self.core.ledger.stamp))

    def ready(self, slot: int = 0) -> list[Command]:
        return self.do(inputs.WorkerReady(slot, self.core.pool.slots[slot].incarnation))

    def respond(self, **fields: Any) -> list[Command]:
        """Ready, assigned, and the response's head is there."""
        self.ready()
        return self.say(responded(**fields))

    def name(self, taken: tuple[str, ...] = ()) -> list[Command]:
        """The probe for the name has been answered."""
        names = ("f", "f (1)")
        return self.do(inputs.NameProbed("job", 1, names, frozenset(taken)))

    def finish(self) -> list[Command]:
        self.respond()
        return self.say(mailbox.Finished(job="job", attempt=1, size=1000))

    def seal(self) -> list[Command]:
        """Up to the state publishing."""
        self.finish()
        self.name()
        return self.do(inputs.Sealed("job", 1, 1000, 7, 8))

    @property
    def job(self) -> Job:
        found = self.core.ledger.find("job")
        assert found is not None
        return found
