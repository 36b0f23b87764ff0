"""Random histories: what happens next in a simulation, and how it comes to rest."""

from collections.abc import Callable
from random import Random

from fetchd.daemon.core import inputs
from fetchd.protocol.job import State

from .make import SECOND
from .simulator import Simulation
from .workers import Worker

POLICIES = ("fail", "skip", "rename", "overwrite")


def step(sim: Simulation, jobs: int, lanes: int) -> None:
    """Something happens."""
    rng = sim.rng
    if sim.exited:
        sim.crash()
    moves: list[tuple[float, Callable[[], None]]] = [
        (0.8, lambda: submit(sim, rng, jobs, lanes)),
        (0.3, lambda: sim.cancel(*(f"j{rng.randrange(jobs)}" for _ in range(rng.randint(1, 2))))),
        (0.7, lambda: pass_time(sim, rng)),
        (sim.faults / 4, lambda: sim.turn(inputs.Drain(now=rng.random() < 0.2))),
        (sim.faults / 4, sim.crash),
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
    if mail := [worker for worker in sim.pool.values() if worker.mail]:
        moves.append((8, lambda: read(sim, mail)))
    if alive := [w for w in sim.pool.values() if w.alive and (w.job or not w.ready or sim.faults)]:
        moves.append((6, lambda: sim.rng.choice(alive).step(sim.rng, sim.faults, sim.failures)))
    return moves


def read(sim: Simulation, mail: list[Worker]) -> None:
    """The loop reads some messages of a worker, in one turn."""
    worker = sim.rng.choice(mail)
    count = sim.rng.randint(1, 3)
    events, worker.mail[:count] = worker.mail[:count], []
    sim.turn(*events)


def submit(sim: Simulation, rng: Random, jobs: int, lanes: int) -> None:
    specs = []
    for _ in range(rng.choice([1, 1, 1, 4, 20])):
        number = rng.randrange(jobs)
        # the same ID means the same job, nearly always
        own = Random(number if rng.random() < 0.98 else None)
        spec = {
            "job_id": f"j{number}", "host": f"h{own.randrange(lanes)}.test",
            "priority": own.choice([0, 0, 5]), "if_exists": own.choice(POLICIES),
            "retries": own.choice([1, 3, 8]), "secrets": own.choice([None, None, b"secret"]),
        }  # fmt: skip
        if own.random() < 0.4:
            spec["name"] = f"n{own.randrange(3)}"
        specs.append(spec)
    sim.submit(*specs)


def pass_time(sim: Simulation, rng: Random) -> None:
    deadline = sim.core.next_deadline(sim.mono)
    if deadline is not None and rng.random() < 0.7:
        sim.mono = deadline
    else:
        sim.mono += rng.randrange(3 * SECOND)
    sim.turn(inputs.Tick())


def rest(sim: Simulation, limit: int = 20_000) -> None:
    """Without any further fault, everything comes to an end, and the end is right."""
    sim.faults = sim.failures = 0.0
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
        elif all(job.terminal for job in sim.truth.values()):
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
    kept = {job.id for job in sim.store.jobs.values() if job.kept_until}
    assert all(sim.store.jobs[job_id].state is State.FAILED for job_id in kept)
    assert sim.workspaces <= kept, f"{sim.workspaces - kept} are left behind"
    ledger = sim.core.ledger
    assert (len(ledger.live), len(ledger.unsettled), ledger.paths) == (0, 0, {})
    assert sim.store.secrets <= kept, f"secrets of {sim.store.secrets - kept} are left behind"
    for job in sim.store.jobs.values():
        delivered = job.state is State.COMPLETED and job.reason is None
        assert sim.published[job.id] >= delivered, f"{job.id} is completed and not there"
        assert job.id not in sim.cancelled or job.state is State.CANCELLED
        assert job.state is not State.CANCELLED or not sim.published[job.id]


def unfinished(sim: Simulation) -> list[str]:
    return [f"{job.id}: {job.state}" for job in sim.truth.values() if not job.terminal]


def live(seed: int) -> Simulation:
    """One history from beginning to end. The seed decides everything."""
    rng = Random(-seed - 1)
    sim = Simulation(seed, faults=rng.choice([0.0, 0.05, 0.15, 0.4]))
    jobs, lanes = rng.choice([4, 12, 60]), rng.choice([1, 2, 12])
    # looking at everything after every input takes half of the time, and the ends are looked at in any case
    sim.validating = checked = rng.random() < 0.4
    sim.store_speed = rng.choice([0.5, 6])
    for _ in range(rng.choice([50, 150, 400])):
        step(sim, jobs, lanes)
        if checked:
            sim.check()
    rest(sim)
    return sim
