"""Random histories: what happens next in a simulation, and how it comes to rest."""

from collections.abc import Callable
from random import Random

from fetchd.daemon.core import inputs
from fetchd.protocol.job import Cleanup, Reason, State
from fetchd.protocol.mailbox import Options

from . import clients
from .disks import OTHER
from .make import AREA, SECOND
from .simulator import Simulation
from .workers import Worker

POLICIES = ("fail", "skip", "rename", "overwrite")
OWNERS = ("uid:1", "uid:2")
VERBS: tuple[inputs.VerbName, ...] = ("cancel", "pause", "resume", "retry", "remove")
BULK: tuple[tuple[inputs.VerbName, bool], ...] = (
    ("cancel", False), ("pause", False), ("resume", False), ("resume", False), ("retry", False),
    ("retry", True), ("remove", False), ("remove", True),
)  # fmt: skip


def step(sim: Simulation, jobs: int, lanes: int) -> None:
    """Something happens."""
    rng = sim.rng
    if sim.exited:
        sim.crash()
    moves: list[tuple[float, Callable[[], None]]] = [
        (0.8, lambda: submit(sim, rng, jobs, lanes)),
        (sim.verbs, lambda: one_by_one(sim, rng, jobs)),
        (sim.verbs / 8, lambda: in_bulk(sim, rng)),
        (sim.verbs / 10, lambda: clients.clean(sim, f"j{rng.randrange(jobs)}")),
        (sim.verbs / 10, lambda: clients.prune(sim)),
        (sim.verbs / 10, lambda: limit(sim, rng, jobs, lanes)),
        (sim.faults / 4, sim.configure),
        (0.7, lambda: pass_time(sim, rng)),
        (sim.faults / 4, lambda: sim.turn(inputs.Drain(now=rng.random() < 0.2))),
        (sim.faults / 4, sim.crash),
        (sim.faults / 4, sim.workspaces.trouble),
        (sim.faults / 3, lambda: sim.disks.change(rng)),
    ]
    if sim.asks:
        moves.append((0.3, lambda: sim.send(rng.choice(sim.asks))))
    moves += [(weight, move) for weight, move in work(sim)]
    rng.choices([move for _, move in moves], [weight for weight, _ in moves])[0]()


def work(sim: Simulation) -> list[tuple[float, Callable[[], None]]]:
    """What the surroundings have in hand."""
    moves: list[tuple[float, Callable[[], None]]] = []
    if sim.calls:
        moves.append((sim.store_speed, sim.store_step))
    if sim.replies:
        moves.append((6, sim.answer_step))
    if sim.files:
        moves.append((4, lambda: sim.file_step(sim.rng.choice(list(sim.files)))))
    if sim.results:
        moves.append((4, lambda: sim.turn(sim.results.pop(sim.rng.randrange(len(sim.results))))))
    if sim.disks.checks:
        moves.append((1, lambda: sim.turn(sim.disks.answer(sim.rng))))
    if mail := [worker for worker in sim.pool.values() if worker.mail]:
        moves.append((8, lambda: read(sim, mail)))
    busy = [w for w in sim.pool.values() if w.alive and not w.mute]
    if alive := [w for w in busy if w.job or not w.ready or sim.faults]:
        moves.append((6, lambda: sim.rng.choice(alive).step(sim.rng, sim.faults, sim.failures)))
    return moves


def read(sim: Simulation, mail: list[Worker]) -> None:
    """The loop reads some messages of a worker, in one turn."""
    worker = sim.rng.choice(mail)
    count = sim.rng.randint(1, 3)
    events, worker.mail[:count] = worker.mail[:count], []
    sim.turn(*(sim.heard(worker, event) for event in events))


