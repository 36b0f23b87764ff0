"""The list of keys changes while the daemon runs: who is off it is out at once, and no other is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from support.keyed import Keyed, code, done, heard, hello, listening
from support.origin import Origin

Make = Callable[..., Keyed]


def test_a_revoked_key_is_out(house: Keyed, origin: Origin, downloads: Path) -> None:
    with house.client("alice") as alice, house.client("bob") as bob:
        places = [hello(one).events for one in (alice, bob)]
        done(alice, origin, downloads, "a0")
        done(bob, origin, downloads, "b0")
        with (
            listening(house, "alice", places[0], "a0") as of_alice,
            listening(house, "bob", places[1], "b0") as of_bob,
        ):
            house.authorize(house.line("bob"), house.line("root", None, "admin"))
            assert code(alice.stats) == "denied"
            assert not of_alice.comes_back()
            done(bob, origin, downloads, "b")
            assert heard(of_bob, "b") == {"b"}
            with house.peer(zmq.DEALER, house.sockets["tcp"], "alice") as again:
                assert not again.let_in
        house.authorize(house.line("bob"), house.line("alice"))
        assert alice.stats().completed == 1
        assert hello(alice).events == places[0]
        with listening(house, "alice", places[0], "a0"):
            pass


def test_of_two_keys_of_one_owner_one_is_revoked(house: Keyed, origin: Origin, downloads: Path) -> None:
    house.authorize(house.line("desk", "carol"), house.line("laptop", "carol"))
    with house.client("desk") as desk, house.client("laptop") as laptop:
        place = hello(desk).events
        assert hello(laptop).events == place
        for name in ("c0", "c1"):
            done(desk, origin, downloads, name)
        with (
            listening(house, "desk", place, "c0") as of_desk,
            listening(house, "laptop", place, "c0") as of_laptop,
        ):
            house.authorize(house.line("desk", "carol"))
            assert code(laptop.stats) == "denied"
            assert not of_laptop.comes_back()
            assert of_desk.comes_back()
            of_desk.socket.subscribe(b"job.c1.")
            heard(of_desk, "c1")
            done(desk, origin, downloads, "c")
            assert heard(of_desk, "c") == {"c"}


def test_an_admin_who_is_none_any_more(house: Keyed, origin: Origin, downloads: Path) -> None:
    with house.client("alice") as alice, house.client("root") as root:
        places = [hello(one).events for one in (alice, root)]
        done(alice, origin, downloads, "a0")
        with (
            listening(house, "alice", places[0], "a0") as of_alice,
            listening(house, "root", places[0], "a0") as nosy,
            listening(house, "root", places[1], "a0") as of_root,
        ):
            house.authorize(house.line("alice"), house.line("root"))
            assert code(root.reload) == "denied"
            assert hello(root).events not in places
            for one, again in ((of_alice, True), (nosy, False), (of_root, False)):
                assert one.comes_back() == again


def test_whose_key_it_is_may_change(house: Keyed, origin: Origin, downloads: Path) -> None:
    with house.client("alice") as client:
        done(client, origin, downloads, "a")
        house.authorize(house.line("alice", "heir"))
        assert hello(client).owner == "key:heir"
        assert list(client.list()) == []


@pytest.mark.parametrize("bad", ["a line", "others may write it", "no text"])
def test_a_list_that_cannot_be_used_changes_nothing(house: Keyed, bad: str) -> None:
    good = house.authorized.read_text()
    with house.client("alice") as alice, house.client("root") as root:
        assert root.status().keys_trouble is None
        if bad == "others may write it":
            house.authorized.chmod(0o666)
            house.settle()
        elif bad == "no text":
            house.authorized.write_bytes(b"\xff\xfe")
            house.settle()
        else:
            house.authorize(house.line("bob"), "alice is my friend")
        assert alice.stats().active == 0
        assert alice.status().keys_trouble is None, "it is for admins"
        told = root.status().keys_trouble
        assert told is not None
        assert str(house.authorized) in told
        assert f"the keys stay as they were: {told}" in house.daemon.log()
        house.authorized.chmod(0o600)
        house.authorize(*good.splitlines())
        assert root.status().keys_trouble is None
        house.authorized.unlink()
        house.settle()
        assert [code(one.stats) for one in (alice, root)] == ["denied", "denied"]


def test_without_a_usable_list_nobody_comes_in(keyed: Make) -> None:
    house = keyed()
    house.authorized.write_text("nonsense\n")
    house.start()
    with house.peer(zmq.DEALER, house.sockets["tcp"], "alice") as peer:
        assert not peer.let_in
    house.authorize(house.line("alice"))
    with house.client("alice") as client:
        assert hello(client).owner == "key:alice"
