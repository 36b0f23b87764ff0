"""What users of one daemon get to know of its workers: of those that run their own jobs; admins of all."""

from collections.abc import Callable

import pytest
from support import person

from .test_users import ALICE, BOB, House, open_house

__all__ = ["open_house"]
pytestmark = pytest.mark.skipif(not person.IS_ROOT, reason=person.NEEDED)

MEASURED = """
context = zmq.Context()
news = context.socket(zmq.SUB)
news.setsockopt(zmq.RCVTIMEO, 10_000)
news.connect(endpoint)
news.subscribe(b"sys.metrics")
told = {"workers": []}
# each time that all workers have been measured
while not set(own) <= {worker["job"] for worker in told["workers"]}:
    told = msgpack.unpackb(news.recv_multipart()[2])
context.destroy(0)
result = told
"""


def test_each_owner_sees_the_workers_of_their_jobs_and_admins_all(open_house: Callable[..., House]) -> None:
    house = open_house()
    alice, bob, carol = house.person(ALICE), house.person(BOB), house.admin()
    gates = [house.held(one, name) for one, name in ((alice, "a"), (bob, "b"))]
    workers = "[(w.job, w.pid, w.memory is not None) for w in client.status().workers]"
    free = "client.status().slots.free"
    pids: dict[str, int] = {}
    for one, own in ((carol, ["a", "b"]), (alice, ["a"]), (bob, ["b"])):
        one.do("from fetchd.protocol import control; import msgpack")
        endpoint = one.ask("client._call(control.Hello(), control.Welcome).events")
        told = one.do(MEASURED, own=own, endpoint=endpoint)
        shown = one.ask(workers)
        pids |= {job: pid for job, pid, _ in shown if job}
        if one is carol:
            assert len(shown) == 5, "every slot"
            assert sum(told["counts"].values()) == 2
            continue
        # nothing of another's, not even that there is a worker
        assert shown == [[own[0], pids[own[0]], True]]
        assert [(w["job"], w["pid"]) for w in told["workers"]] == [(own[0], pids[own[0]])]
        assert {state: number for state, number in told["counts"].items() if number} == {"running": 1}
        assert told["slots"]["free"] == one.ask(free) == 3
    for gate in gates:
        gate.open()
