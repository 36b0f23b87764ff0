"""What a process gives up for good: capabilities, new privileges, memory, descriptors, core files."""

import contextlib
import ctypes
import os
import resource

from .kernel import LayerError, libc, prctl

PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 28, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
LAST_CAPABILITY = 63
CAPABILITY_VERSION = 0x20080522
NOROOT_LOCKED = 0b1111
"""SECBIT_NOROOT, NO_SETUID_FIXUP and their locks: to be root gives no capabilities (capabilities(7))."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def limit(*, memory: int, open_files: int, file_size: int | None) -> None:
    """Limits of address space and files in bytes, and of descriptors; no core files.

    Once capabilities are dropped they cannot be raised again.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if file_size is not None:
        limits[resource.RLIMIT_FSIZE] = file_size
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def no_new_privileges() -> None:
    """No set-user-ID program gives more from here on (prctl(2)); seccomp and Landlock require it."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability, of root too, for good; `LayerError` where some are left."""
    with contextlib.suppress(OSError):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(LAST_CAPABILITY + 1):
        # EINVAL: there is none of this number; EPERM: nothing to drop with
        with contextlib.suppress(OSError):
            prctl(PR_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        prctl(PR_SET_SECUREBITS, NOROOT_LOCKED)
    header, sets = _Header(CAPABILITY_VERSION, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), ctypes.byref(sets)) == 0 and not any(bytes(sets)):
        return  # there are none; a service manager may forbid even to ask for that
    if libc.capset(ctypes.byref(header), ctypes.byref((_Sets * 2)())) != 0:
        raise LayerError(os.strerror(ctypes.get_errno()))
