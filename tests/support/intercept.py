"""System calls of a daemon and all its children, stopped one by one: done, refused, passed over or deadly.

By seccomp_unotify(2). `strace -e inject=…:when=N` counts in each thread, and so never comes to a call that
always follows another thread's N-th; here all calls are counted in the order in which the kernel meets them.
Only calls on something below `roots` count. Linux on x86-64, as root or not.

Run as a program it puts the filter on itself, sends its descriptor away, and becomes the command.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

PLACES = tuple[tuple[int | None, int], ...]
"""For each path among the arguments of a call: which one is its directory's descriptor, which the path."""

CALLS: dict[str, tuple[int, int | PLACES]] = {
    "pwrite64": (18, 0), "fsync": (74, 0), "fdatasync": (75, 0), "ftruncate": (77, 0), "splice": (275, 2),
    "fallocate": (285, 0), "mkdir": (83, ((None, 0),)), "rmdir": (84, ((None, 0),)),
    "rename": (82, ((None, 0), (None, 1))), "link": (86, ((None, 0), (None, 1))),
    "unlink": (87, ((None, 0),)), "mkdirat": (258, ((0, 1),)), "unlinkat": (263, ((0, 1),)),
    "renameat": (264, ((0, 1), (2, 3))), "renameat2": (316, ((0, 1), (2, 3))),
}  # fmt: skip
"""Number on x86-64, and where the file is: the argument with its descriptor, or the paths."""

_SECCOMP, _FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 317, 1, 8, 38
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=Qqii")


class Deed(Enum):
    """What becomes of a call, other than an error number, with which it fails."""

    DO = "do"
    SKIP = "skip"
    """It returns 0 and is not done."""
    KILL = "kill"
    """The process that makes it dies before it is done."""


@dataclass(frozen=True)
class Call:
    """One call: the `number`-th that counted. `thread` is who makes it, `path` what it is about."""

    number: int
    thread: int
    name: str
    path: str


def why_not() -> str | None:
    """Why calls cannot be intercepted here, or None where they can."""
    if platform.machine() != "x86_64":
        return f"calls are not intercepted on {platform.machine()}"
    return None


class Interceptor:
    """Put `wrapper` before a command. `decide` is asked for each call, in a thread, one after another.

    Close it only when all that run behind it have ended: from then on their calls fail with ENOSYS.
    """

    def __init__(
        self,
        names: Iterable[str],
        roots: Iterable[str | os.PathLike[str]],
        decide: Callable[[Call], Deed | int],
    ) -> None:
        self._calls = {CALLS[name][0]: (name, CALLS[name][1]) for name in names}
        self._roots = [os.path.realpath(root) for root in roots]
        self._decide = decide
        self._count = 0
        self._directory = tempfile.mkdtemp(prefix="fd-", dir="/tmp")
        where = f"{self._directory}/s"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(where)
        self._server.listen()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        numbers = ",".join(map(str, self._calls))
        self.wrapper = [sys.executable, "-I", os.path.abspath(__file__), where, numbers]
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, name="interceptor")
        self._thread.start()

    def close(self) -> None:
        """End the thread; raises what went wrong in it."""
        os.eventfd_write(self._closing, 1)
        self._thread.join()
        self._server.close()
        os.close(self._closing)
        with suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/s")
        os.rmdir(self._directory)
        if self.errors:
            raise self.errors[0]

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._server, select.POLLIN)
        poller.register(self._closing, select.POLLIN)
        listeners: set[int] = set()
        while True:
            ready = dict(poller.poll())
            if self._closing in ready:
                break
            for fd, events in ready.items():
                if fd == self._server.fileno():
                    listener = self._take()
                    listeners.add(listener)
                    poller.register(listener, select.POLLIN)
                elif events & select.POLLIN:
                    self._answer(fd)
                else:  # nobody is left behind it
                    poller.unregister(fd)
                    listeners.discard(fd)
                    os.close(fd)
        for fd in listeners:
            os.close(fd)

    def _take(self) -> int:
        connection, _ = self._server.accept()
        with connection:
            return socket.recv_fds(connection, 1, 1)[1][0]

    def _answer(self, listener: int) -> None:
        try:
            received = fcntl.ioctl(listener, _RECEIVE, bytes(_NOTIFICATION.size))
        except OSError as error:  # it has died meanwhile
            if error.errno not in (errno.ENOENT, errno.EINTR):
                self.errors.append(error)
            return
        number, thread, _flags, call, _arch, _ip, *arguments = _NOTIFICATION.unpack(received)
        deed: Deed | int = Deed.DO
        try:
            name, places = self._calls[call]
            found = _paths(thread, arguments, places)
            if any(path == root or path.startswith(root + "/") for path in found for root in self._roots):
                self._count += 1
                deed = self._decide(Call(self._count, thread, name, " -> ".join(found)))
        except (FileNotFoundError, ProcessLookupError):  # it has died meanwhile
            pass
        except BaseException as error:
            self.errors.append(error)
        answer = (0, 0, _CONTINUE) if deed is Deed.DO else (0, -deed if isinstance(deed, int) else 0, 0)
        with suppress(OSError):
            if deed is Deed.KILL:
                os.kill(thread, signal.SIGKILL)  # a thread's ID stands for its process here
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, *answer))


def _paths(thread: int, arguments: list[int], places: int | PLACES) -> list[str]:
    if isinstance(places, int):
        return [os.readlink(f"/proc/{thread}/fd/{_signed(arguments[places])}")]
    found = []
    for directory, place in places:
        text = _text(thread, arguments[place])
        if not text.startswith("/"):
            at = -100 if directory is None else _signed(arguments[directory])
            base = os.readlink(f"/proc/{thread}/cwd" if at == -100 else f"/proc/{thread}/fd/{at}")
            text = os.path.join(base, text)
        found.append(text)
    return found


def _text(thread: int, address: int) -> str:
    """A string in the memory of a process: read page by page, as the next one may not be there.

    ProcessLookupError where it has died meanwhile, and its memory is empty.
    """
    data = b""
    fd = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while b"\0" not in data:
            at = address + len(data)
            piece = os.pread(fd, 4096 - at % 4096, at)
            if not piece:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            data += piece
    finally:
        os.close(fd)
    return os.fsdecode(data[: data.index(b"\0")])


def _signed(value: int) -> int:
    return struct.unpack("=i", struct.pack("=I", value & 0xFFFFFFFF))[0]  # type: ignore[no-any-return]


def _become(where: str, numbers: list[int], command: list[str]) -> None:
    """Put the filter on this process, send its descriptor to `where`, and run the command."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(where)
        code = struct.pack("=HBBI", 0x20, 0, 0, 0)  # load the number of the call
        for number in numbers:
            code += struct.pack("=HBBI", 0x15, 0, 1, number) + struct.pack("=HBBI", 0x06, 0, 0, _NOTIFY)
        code += struct.pack("=HBBI", 0x06, 0, 0, _ALLOW)
        held = ctypes.create_string_buffer(code, len(code))
        program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        fd = libc.syscall(_SECCOMP, _FILTER, _NEW_LISTENER, program)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "seccomp")
        socket.send_fds(server, [b"x"], [fd])
    os.close(fd)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(sys.argv[1], [int(number) for number in sys.argv[2].split(",")], sys.argv[3:])
