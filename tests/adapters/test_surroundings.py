"""Which changes mean other files: through links and directories, of what was missing, many at a time."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.tmp import TempDir

from fetchd.daemon.router.loop import Loop
from fetchd.daemon.supervise import surroundings
from fetchd.daemon.supervise.surroundings import Surroundings
from fetchd.protocol.inotify import LINKS, steps


class Field:
    """A watch over the file to which `path` leads, and what it has told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "file"
        self.loop = Loop()
        self.told: list[list[str]] = []
        self.resting: list[Callable[[], None]] = []
        self.watch = Surroundings(self.loop, lambda _pause, call: self.resting.append(call), self.told.append)

    def begin(self) -> None:
        self.watch.watch([str(self.path)])

    def put(self, name: str, text: str) -> None:
        """Another file under this name, by rename."""
        fresh = self.root / "fresh"
        fresh.write_text(text)
        fresh.rename(self.root / name)

    def link(self, name: str, target: str) -> None:
        """Another link under this name, by rename."""
        fresh = self.root / "fresh"
        fresh.symlink_to(target)
        fresh.rename(self.root / name)

    def look(self) -> int:
        """How often it has told, with all that was done before: inotify queues at once."""
        self.loop.turn(0)
        assert all(names == [str(self.path)] for names in self.told)
        return len(self.told)

    def rest(self) -> int:
        """The same after the rest that follows a change."""
        self.look()
        while self.resting:
            self.resting.pop()()
        return self.look()


@pytest.fixture
def field() -> Iterator[Field]:
    with TempDir() as directory:
        made = Field(directory)
        yield made
        made.watch.close()


def _plain(field: Field) -> None:
    field.put("file", "a")


def _linked(field: Field) -> None:
    field.put("there", "a")
    field.link("file", "there")


def _far(field: Field) -> None:
    """As resolv.conf often is, and with a link for a directory, as ConfigMaps have it."""
    field.root.joinpath("one").mkdir()
    field.put("one/file", "a")
    field.link("current", "one")
    field.link("file", str(field.root / "current/./../current/file"))


def _missing(field: Field) -> None:
    field.link("file", str(field.root / "run/resolve/file"))


def _swap_directory(field: Field) -> None:
    field.root.joinpath("two").mkdir()
    field.put("two/file", "b")
    field.link("current", "two")


def _make_all(field: Field) -> None:
    field.root.joinpath("run").mkdir()
    field.look()
    field.root.joinpath("run/resolve").mkdir()
    field.look()
    field.put("run/resolve/file", "b")


def _move_away(field: Field) -> None:
    field.root.joinpath("two").mkdir()
    field.put("two/file", "b")
    field.root.joinpath("one").rename(field.root / "old")
    field.root.joinpath("two").rename(field.root / "one")


@pytest.mark.parametrize(
    ("first", "change"),
    [
        (_plain, lambda field: field.put("file", "b")),
        (_plain, lambda field: field.path.write_text("longer")),
        (_plain, lambda field: field.link("file", "/dev/null")),
        (_linked, lambda field: field.put("there", "b")),
        (_linked, lambda field: field.put("file", "b")),
        (_far, lambda field: field.put("one/file", "b")),
        (_far, _swap_directory),
        (_far, _move_away),
        (_missing, _make_all),
    ],
)
def test_another_file(field: Field, first: Callable[[Field], None], change: Callable[[Field], None]) -> None:
    first(field)
    field.begin()
    assert field.look() == 0
    change(field)
    assert field.look() == 1
    assert field.rest() == 1, "once is enough"
    field.put("file", "and again")
    assert field.look() == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda field: field.path.chmod(0o600),
        lambda field: field.path.read_text(),
        lambda field: os.close(os.open(field.path, os.O_WRONLY)),
        lambda field: field.put("neighbour", "b"),
        lambda field: field.path.unlink(),
    ],
)  # fmt: skip
def test_the_same_file(field: Field, change: Callable[[Field], object]) -> None:
    _plain(field)
    field.begin()
    change(field)
    assert field.look() == field.rest() == 0


def test_many_changes_at_a_time(field: Field) -> None:
    _plain(field)
    field.begin()
    for n in range(50):
        field.put("file", f"{n}")
    assert field.look() == 1
    for n in range(50):
        field.put("file", f"{n}")
        assert field.look() == 1, "it rests"
    assert field.rest() == 2
    assert field.rest() == 2


def test_a_link_that_changes_while_it_is_followed(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    _far(field)

    def follow(path: str) -> list[tuple[str, str]]:
        monkeypatch.undo()
        found = list(steps(path))
        _swap_directory(field)
        return found

    monkeypatch.setattr(surroundings, "steps", follow)
    field.begin()
    assert field.rest() == 1
    field.put("two/file", "longer")
    assert field.look() == 2


def test_other_paths(field: Field) -> None:
    _plain(field)
    field.begin()
    field.put("other", "a")
    field.watch.watch([str(field.path), str(field.root / "other")])
    assert field.look() == 0, "a file that was not watched before has not changed"
    field.watch.close()
    field.put("file", "b")
    field.begin()
    assert field.look() == 1, "what happened in between is noticed"


def test_links_in_a_circle(field: Field) -> None:
    field.link("file", "file")
    assert len(list(steps(str(field.path)))) == LINKS + 1
    field.begin()
    field.put("file", "a")
    assert field.look() == 1


NO_WATCHES = """
import logging, sys
from fetchd.daemon.router.loop import Loop
from fetchd.daemon.supervise.surroundings import Surroundings
open(f"/proc/sys/user/max_inotify_{sys.argv.pop()}", "w").write("0")
logging.basicConfig(level=logging.INFO)
watch = Surroundings(Loop(), lambda pause, call: None, print)
watch.watch(sys.argv[1:])
watch.watch(sys.argv[1:])
open(sys.argv[1], "w").write("longer")
watch.watch(sys.argv[1:])
"""


@pytest.mark.parametrize(("kind", "why"), [("watches", "No space"), ("instances", "Too many")])
def test_no_watches_are_left(field: Field, kind: str, why: str) -> None:
    _plain(field)
    own = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace can be made here")
    done = subprocess.run(
        [*own, sys.executable, "-c", NO_WATCHES, field.path, kind],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.count(f"may not learn of other files in {field.root}, until a reload: {why}") == 1
    assert done.stdout == f"['{field.path}']\n", "a reload looks by itself"
