"""The bytes on their way are counted for each owner: what one may not have more of another still gets."""

from collections.abc import Callable

import pytest
from support import person
from support.origin import Resource

from .test_users import ALICE, BOB, SIZE, House, open_house

__all__ = ["open_house"]
pytestmark = pytest.mark.skipif(not person.IS_ROOT, reason=person.NEEDED)


def test_bytes_in_flight(open_house: Callable[..., House]) -> None:
    house = open_house(FETCHD_MAX_IN_FLIGHT=str(SIZE))
    alice, bob = house.person(ALICE), house.person(BOB)
    gate = house.held(alice, "a")
    # its size is known to the daemon, too
    alice.do("next(e for e in client.get('a').events() if e.snapshot and e.snapshot.bytes)")
    house.submit(alice, house.origin.add("/f", Resource(size=10)), "a1")
    last = "(lambda last: [last.state, last.reason])(client.get('a1').last)"
    assert alice.ask(last) == ["queued", "host_limit"]
    house.submit(bob, house.origin.url("/f"), "b1")
    bob.do("client.get('b1').result(timeout=30)")
    assert alice.ask(last) == ["queued", "host_limit"]
    gate.open()
    alice.do("for name in ('a', 'a1'): client.get(name).result(timeout=30)")