def submit(sim: Simulation, rng: Random, jobs: int, lanes: int) -> None:
    specs = []
    mine = rng.randrange(2)
    for _ in range(rng.choice([1, 1, 1, 4, 20])):
        number = rng.randrange(jobs)
        if rng.random() < 0.98:
            number += (number + mine) % 2
        # the same ID means the same job, nearly always
        own = Random(number if rng.random() < 0.98 else None)
        spec = {
            "job_id": f"j{number}", "host": f"h{own.randrange(lanes)}.test",
            "area": own.choice([AREA, AREA, OTHER]),
            "priority": own.choice([0, 0, 5]), "if_exists": own.choice(POLICIES),
            "retries": own.choice([1, 3, 8]), "secrets": own.choice([None, None, b"secret"]),
            "cleanup": Cleanup(success=own.choice([None, None, False]), failure=own.choice([None, False])),
        }  # fmt: skip
        if own.random() < 0.3:
            wishes = {"deadline": own.choice([0.5, 5.0, 100.0]), "limit_rate": own.choice([None, 10])}
            mirrors = own.choice([(), ("http://h0.test/m",), ("http://m.test/a", "http://m.test/b")])
            newer = own.random() < 0.3
            options = Options(mirrors=mirrors, if_newer=newer, segments=own.choice([0, 1, 4]))
            spec.update(wishes, options=options, if_newer=newer)
        if own.random() < 0.4:
            spec["name"] = f"n{own.randrange(3)}"
        specs.append(spec)
    clients.submit(sim, *specs, owner=OWNERS[mine])


def one_by_one(sim: Simulation, rng: Random, jobs: int) -> None:
    ids = [f"j{rng.randrange(jobs + 1)}" for _ in range(rng.randint(1, 2))]
    verb = rng.choice(VERBS)
    if rng.random() < 0.7:
        ids = [rng.choice(sorted(sim.truth))] if sim.truth else ids
    owner = sim.truth[ids[0]].owner if ids[0] in sim.truth else rng.choice(OWNERS)
    clients.verb(sim, verb, *ids, owner=clients.ADMIN if rng.random() < 0.1 else owner)


def in_bulk(sim: Simulation, rng: Random) -> None:
    verb, failed = rng.choice(BULK)
    clients.bulk(sim, verb, failed=failed, owner=rng.choice(OWNERS))


def limit(sim: Simulation, rng: Random, jobs: int, lanes: int) -> None:
    rate, number = rng.choice([None, 1, 10, 5000]), rng.randrange(3)
    if number == 0:
        clients.limit(sim, rate, owner=clients.ADMIN)
    elif number == 1:
        clients.limit(sim, rate, host=f"h{rng.randrange(lanes)}.test", owner=clients.ADMIN)
    else:
        clients.limit(sim, rate, *{f"j{rng.randrange(jobs)}" for _ in range(2)}, owner=rng.choice(OWNERS))


def pass_time(sim: Simulation, rng: Random) -> None:
    deadline = sim.core.next_deadline(sim.mono)
    if deadline is not None and rng.random() < 0.7:
        sim.mono = deadline
    else:
        sim.mono += rng.randrange(3 * SECOND)
    sim.turn(inputs.Tick())


def rest(sim: Simulation) -> None:
    """Without any further fault, everything comes to an end, and the end is right."""
    sim.faults = sim.failures = 0.0
    sim.disks.wrong.clear()
    come_to_rest(sim)
    sim.watch.at_rest(sim.store.jobs)
    # what was paused goes on, and what was kept is deleted at last
    for owner in OWNERS:
        clients.bulk(sim, "resume", owner=owner)
    come_to_rest(sim)
    assert all(job.terminal for job in sim.truth.values()), f"not done: {unfinished(sim)}"
    for job in sim.store.jobs.values():
        delivered = job.state is State.COMPLETED and job.reason is None
        assert sim.published[job.seq] >= delivered, f"{job.id} is completed and not there"
        assert job.state is not State.CANCELLED or not sim.published[job.seq]
    sim.mono += 10 * sim.core.settings.keep_failed
    clients.prune(sim)
    come_to_rest(sim)
    assert not sim.workspaces.left, f"{sim.workspaces.left} are left behind"
    sim.workspaces.check(sim.store.jobs)
    assert not sim.store.secrets, f"secrets of {sim.store.secrets} are left behind"
    assert not any(job.kept_until for job in sim.store.jobs.values())
    assert not sim.core.ledger.paths


