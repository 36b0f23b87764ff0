"""Landlock by itself: every right that is granted or denied, on the kernel that is here and on older ones."""

import errno
import fcntl
import os
import shutil
import socket
import stat
import termios
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support import kernels
from support.forked import forked

from fetchd.daemon.sandbox import privileges, room

from .walls import needs_all, needs_landlock, outcome, outcomes


@pytest.fixture
def place(downloads: Path) -> Path:
    """Directories `read`, `write` and `out` with the same things in them."""
    for name in ("read", "write", "out"):
        (downloads / name / "sub").mkdir(parents=True)
        for file in ("file", "old", "gone", "sub/deep"):
            (downloads / name / file).write_text("text")
        (downloads / name / "empty").mkdir()
        shutil.copy("/bin/true", downloads / name / "program")
    return downloads


def lock(place: Path, **policy: object) -> room.Layers:
    """Landlock alone, with a policy for `place`."""
    privileges.no_new_privileges()
    chosen = {"writable": (str(place / "write"),), "readable": (str(place / "read"),)} | policy
    return {"landlock": room._landlock(room.Policy(**chosen)) or room.ON}  # type: ignore[arg-type]


def use(directory: Path) -> dict[str, Callable[[], object]]:
    """What can be done with things that are there."""
    file = str(directory / "file")
    return {
        "read": lambda: os.close(os.open(file, os.O_RDONLY)),
        "list": lambda: os.listdir(directory),
        "write": lambda: os.close(os.open(file, os.O_WRONLY)),
        "truncate": lambda: os.truncate(file, 1),
        "truncate by opening": lambda: os.close(os.open(file, os.O_RDONLY | os.O_TRUNC)),
        "run": lambda: os.waitpid(os.posix_spawn(directory / "program", ["program"], {}), 0),
        "status": lambda: os.stat(file),
        "mode": lambda: os.chmod(file, 0o600),
        "times": lambda: os.utime(file, (1, 1)),
    }


