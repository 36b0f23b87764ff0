"""The keyring: what is in force, whom it takes it from, and a file that cannot be used."""

import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetchd.daemon.router.access import Access, Who
from fetchd.daemon.router.keyring import Keyring

A, B, C = "a" * 40, "b" * 40, "c" * 40
ALICE, BOB, ROOT = Who("key:alice", admin=False), Who("key:bob", admin=False), Who("key:root", admin=True)
HERE = "127.0.0.1"


class Ring:
    """A keyring, who may come in by it, and who lost a key at the last change."""

    def __init__(self, file: Path) -> None:
        self.access = Access(lambda _pid: False)
        self.keyring = Keyring(file, self.access)
        self.lost: frozenset[Who] | None = None
        self.keyring.revoked = self.note

    def note(self, lost: frozenset[Who]) -> None:
        assert all(self.access.connects("control", HERE, key) != who for key in (A, B, C) for who in lost)
        self.lost = lost

    @property
    def inside(self) -> list[Who | None]:
        return [self.access.connects("control", HERE, key) for key in (A, B, C)]

    def told(self) -> bool:
        """Whether the watch has something to tell; it is read then."""
        assert self.keyring.watch is not None
        if not select.select([self.keyring.watch.fd], [], [], 0)[0]:
            return False
        self.keyring.take()
        return True


@pytest.fixture
def file(downloads: Path) -> Path:
    return downloads / "etc" / "authorized_keys"


@pytest.fixture
def ring(file: Path) -> Iterator[Ring]:
    made = Ring(file)
    file.write_text(f"alice {A}\nbob {B}\nroot {C} admin # mine\n")
    assert made.told()
    assert made.inside == [ALICE, BOB, ROOT]
    assert made.lost is None
    yield made
    made.keyring.close()


def test_no_file_is_no_keys(file: Path) -> None:
    ring = Ring(file)
    ring.keyring.read()
    assert (ring.inside, ring.keyring.trouble) == ([None] * 3, None)
    ring.keyring.close()


@pytest.mark.parametrize(
    ("text", "inside", "lost"),
    [
        (f"alice {A}\nroot {C} admin", [ALICE, None, ROOT], {BOB}),
        (f"alice {A}\nbob {B}\nroot {C}", [ALICE, BOB, Who("key:root", admin=False)], {ROOT}),
        (f"bob {A}\nbob {B}\nroot {C} admin", [BOB, BOB, ROOT], {ALICE}),
        (f"root {C} admin # yours\nbob {B}\nalice {A}", [ALICE, BOB, ROOT], None),
        ("", [None] * 3, {ALICE, BOB, ROOT}),
    ],
)
def test_a_change_is_in_force_at_once(
    ring: Ring, file: Path, text: str, inside: list[Who | None], lost: set[Who] | None
) -> None:
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(file)
    assert ring.told()
    assert ring.inside == inside
    assert ring.lost == lost


def test_what_a_link_leads_to_is_watched(ring: Ring, file: Path) -> None:
    """`fetchd keys` replaces it and leaves the link."""
    for place in ("there", "elsewhere"):
        real = file.parent.with_name(place) / "keys"
        real.parent.mkdir()
        real.write_text(f"alice {A}\n")
        file.unlink()
        file.symlink_to(real)
        assert ring.told()
        assert ring.inside == [ALICE, None, None]
        fresh = real.with_name("fresh")
        fresh.write_text(f"bob {B}\n")
        fresh.replace(real)
        assert ring.told()
        assert ring.inside == [None, BOB, None]


def test_another_directory_in_its_place(ring: Ring, file: Path) -> None:
    fresh = file.parent.with_name("fresh")
    fresh.mkdir()
    (fresh / file.name).write_text(f"alice {A}\nbob {B}\n")
    file.parent.rename(file.parent.with_name("old"))
    fresh.rename(file.parent)
    assert ring.told()
    assert ring.inside == [ALICE, BOB, None]
    file.write_text(f"bob {B}\n")
    assert ring.told()
    assert ring.inside == [None, BOB, None]


@pytest.mark.parametrize("gone", [Path.unlink, lambda file: file.rename(file.with_name("away"))])
def test_without_its_file_it_is_empty(ring: Ring, file: Path, gone: Callable[[Path], object]) -> None:
    gone(file)
    assert ring.told()
    assert ring.inside == [None] * 3
    assert ring.lost == {ALICE, BOB, ROOT}


def spoil(file: Path) -> None:
    file.write_text(f"alice {A}\nbob")


def open_up(file: Path) -> None:
    file.chmod(0o662)


@pytest.mark.parametrize("bad", [spoil, open_up])
def test_a_file_that_cannot_be_used_changes_nothing(
    ring: Ring, file: Path, bad: Callable[[Path], None]
) -> None:
    good = file.read_text()
    bad(file)
    assert ring.told()
    assert ring.inside == [ALICE, BOB, ROOT]
    assert ring.lost is None
    assert ring.keyring.trouble is not None
    assert ring.keyring.trouble.startswith(f"{file}: ")
    file.write_text(good)
    file.chmod(0o600)
    assert ring.told()
    assert ring.keyring.trouble is None


def test_what_is_no_file(ring: Ring, file: Path) -> None:
    file.unlink()
    file.mkdir()
    ring.keyring.read()
    assert ring.inside == [ALICE, BOB, ROOT]
    assert ring.keyring.trouble is not None


def test_a_directory_that_cannot_be_watched(downloads: Path) -> None:
    """It is read at a reload, then."""
    (downloads / "etc").touch()
    ring = Ring(downloads / "etc" / "authorized_keys")
    assert ring.keyring.watch is None
    ring.keyring.take()
    ring.keyring.read()
    assert ring.keyring.trouble is not None
    assert ring.inside == [None] * 3
    ring.keyring.close()