def come_to_rest(sim: Simulation, limit: int = 20_000) -> None:
    """Until nothing happens any more but what somebody has to ask for."""
    for _ in range(limit):
        if sim.exited or sim.core.draining:
            sim.crash()
        for worker in sim.pool.values():
            worker.deaf = False
        if moves := work(sim):
            sim.rng.choice(moves)[1]()
        elif open_asks := [ask for ask in sim.asks if not ask.answers and not ask.refused]:
            for ask in open_asks:
                sim.send(ask)
        elif not unfinished(sim):
            break
        else:
            deadline = sim.core.next_deadline(sim.mono)
            assert deadline is not None, f"nothing will ever happen, and {unfinished(sim)} are not done"
            sim.mono = deadline
            sim.turn(inputs.Tick())
    else:
        raise AssertionError(f"no end: {unfinished(sim)}")
    sim.check()
    assert sim.truth == sim.store.jobs
    assert (len(sim.core.intents), len(sim.store.intents)) == (0, 0), "an intent is never done"
    jobs = sim.store.jobs
    needed = {i for i, job in jobs.items() if job.kept_until or (job.attempt and not job.terminal)}
    assert sim.workspaces.left <= needed, f"{sim.workspaces.left - needed} are left behind"
    kept = {i for i, job in jobs.items() if job.kept_until or not job.terminal}
    assert sim.store.secrets <= kept, f"secrets of {sim.store.secrets - kept} are left behind"
    assert {i for i, job in jobs.items() if job.secret and not job.terminal} <= sim.store.secrets
    ledger = sim.core.ledger
    held = [job for job in ledger.live.values() if sim.core.gates.holding(job.lane) is None]
    assert (held, len(ledger.unsettled), ledger.forgotten) == ([], 0, {})


def unfinished(sim: Simulation) -> list[str]:
    """What is neither over nor held by a user; a full disk lets go by itself."""
    return [
        f"{job.id}: {job.state}" for job in sim.truth.values()
        if sim.core.gates.shown(job) != (State.PAUSED, Reason.USER) and not job.terminal
    ]  # fmt: skip


def live(seed: int) -> Simulation:
    """One history from beginning to end. The seed decides everything."""
    rng = Random(-seed - 1)
    sim = Simulation(seed, faults=rng.choice([0.0, 0.05, 0.15, 0.4]))
    jobs, lanes = rng.choice([4, 12, 60]), rng.choice([1, 2, 12])
    # looking at everything after every input takes half of the time, and the ends are looked at in any case
    sim.validating = checked = rng.random() < 0.4
    sim.store_speed = rng.choice([0.5, 6])
    sim.verbs = rng.choice([0.3, 1.0, 3.0])
    for _ in range(rng.choice([50, 150, 400])):
        step(sim, jobs, lanes)
        if checked:
            sim.check()
    rest(sim)
    return sim


def stored(seed: int, mutant: str | None = None) -> Simulation:
    """One short history of a few jobs on a bad disk, with many power cuts."""
    rng = Random(-seed - 1)
    sim = Simulation(seed, faults=rng.choice([0.05, 0.2, 0.4]), workers=rng.choice([1, 2]), mutant=mutant)
    sim.validating = False
    sim.verbs = 0.1
    jobs = rng.choice([1, 1, 2])
    policies = rng.choice(["rename", "overwrite"])
    specs = [
        {"job_id": f"j{n}", "name": f"n{n % 2}", "retries": 8, "if_exists": policies} for n in range(jobs)
    ]
    clients.submit(sim, *specs, owner=OWNERS[0])
    for _ in range(rng.choice([80, 200])):
        rare = rng.random()
        if rare < 0.04:
            sim.crash()
        elif rare < 0.06:
            sim.workspaces.trouble()
        elif rare < 0.1:
            pass_time(sim, rng)
        elif rare < 0.11:
            one_by_one(sim, rng, jobs)
        elif rare < 0.2 and (failed := [i for i, job in sim.truth.items() if job.state is State.FAILED]):
            clients.verb(sim, "retry", *failed, owner=OWNERS[0])
        elif moves := work(sim):
            rng.choices([move for _, move in moves], [weight for weight, _ in moves])[0]()
        else:
            pass_time(sim, rng)
    rest(sim)
    sim.crash(power=True)
    return sim
