"""Who may come in: from the address that the kernel vouches for or the key, the domain of the socket, and the
groups."""

import grp
import os
import pwd

import pytest

from fetchd.daemon.router import access as module
from fetchd.daemon.router.access import Access, Who

ME = os.geteuid()
GROUP, ADMINS, NOBODYS = 70_001, 70_002, 70_003
USER, WORKER = 60_001, 4242
DOMAINS = ("control", "events", "mailbox", "reader")


def access(group: int | None = GROUP, admins: int | None = ADMINS) -> Access:
    made = Access(lambda pid: pid == WORKER)
    made.admit(group, admins)
    return made


def address(uid: int = USER, gid: int = GROUP, pid: int = 1) -> str:
    return f"localhost:{uid}:{gid}:{pid}"


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_private_daemon_admits_its_own_user(domain: str) -> None:
    private = access(None, None)
    assert not private.shared
    assert private.connects(domain, address(ME)) == Who(f"uid:{ME}", admin=True)
    private._me = USER + 1  # as if it were not root's, whoever runs the tests
    for uid in (0, USER):
        assert private.connects(domain, address(uid)) is None


@pytest.mark.parametrize(
    ("uid", "gid", "who"),
    [
        (USER, GROUP, Who(f"uid:{USER}", admin=False)),
        (USER, ADMINS, Who(f"uid:{USER}", admin=True)),
        (0, NOBODYS, Who("uid:0", admin=True)),
        (ME, NOBODYS, Who(f"uid:{ME}", admin=True)),
        (USER, NOBODYS, None),
    ],
)
def test_a_shared_daemon_admits_its_groups(uid: int, gid: int, who: Who | None) -> None:
    shared = access()
    assert shared.connects("control", address(uid, gid)) == who
    own = who if uid == ME else None
    assert [shared.connects(domain, address(uid, gid)) for domain in ("mailbox", "reader")] == [own, own]
    admin = who if who is not None and who.admin else None
    assert shared.connects("events", address(uid, gid)) == admin
    assert shared.connects(f"events uid:{uid}", address(uid, gid)) == who
    assert shared.connects("events uid:7", address(uid, gid)) == admin
    assert shared.connects("", address(uid, gid)) is None
    assert shared.connects("eventsuid:7", address(uid, gid)) is None


@pytest.mark.parametrize("domain", ["control", "events", f"events uid:{ME}", "reader"])
def test_workers_are_no_clients(domain: str) -> None:
    assert access().connects(domain, address(ME, 0, WORKER)) is None
    assert access().connects("mailbox", address(ME, 0, WORKER)) is not None


@pytest.mark.parametrize("group", [True, False], ids=["users", "admins"])
def test_members_that_the_system_knows(group: bool) -> None:
    """Whatever group their process has."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    found = [
        (e.gr_gid, name) for e in grp.getgrall() for name in e.gr_mem if name in names and name != "root"
    ]
    if not found:
        pytest.skip("no user of this machine is in a second group")
    gid, name = found[0]
    shared = access(gid, None) if group else access(None, gid)
    user = pwd.getpwnam(name)
    who = shared.connects("control", address(user.pw_uid, user.pw_gid))
    assert who == Who(f"uid:{user.pw_uid}", admin=not group)


def test_rights_follow_the_groups() -> None:
    shared = access()
    assert shared.connects("control", address()) is not None
    shared.admit(None, GROUP)
    assert shared.connects("control", address()) == Who(f"uid:{USER}", admin=True)
    shared.admit(NOBODYS, None)
    assert shared.connects("control", address()) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN", 3)
    shared = access()
    for uid in range(USER, USER + 10):
        assert shared.connects("control", address(uid)) is not None
        assert len(shared._known) <= 3


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", f"host:{ME}:0:1", f"localhost:{ME}:0", f"localhost:{ME}:0:1:2", f"localhost:-{ME}:0:1",
     "localhost:x:0:1", f"localhost:{ME}:x:1", f"localhost:{ME}:0:x", "localhost:²:0:1", "::::"],
)  # fmt: skip
def test_addresses_that_say_nothing(text: str) -> None:
    assert access().connects("control", text) is None


ALICE, ROOT = "a" * 40, "r" * 40
TRUSTED = {ALICE: Who("key:alice", admin=False), ROOT: Who("key:root", admin=True)}
FAR = ["127.0.0.1", "192.0.2.1", "::1", "fe80::1%eth0", "::ffff:192.0.2.1"]


@pytest.fixture
def trusting() -> Access:
    made = access()
    made.trust(TRUSTED)
    return made


@pytest.mark.parametrize("far", FAR)
def test_a_key_stands_for_somebody(trusting: Access, far: str) -> None:
    alice, root = TRUSTED.values()
    for domain, of_alice, of_root in (
        ("control", alice, root),
        ("events key:alice", alice, root),
        ("events key:bob", None, root),
        ("events", None, root),
        ("mailbox", None, None),
        ("reader", None, None),
        ("", None, None),
    ):
        found = [trusting.connects(domain, far, key) for key in (ALICE, ROOT, "m" * 40)]
        assert found == [of_alice, of_root, None], domain


def test_no_key_counts_over_ipc_and_no_address_over_tcp(trusting: Access) -> None:
    """Neither is the other's, an address that says nothing is nobody's, and our workers have no key."""
    for domain in ("control", "events", f"events uid:{ME}", "mailbox", "reader"):
        for near in (address(ME), address(ME, 0, WORKER), "localhost", ""):
            assert trusting.connects(domain, near, ROOT) is None
        for far in FAR:
            assert trusting.connects(domain, far) is None


def test_keys_that_are_not_trusted_any_more(trusting: Access) -> None:
    trusting.trust({ALICE: TRUSTED[ROOT]})
    assert trusting.connects("control", FAR[0], ALICE) == TRUSTED[ROOT]
    assert trusting.connects("control", FAR[0], ROOT) is None
