"""The sandbox: privileges, limits, and all layers together, on the kernel that is here and on lesser ones."""

import errno
import mmap
import os
import re
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import kernels
from support.forked import forked

from fetchd.daemon import sandbox
from fetchd.daemon.sandbox import privileges, room
from fetchd.daemon.sandbox.kernel import prctl

from .walls import needs_all, outcome

NOBODY = 65534
PR_GET_DUMPABLE, PR_GET_SECUREBITS = 3, 27
UNLIMITED = {"memory": 1 << 34, "open_files": 256, "file_size": None}


def status(*names: str) -> dict[str, str]:
    """Fields of /proc/self/status."""
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: lines[name].strip() for name in names}


CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")
def test_root_keeps_no_capability() -> None:
    """Not even by running a program, which gives root everything back without the securebits."""

    def child() -> tuple[dict[str, str], str, int, list[str]]:
        privileges.drop_capabilities()
        program = ["grep", "CapEff", "/proc/self/status"]
        after = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()[1]
        deeds = (
            lambda: os.setuid(NOBODY),
            lambda: os.chroot("/"),
            lambda: prctl(privileges.PR_SET_SECUREBITS, 0),
        )
        return status(*CAPABILITIES), after, prctl(PR_GET_SECUREBITS), [outcome(deed) for deed in deeds]

    nothing = "0" * 16
    assert forked(child) == (dict.fromkeys(CAPABILITIES, nothing), nothing, 0b1111, ["EPERM"] * 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_has_none_has_nothing_to_drop() -> None:
    """Not even where an outer sandbox refuses to hear of it, as that of our own unit does."""

    def child(refused: kernels.Calls) -> dict[str, str]:
        kernels.refuse(refused)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        privileges.drop_capabilities()
        return status("CapPrm", "CapEff")

    for refused in ({}, kernels.NO_CAPSET):
        assert forked(child, refused) == dict.fromkeys(("CapPrm", "CapEff"), "0" * 16)


def test_no_new_privileges_and_still_seen() -> None:
    """Who watches a worker's memory reads its /proc, which it may not while it is not dumpable."""

    def child() -> tuple[str, int]:
        privileges.drop_capabilities()
        privileges.no_new_privileges()
        return status("NoNewPrivs")["NoNewPrivs"], prctl(PR_GET_DUMPABLE)

    assert forked(child) == ("1", 1)


def test_limits() -> None:
    """They hold, and cannot be raised again."""

    def child() -> list[str]:
        privileges.limit(memory=1 << 30, open_files=20, file_size=1000)
        privileges.drop_capabilities()
        kinds = (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
        raised = [resource.getrlimit(kind) for kind in kinds]
        assert raised == [(most, most) for most in (1 << 30, 20, 1000, 0)], raised
        for kind in kinds:
            with pytest.raises(ValueError, match="not allowed"):
                resource.setrlimit(kind, (2 << 30, 2 << 30))
        with open("/tmp", "rb", opener=lambda path, _: os.open(path, os.O_TMPFILE | os.O_RDWR)) as file:
            size = outcome(lambda: os.pwrite(file.fileno(), b"x", 1000))
        try:
            mmap.mmap(-1, 2 << 30)
        except OSError as error:
            memory = errno.errorcode[error.errno]
        kept: list[int] = []
        return [size, memory, outcome(lambda: [kept.append(os.dup(0)) for _ in range(20)])]

    assert forked(child) == ["EFBIG", "ENOMEM", "EMFILE"]


def test_a_limit_that_is_lower_stays() -> None:
    def child() -> tuple[int, int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (30, 40))
        privileges.limit(**UNLIMITED)  # type: ignore[arg-type]
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert forked(child) == (40, 40)


# all together


NOWHERE = room.Policy(writable=(), readable=())


def locked(mode: room.Mode, refused: kernels.Calls) -> room.Layers | str:
    """What the room says of itself on a kernel that refuses these calls, or why it is none."""

    def child() -> room.Layers | str:
        kernels.refuse(refused)
        try:
            return room.enter(NOWHERE, mode) | room.seal(mode)
        except room.RoomError as error:
            return str(error)

    return forked(child)


@needs_all
@pytest.mark.parametrize("mode", ["required", "best-effort"])
def test_every_layer(mode: room.Mode) -> None:
    assert locked(mode, {}) == dict.fromkeys(room.LAYERS, "on")
    assert room.probe() == dict.fromkeys(room.LAYERS, "on")


def test_off_is_off() -> None:
    def child() -> tuple[room.Layers, dict[str, str], bool]:
        before = status(*CAPABILITIES, "NoNewPrivs", "Seccomp")
        layers = room.enter(NOWHERE, "off") | room.seal("off")
        return layers, before, before == status(*CAPABILITIES, "NoNewPrivs", "Seccomp")

    layers, _, same = forked(child)
    assert layers == dict.fromkeys(room.LAYERS, "off")
    assert same


MISSING: dict[str, tuple[kernels.Calls, str]] = {
    "landlock": (kernels.NO_LANDLOCK, "Function not implemented"),
    "landlock that is not started": ({kernels.CREATE_RULESET: errno.EOPNOTSUPP}, "Operation not supported"),
    "landlock in an outer sandbox": ({kernels.CREATE_RULESET: errno.EPERM}, "Operation not permitted"),
    "seccomp": (kernels.NO_SECCOMP, "Operation not permitted"),
    "capabilities, which root has": (kernels.NO_CAPSET, "Operation not permitted"),
    "limits": (kernels.NO_CORE_LIMIT, "Operation not permitted"),
}


@needs_all
@pytest.mark.parametrize("what", MISSING)
def test_a_layer_that_is_missing(what: str) -> None:
    """`required` is no room then, in words; `best-effort` tells, and has all the others."""
    refused, why = MISSING[what]
    layer = re.split("[ ,]", what)[0]
    if layer == "capabilities" and os.geteuid() != 0:
        pytest.skip("only root has capabilities to give up")
    assert locked("required", refused) == f"{layer}: unavailable: {why}"
    assert locked("best-effort", refused) == dict.fromkeys(room.LAYERS, "on") | {layer: f"unavailable: {why}"}

    def child() -> room.Layers:
        kernels.refuse(refused)
        return room.probe()

    assert forked(child) == dict.fromkeys(room.LAYERS, "on") | {layer: f"unavailable: {why}"}


@needs_all
def test_a_part_that_is_missing() -> None:
    """What holds in part does not hold."""

    def child() -> str:
        kernels.speak_landlock(5)
        with pytest.raises(room.RoomError) as caught:
            room.enter(NOWHERE, "required")
        return str(caught.value)

    assert forked(child) == "landlock: partial: version 5 does not govern signals and abstract sockets"


@needs_all
def test_no_descriptor_is_left() -> None:
    def child() -> bool:
        before = len(os.listdir("/proc/self/fd"))
        room.enter(room.Policy((), ("/proc",)), "required")
        return len(os.listdir("/proc/self/fd")) == before

    assert forked(child)


@needs_all
def test_others_may_take_it(downloads: Path) -> None:
    """Copied elsewhere it works without us, and the example in its docstring does what it says."""
    shutil.copytree(
        Path(sandbox.__file__).parent, downloads / "sandbox", ignore=shutil.ignore_patterns("*.md", "__py*")
    )
    example = textwrap.dedent(
        "".join((sandbox.__doc__ or "").partition("    from")[1:]).partition("\nFrom then")[0]
    )
    script = f"import sys\nsys.path.insert(0, {str(downloads)!r})\n{example}"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("every layer holds\n", "")
