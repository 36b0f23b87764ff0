"""Kernels that lack something, made of this one by seccomp filters. For x86-64 and arm64, as root or not.

Run as a program it refuses system calls to itself, and becomes the command.
"""

import ast
import ctypes
import errno
import fcntl
import os
import resource
import struct
import sys
import threading
from collections.abc import Mapping
from queue import SimpleQueue

SECCOMP, CAPSET, PRLIMIT = {"x86_64": (317, 126, 302), "aarch64": (277, 91, 261)}[os.uname().machine]
CREATE_RULESET = 444

Calls = Mapping[int | tuple[int, int, int], int]
"""Error numbers by the number of a system call, or by that, an argument's place and its value (32 bits)."""

NO_LANDLOCK: Calls = {CREATE_RULESET: errno.ENOSYS}
"""It was left out when the kernel was built. Where it is only not started, the answer is EOPNOTSUPP."""
NO_SECCOMP: Calls = {SECCOMP: errno.EPERM}
"""As an outer sandbox answers."""
NO_CAPSET: Calls = {CAPSET: errno.EPERM}
NO_CORE_LIMIT: Calls = {(PRLIMIT, 1, resource.RLIMIT_CORE): errno.EPERM}

_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 1, 8, 38
_ALLOW, _ERROR, _NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=Qqii")


def refuse(calls: Calls) -> None:
    """From here on these system calls of this thread, and of what it starts, fail with these numbers."""
    _install({call: _ERROR | error for call, error in calls.items()}, 0)


def wrapper(calls: Calls) -> list[str]:
    """What to put before a command for which these system calls are to fail."""
    return [sys.executable, "-I", os.path.abspath(__file__), repr(dict(calls))]


def speak_landlock(version: int, *, says: int | None = None) -> None:
    """From here on this thread meets a Landlock of an older version (landlock(7)), which may say another.

    What that version does not know is refused, as its kernel would; this kernel does the rest. The process
    has to end by itself: a thread of it answers.
    """
    listeners: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_answer, args=(listeners, version, says or version), daemon=True).start()
    listeners.put(_install({CREATE_RULESET: _NOTIFY}, _NEW_LISTENER))


def _answer(listeners: "SimpleQueue[int]", version: int, says: int) -> None:
    listener = listeners.get()
    files = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    known = (files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    while True:
        received = fcntl.ioctl(listener, _RECEIVE, bytes(_NOTIFICATION.size))
        number, thread, _flags, _call, _arch, _ip, address, size, flags, *_ = _NOTIFICATION.unpack(received)
        if flags == 1:
            answer = (says, 0, 0)
        else:
            with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
                wanted = struct.unpack("=3Q", os.pread(memory.fileno(), size, address).ljust(24, b"\0"))
            strange = any(ask & ~have for ask, have in zip(wanted, known, strict=True))
            answer = (0, -errno.EINVAL, 0) if strange else (0, 0, _CONTINUE)
        fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, *answer))


def _install(verdicts: Calls, flags: int) -> int:
    program = []
    for call, verdict in verdicts.items():
        number, *argument = (call,) if isinstance(call, int) else call
        program += [(0x20, 0, 0, 0), (0x15, 0, 3 if argument else 1, number)]  # load the number, compare it
        if argument:
            program += [(0x20, 0, 0, 16 + 8 * argument[0]), (0x15, 0, 1, argument[1])]
        program.append((0x06, 0, 0, verdict))
    code = b"".join(struct.pack("=HBBI", *one) for one in (*program, (0x06, 0, 0, _ALLOW)))
    held = ctypes.create_string_buffer(code, len(code))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    result = int(libc.syscall(SECCOMP, _FILTER, flags, described))
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return result


if __name__ == "__main__":
    refuse(ast.literal_eval(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
