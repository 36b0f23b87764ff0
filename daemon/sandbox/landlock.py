"""Landlock (landlock(7)): what a process may do with files, TCP ports, signals and abstract sockets.

A rule names a directory or file by its inode: what is renamed into an allowed directory becomes accessible,
what is renamed out is not any more. Not governed: stat, chmod and utime by the same user, UDP, sockets with a
path. Only the calling thread is restricted, and threads and processes that it starts later.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from types import TracebackType

from .kernel import LayerError, syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION = 1
RULE_PATH, RULE_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE
MAKE = MAKE_DIR | MAKE_REG | REMOVE_DIR | REMOVE_FILE | REFER
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that a rule for something that is no directory may have."""

BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT, SCOPE_SIGNAL = 1, 2

FILES_SINCE = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
"""Rights over files by the version of the interface that brought them."""

NETWORK_SINCE, SCOPES_SINCE = 4, 6

GOVERNED_SINCE = {3: "truncation", 4: "ports", 5: "ioctl of devices", 6: "signals and abstract sockets"}
"""What an older version lets pass. Moves between directories, since 2, are denied by 1."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("fd", ctypes.c_int32))


class _Port(ctypes.Structure):
    _fields_ = (("access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def version() -> int:
    """The version of the kernel's interface, or `LayerError`."""
    try:
        return syscall(CREATE_RULESET, None, 0, VERSION)
    except OSError as error:
        # EPERM where an outer sandbox forbids it
        raise LayerError(str(error.strerror)) from None


def ungoverned(version: int) -> str:
    """What a kernel of this version lets pass, in words; empty where that is nothing."""
    return ", ".join(what for since, what in GOVERNED_SINCE.items() if version < since)


class Ruleset:
    """Everything is denied but what is allowed; `restrict` puts it in force for this thread.

    What the kernel's version does not know is not denied. What the kernel refuses is a `LayerError`.
    A context manager, which closes the descriptor of the rules.
    """

    def __init__(self, *, connect: bool = False) -> None:
        """With `connect` TCP connections are denied too, but for allowed ports. Binding always is."""
        self.version = version()
        self.handled = sum(rights for since, rights in FILES_SINCE.items() if since <= self.version)
        network = (BIND_TCP | (CONNECT_TCP if connect else 0)) if self.version >= NETWORK_SINCE else 0
        scopes = SCOPE_ABSTRACT | SCOPE_SIGNAL if self.version >= SCOPES_SINCE else 0
        self.governs_ports = bool(network)
        attributes = _Ruleset(self.handled, network, scopes)
        size = 24 if self.version >= SCOPES_SINCE else 16 if self.version >= NETWORK_SINCE else 8
        try:
            self._fd = syscall(CREATE_RULESET, ctypes.byref(attributes), size, 0)
        except OSError as error:
            raise LayerError(str(error.strerror)) from None

    def __enter__(self) -> "Ruleset":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def allow(self, paths: Iterable[str], rights: int) -> None:
        """Allow rights beneath directories, or of files. Links are followed; what is missing is left out."""
        for path in paths:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                wanted = rights & self.handled
                if not stat.S_ISDIR(os.fstat(fd).st_mode):
                    wanted &= OF_FILES
                syscall(ADD_RULE, self._fd, RULE_PATH, ctypes.byref(_Beneath(wanted, fd)), 0)
            except OSError as error:
                raise LayerError(f"{path}: {error.strerror}") from None
            finally:
                os.close(fd)

    def allow_ports(self, ports: Iterable[int]) -> None:
        """Allow TCP connections to these ports, where the kernel governs them."""
        if not self.governs_ports:
            return
        for port in ports:
            rule = _Port(CONNECT_TCP, port)
            try:
                syscall(ADD_RULE, self._fd, RULE_PORT, ctypes.byref(rule), 0)
            except OSError as error:
                raise LayerError(f"port {port}: {error.strerror}") from None

    def restrict(self) -> None:
        """From here on this thread is held to the rules; no_new_privs has to be set."""
        try:
            syscall(RESTRICT_SELF, self._fd, 0)
        except OSError as error:
            raise LayerError(str(error.strerror)) from None
