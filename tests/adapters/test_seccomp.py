"""The seccomp filter: interpreted for every machine that it knows, and in force on this one."""

import errno
import itertools
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.forked import KilledError, forked

from fetchd.daemon.sandbox import privileges, seccomp
from fetchd.daemon.sandbox.kernel import LayerError, prctl, syscall

from . import bpf
from .walls import outcome

PID = 4711
KILL, ALLOW = 0x80000000, 0x7FFF0000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""As `linux/audit.h` calls them: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64."""
OTHERS = {"i386": 0x40000003, "arm": 0x40000028, "riscv64": 0xC00000F3, "none": 0}

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
"""The second one is what arm64 takes its numbers from; it lies there whatever the machine is."""

NAMES = {*seccomp.KILLED, *seccomp.REFUSED, *seccomp.UNKNOWN, *(check.call for check in seccomp.checks(PID))}

try:
    seccomp.available()
except LayerError as error:
    WHY = f"seccomp: {error}"
else:
    WHY = ""

on_this_machine = pytest.mark.skipif(bool(WHY), reason=WHY)
every_machine = pytest.mark.parametrize("machine", MACHINES)

FD = 99_999
"""A descriptor that nobody has."""

ARGUMENTS: dict[str, list[tuple[tuple[int, ...], bool]]] = {
    "clone": [((0x003D0F00,), True), ((signal.SIGCHLD,), False), ((0x10000000 | signal.SIGCHLD,), False)],
    "socket": [
        ((socket.AF_INET, socket.SOCK_STREAM, 0), True),
        ((socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 6), True),
        ((socket.AF_INET, socket.SOCK_DGRAM, 17), True),
        ((socket.AF_UNIX, socket.SOCK_STREAM, 0), False),
        ((socket.AF_NETLINK, socket.SOCK_DGRAM, 0), False),
        ((socket.AF_PACKET, socket.SOCK_DGRAM, 0), False),
        ((socket.AF_INET, socket.SOCK_RAW, 0), False),
        ((socket.AF_INET, socket.SOCK_DGRAM, 1), False),
        ((socket.AF_INET, socket.SOCK_STREAM, 262), False),
        ((socket.AF_INET6, socket.SOCK_SEQPACKET, 132), False),
    ],
    "sendto": [((FD, 0, 0, 0x4000), True), ((FD, 0, 0, 0x20000000), False), ((FD, 0, 0, 0x20004000), False)],
    "sendmsg": [((FD, 0, 0x4000), True), ((FD, 0, 0x20004000), False)],
    "sendmmsg": [((FD, 0, 1, 0x4000), True), ((FD, 0, 1, 0x20000000), False)],
    "open": [((0, os.O_RDWR | os.O_CREAT), True), ((0, 0o20200002), False), ((0, 0o20000000), False)],
    "openat": [((FD, 0, os.O_RDWR | os.O_CREAT), True), ((FD, 0, 0o20200002), False)],
    "kill": [((PID, 9), True), ((1, 9), False), ((0, 9), False), ((-1, 9), False), ((-PID, 9), False)],
    "tgkill": [((PID, PID + 1, 9), True), ((1, 1, 9), False)],
    "tkill": [((PID, 9), False), ((1, 9), False)],
    "prlimit64": [((0, 7), True), ((PID, 7), True), ((1, 7), False)],
    "sched_setscheduler": [
        ((PID, 0), True), ((1, 0), True), ((0, 5), False), ((1, 3), False), ((0, 1 << 30), False),
    ],
    "prctl": [((15,), True), ((1, 0), False), ((4, 0), False), ((35,), False), ((0x59616D61,), False)],
    "ioctl": [((FD, 0x5421), True), ((FD, 0x8901), False), ((FD, 0x8902), False), ((FD, 0x5412), False),
              ((FD, 0x541C), False)],
    "fcntl": [((FD, 1), True), ((FD, 4), True), ((FD, 8), False), ((FD, 10), False), ((FD, 15), False),
              ((FD, 1024), False), ((FD, 1026), False)],
}  # fmt: skip
"""Arguments, and whether a call with them is let through."""


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    known, _, table = seccomp.MACHINES[machine]
    assert known == MACHINES[machine]
    program = seccomp.assemble(known, table, PID)
    chosen = known if architecture is None else architecture
    return bpf.run(program, number=number, architecture=chosen, arguments=arguments)


@every_machine
def test_every_number(machine: str) -> None:
    """What is named gets its answer, and every other number goes through. (Arguments are zeros here.)"""
    table = seccomp.MACHINES[machine][2]
    names = {number: name for name, number in table.items()}
    assert len(names) == len(table)
    wanted = dict.fromkeys(seccomp.KILLED, KILL) | dict.fromkeys(seccomp.REFUSED, EPERM)
    wanted |= dict.fromkeys(seccomp.UNKNOWN, ENOSYS)
    for number in range(1000):
        name = names.get(number, "")
        if name not in ARGUMENTS:
            assert verdict(machine, number) == wanted.get(name, ALLOW), (number, name)


@every_machine
def test_arguments(machine: str) -> None:
    """The upper half of an argument, which the kernel does not look at, changes nothing."""
    table = seccomp.MACHINES[machine][2]
    assert ARGUMENTS.keys() == {check.call for check in seccomp.checks(PID)}
    for name, cases in ARGUMENTS.items():
        for (arguments, allowed), upper in itertools.product(cases, (0, 1 << 32, 0xFFFFFFFF << 32)):
            if name in table:
                given = [one & 0xFFFFFFFF | upper for one in arguments]
                assert verdict(machine, table[name], *given) == (ALLOW if allowed else EPERM), (
                    name,
                    arguments,
                )


@every_machine
def test_other_machines_and_numbers_of_x32(machine: str) -> None:
    """A 64 bit process may call as one of 32 bits, where the same numbers are other calls (seccomp(2))."""
    for architecture in {**OTHERS, **MACHINES}.values():
        for number in (0, 1, 59, 221, 999):
            if architecture != MACHINES[machine]:
                assert verdict(machine, number, architecture=architecture) == KILL
    for number in (0, 1, 59, 520, 0x3FFFFFFF):
        assert verdict(machine, 0x40000000 | number) == KILL
    assert verdict(machine, 0xFFFFFFFF) == KILL


@every_machine
def test_the_numbers_are_the_kernels(machine: str) -> None:
    """Every number is that of the headers, and what the headers know and the filter names is in the table."""
    path, table = HEADERS[machine], seccomp.MACHINES[machine][2]
    if not path.exists():
        pytest.skip(f"{path} is not here (package linux-libc-dev)")
    found = re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    headers = {name: int(number) for name, number in found}
    newest = max(headers.values())
    assert len(headers) > 300
    for name in NAMES:
        if name in headers or table.get(name, newest) <= newest:
            assert table.get(name) == headers.get(name), name


@every_machine
def test_no_number_is_for_nothing(machine: str) -> None:
    assert not seccomp.MACHINES[machine][2].keys() - NAMES
    assert not NAMES - seccomp.MACHINES["x86_64"][2].keys()


# in force


def sealed(deed: Callable[[], object]) -> object:
    """What the deed returns in a child behind the filter, which could do no harm without it either."""

    def child() -> object:
        privileges.drop_capabilities()
        privileges.no_new_privileges()
        seccomp.install()
        return deed()

    return forked(child)


def number(name: str) -> int:
    return seccomp.MACHINES[os.uname().machine][2][name]


def here(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in seccomp.MACHINES[os.uname().machine][2]]


@on_this_machine
def test_what_is_refused() -> None:
    def child() -> dict[str, str]:
        return {name: attempt(name) for name in here((*seccomp.REFUSED, *seccomp.UNKNOWN))}

    def attempt(name: str) -> str:
        try:
            if syscall(number(name), 0, 0, 0, 0, 0, 0) == 0 and os.getpid() != me():
                os._exit(0)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "done"

    def me() -> int:
        return int(os.readlink("/proc/self"))

    refused, unknown = here(seccomp.REFUSED), here(seccomp.UNKNOWN)
    assert sealed(child) == dict.fromkeys(refused, "EPERM") | dict.fromkeys(unknown, "ENOSYS")


@on_this_machine
@pytest.mark.parametrize("name", seccomp.KILLED)
def test_what_kills(name: str) -> None:
    with pytest.raises(KilledError) as caught:
        sealed(lambda: outcome(lambda: syscall(number(name), 0, 0, 0, 0, 0, 0)))
    assert caught.value.number == signal.SIGSYS


@on_this_machine
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is of x86-64")
def test_x32_kills() -> None:
    with pytest.raises(KilledError) as caught:
        sealed(lambda: syscall(0x40000000 | 39))  # getpid
    assert caught.value.number == signal.SIGSYS


@on_this_machine
def test_arguments_in_force() -> None:
    """The kernel and the interpreter are of one mind, where nothing comes of a call that is let through."""

    def child() -> dict[tuple[str, tuple[int, ...]], bool]:
        return {
            (name, arguments): outcome(
                lambda n=name, a=arguments: syscall(number(n), *a, *[0] * (6 - len(a)))
            )
            != "EPERM"
            for name in here(tuple(harmless))
            for arguments, _ in ARGUMENTS[name]
        }

    harmless = ("socket", "sendto", "sendmsg", "sendmmsg", "tkill", "prlimit64", "prctl", "fcntl")
    came = sealed(child)
    assert isinstance(came, dict)
    for (name, arguments), passed in came.items():
        # the numbers of processes are not those of the child
        if name != "prlimit64" or PID not in arguments:
            assert passed == dict(ARGUMENTS[name])[arguments], (name, arguments)


@on_this_machine
def test_what_goes_on() -> None:
    """Threads, files, and TCP, for those who have been there before and for those who come later."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = server.getsockname()

        def child() -> tuple[str, str, str, int]:
            said: list[str] = []
            begin = threading.Event()

            def early() -> None:
                begin.wait()
                said.append(outcome(lambda: os.kill(os.getppid(), 0)))

            first = threading.Thread(target=early)
            first.start()
            seccomp.install()
            begin.set()
            first.join()
            later = threading.Thread(target=lambda: said.append(outcome(lambda: os.kill(os.getppid(), 0))))
            later.start()
            later.join()
            with socket.create_connection(name) as one, open(__file__, "rb") as file:
                said.append(outcome(lambda: one.sendall(file.read(10))))
            return (*said, prctl(21))  # type: ignore[return-value]  # PR_GET_SECCOMP

        def free() -> object:
            privileges.no_new_privileges()
            return child()

        assert forked(free) == ("EPERM", "EPERM", "done", 2)


@on_this_machine
def test_without_no_new_privs() -> None:
    """Who has no capabilities has to give up privileges before."""

    def child() -> str:
        privileges.drop_capabilities()
        try:
            seccomp.install()
        except LayerError as error:
            return str(error)
        return "in force"

    assert forked(child) == os.strerror(errno.EACCES)