def change(directory: Path) -> dict[str, Callable[[], object]]:
    """What can be done to a directory."""
    at = {name: str(directory / name) for name in ("old", "gone", "empty", "new", "moved", "sub/moved")}
    return {
        "make a file": lambda: os.close(os.open(at["new"], os.O_CREAT | os.O_WRONLY)),
        "make a directory": lambda: os.mkdir(at["new"] + "d"),
        "rename": lambda: os.rename(at["old"], at["moved"]),
        "move": lambda: os.rename(at["moved" if os.path.exists(at["moved"]) else "old"], at["sub/moved"]),
        "unlink": lambda: os.unlink(at["gone"]),
        "rmdir": lambda: os.rmdir(at["empty"]),
        "symlink": lambda: os.symlink("x", at["new"] + "s"),
        "fifo": lambda: os.mkfifo(at["new"] + "f"),
        "device": lambda: os.mknod(at["new"] + "c", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "block device": lambda: os.mknod(at["new"] + "b", stat.S_IFBLK | 0o600, os.makedev(7, 0)),
        "socket": lambda: _bound(at["new"] + "u"),
    }


def _bound(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


UNGOVERNED = {"status": "done", "mode": "done", "times": "done"}
READING = {"read", "list"}
MAKING = {"make a file", "make a directory", "rename", "move", "unlink", "rmdir"}


def answers(names: Mapping[str, object], allowed: set[str]) -> dict[str, str]:
    """`done` for what is allowed, EACCES for the rest."""
    return {name: "done" if name in allowed else "EACCES" for name in names}


@needs_all
def test_rights_over_files(place: Path) -> None:
    def child() -> dict[str, dict[str, str]]:
        # with what a program is started with: to be read is not to be run
        lock(place, readable=(str(place / "read"), "/lib", "/lib64", "/usr/lib"))
        return {name: outcomes(use(place / name)) for name in ("read", "write", "out")}

    writing = READING | {"write", "truncate", "truncate by opening"}
    names = use(place)
    assert forked(child) == {
        "read": answers(names, READING) | UNGOVERNED,
        "write": answers(names, writing) | UNGOVERNED,
        "out": answers(names, set()) | UNGOVERNED,
    }
    assert [(place / name / "file").stat().st_size for name in ("read", "write", "out")] == [4, 0, 4]


@needs_all
@pytest.mark.parametrize("make", [False, True])
def test_rights_over_directories(place: Path, make: bool) -> None:
    """`make` is for files and directories; links, devices, fifos and sockets are made by nobody."""

    def child() -> dict[str, dict[str, str]]:
        lock(place, make=make)
        return {name: outcomes(change(place / name)) for name in ("read", "write", "out")}

    none = answers(change(place), set())
    assert forked(child) == {
        "read": none, "write": answers(change(place), MAKING if make else set()), "out": none,
    }  # fmt: skip


@needs_all
def test_nothing_is_moved_across_the_walls(place: Path) -> None:
    def child() -> set[str]:
        lock(place, make=True)
        pairs = (("write", "out"), ("out", "write"), ("write", "read"), ("read", "write"))
        moves = [lambda a=a, b=b: os.rename(place / a / "file", place / b / "new") for a, b in pairs]
        links = [lambda a=a, b=b: os.link(place / a / "file", place / b / "new") for a, b in pairs]
        return {outcome(deed) for deed in (*moves, *links)}

    assert forked(child) <= {"EACCES", "EXDEV"}
    assert not list(place.rglob("new"))


@needs_landlock
def test_a_rule_for_one_file(place: Path) -> None:
    """Also through a link; what is not there is left out."""
    (place / "link").symlink_to(place / "out" / "file")

    def child() -> list[str]:
        lock(place, readable=(str(place / "link"), str(place / "missing")))
        return [
            outcome(use(place / "out")["read"]),
            outcome(lambda: os.open(place / "out" / "old", os.O_RDONLY)),
        ]

    assert forked(child) == ["done", "EACCES"]


@needs_all
def test_devices_hear_no_ioctl(place: Path) -> None:
    def child() -> str:
        lock(place, readable=("/dev/null",))
        with open("/dev/null", "rb") as device:
            return outcome(lambda: fcntl.ioctl(device, termios.TCGETS, bytes(64)))

    assert forked(child) == "EACCES"
    with open("/dev/null", "rb") as device:
        assert outcome(lambda: fcntl.ioctl(device, termios.TCGETS, bytes(64))) == "ENOTTY"


@needs_landlock
def test_threads_and_what_is_renamed(place: Path) -> None:
    """A thread that was there before is free, a later one is not; the rules follow the directories."""

    def child() -> list[str]:
        locked, moved = threading.Event(), threading.Event()
        said: dict[str, str] = {}

        def free() -> None:
            locked.wait()
            said["before"] = outcome(lambda: os.rename(place / "out" / "sub", place / "write" / "came"))
            os.rename(place / "write" / "sub", place / "out" / "left")
            moved.set()

        def bound() -> None:
            said["later"] = outcome(use(place / "out")["read"])

        before, later = threading.Thread(target=free), threading.Thread(target=bound)
        before.start()
        lock(place)
        locked.set()
        moved.wait()
        later.start()
        later.join()
        came, left = place / "write" / "came" / "deep", place / "out" / "left" / "deep"
        return [
            said["before"],
            said["later"],
            *(outcome(lambda p=p: os.open(p, os.O_RDWR)) for p in (came, left)),
        ]

    assert forked(child) == ["done", "EACCES", "done", "EACCES"]


# sockets and signals


def use_socket(family: int, kind: int, deed: Callable[[socket.socket], object]) -> str:
    with socket.socket(family, kind) as one:
        return outcome(lambda: deed(one))


@needs_all
@pytest.mark.parametrize("governed", [False, True])
def test_ports(place: Path, governed: bool) -> None:
    """TCP connections to the ports that are listed, or to all where there is no list; servers never."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as two,
    ):
        ports = one.getsockname()[1], two.getsockname()[1]

        def child() -> list[str]:
            lock(place, ports=ports[:1] if governed else None)
            tcp = socket.SOCK_STREAM
            return [
                use_socket(socket.AF_INET, tcp, lambda one: one.connect(("127.0.0.1", ports[0]))),
                use_socket(socket.AF_INET6, tcp, lambda one: one.connect(("::1", ports[1]))),
                use_socket(socket.AF_INET, tcp, lambda one: one.bind(("127.0.0.1", 0))),
                use_socket(socket.AF_INET, socket.SOCK_DGRAM, lambda one: one.sendto(b"x", ("127.0.0.1", 9))),
            ]

        assert forked(child) == ["done", "EACCES" if governed else "done", "EACCES", "done"]


@needs_all
def test_signals_and_abstract_sockets(place: Path) -> None:
    """Only to ourselves. A socket with a path is not governed."""
    local = socket.AF_UNIX
    with socket.socket(local) as abstract, socket.socket(local) as path:
        abstract.bind("")
        path.bind(str(place / "out" / "socket"))
        abstract.listen()
        path.listen()
        parent = os.getpid()

        def child() -> list[str]:
            lock(place)
            return [
                outcome(lambda: os.kill(parent, 0)),
                outcome(lambda: os.kill(os.getpid(), 0)),
                use_socket(local, socket.SOCK_STREAM, lambda one: one.connect(abstract.getsockname())),
                use_socket(local, socket.SOCK_STREAM, lambda one: one.connect(str(place / "out" / "socket"))),
            ]

        assert forked(child) == ["EPERM", "done", "EPERM", "done"]


# older kernels


OLDER = {
    1: "truncation, ports, ioctl of devices, signals and abstract sockets",
    2: "truncation, ports, ioctl of devices, signals and abstract sockets",
    3: "ports, ioctl of devices, signals and abstract sockets",
    4: "ioctl of devices, signals and abstract sockets",
    5: "signals and abstract sockets",
}


@needs_all
@pytest.mark.parametrize("version", range(1, 8))
def test_older_versions(place: Path, version: int) -> None:
    """Everything that a version knows is denied, the rest is told, and is let pass."""
    parent = os.getpid()

    def child() -> tuple[list[str], dict[str, str]]:
        kernels.speak_landlock(version)
        told = [
            room.probe()["landlock"],
            lock(place, ports=(1,), make=True, readable=("/dev/null",))["landlock"],
        ]
        device = os.open("/dev/null", os.O_RDONLY)
        return told, outcomes(
            {
                "read": use(place / "out")["read"],
                "write": use(place / "out")["write"],
                "truncation": use(place / "out")["truncate"],
                "moves": change(place / "write")["move"],
                "ports": lambda: socket.socket().bind(("127.0.0.1", 0)),
                "ioctl of devices": lambda: fcntl.ioctl(device, termios.TCGETS, bytes(64)),
                "signals": lambda: os.kill(parent, 0),
            }
        )

    told, came = forked(child)
    wanted = f"partial: version {version} does not govern {OLDER[version]}" if version in OLDER else "on"
    assert told == [wanted, wanted]
    assert came == {
        "read": "EACCES", "write": "EACCES", "moves": "done" if version >= 2 else "EXDEV",
        "truncation": "EACCES" if version >= 3 else "done", "ports": "EACCES" if version >= 4 else "done",
        "ioctl of devices": "EACCES" if version >= 5 else "ENOTTY",
        "signals": "EPERM" if version >= 6 else "done",
    }  # fmt: skip


@needs_landlock
def test_a_kernel_that_cannot_do_what_it_says() -> None:
    """The rules are refused, not weakened in silence."""

    def child() -> str:
        kernels.speak_landlock(3, says=7)
        return room.enter(room.Policy((), ()), "best-effort")["landlock"]

    assert forked(child) == f"unavailable: {os.strerror(errno.EINVAL)}"
