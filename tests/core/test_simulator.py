"""The core in random histories: crashes, failed commits, dying and lying workers, races of every kind.

`FETCHD_SIM=100000` runs so many histories instead of the default; `FETCHD_SIM_SEED=N` begins at seed N, and
with `FETCHD_SIM=1` repeats the one history whose seed a failure has printed.
"""

import os

import pytest

from fetchd.daemon.core import bulk, core, schedule, waiting
from fetchd.protocol.job import State

from . import clients, histories
from .simulator import Simulation

HISTORIES = int(os.environ.get("FETCHD_SIM", "1500"))
FIRST = int(os.environ.get("FETCHD_SIM_SEED", "0"))
PARTS = 10


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, lanes and waits so small that a few jobs overflow them."""
    monkeypatch.setattr(schedule, "MAX_LANES", 4)
    monkeypatch.setattr(schedule, "WINDOW", 4)
    monkeypatch.setattr(schedule, "ROWS_IN_MEMORY", 16)
    monkeypatch.setattr(waiting, "IN_MEMORY", 4)
    for module in (bulk, core):
        monkeypatch.setattr(module, "CHUNK", 3)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories(part: int) -> None:
    for seed in range(FIRST + part, FIRST + HISTORIES, PARTS):
        try:
            histories.live(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}: FETCHD_SIM=1 FETCHD_SIM_SEED={seed}")
            raise


@pytest.mark.parametrize("lanes", [1, 7, 6000])
def test_memory_does_not_grow_with_the_queue(lanes: int) -> None:
    sim = Simulation(1, faults=0.0, workers=4)
    sim.validating = False  # it would look at every job after every input
    jobs, most = 20_000, 0
    for start in range(0, jobs, 500):
        numbers = range(start, start + 500)
        hosts = ((n, f"h{n % lanes}.test") for n in numbers)
        clients.submit(
            sim, *({"job_id": f"j{n}", "host": host, "if_exists": "overwrite"} for n, host in hosts)
        )
        settle(sim)
        most = max(most, len(sim.core.ledger.live))
    sim.check()
    assert sim.core.ledger.counts[State.QUEUED] == jobs - 4
    assert most <= (2 * schedule.WINDOW * lanes + 4 if lanes < 100 else 3 * schedule.ROWS_IN_MEMORY)
    assert not len(sim.core.ledger.unsettled)
    assert not sim.core.replies
    # all lanes move on, and what comes next is loaded
    ran = 0
    while ran < 400:
        for worker in sim.pool.values():
            if worker.alive:
                worker.step(sim.rng, 0.0, 0.0)
            if worker.mail:
                sim.turn(*(sim.heard(worker, event) for event in worker.mail))
                worker.mail.clear()
        settle(sim)
        ran = sim.core.ledger.counts[State.COMPLETED]
    assert sim.dispatched[:400] == [f"j{n}" for n in range(400)], "first come, first served"
    assert len(sim.core.ledger.live) <= most + 4


def settle(sim: Simulation) -> None:
    """Let the store and the helper pool do all they have in hand."""
    while sim.calls or sim.replies or sim.files or sim.results:
        if sim.calls:
            sim.store_step()
        elif sim.replies:
            sim.answer_step()
        elif sim.files:
            sim.file_step(next(iter(sim.files)))
        else:
            sim.turn(sim.results.pop(0))
