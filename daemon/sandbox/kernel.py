"""System calls that Python has no function for."""

import ctypes
import os
from collections.abc import Sequence

libc = ctypes.CDLL(None, use_errno=True)


class LayerError(Exception):
    """A layer cannot be had here; the message says why."""


def syscall(number: int, *arguments: object) -> int:
    """syscall(2), or OSError. Numbers are passed as 64 bits, bytes and structures as they are."""
    passed: Sequence[object] = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *passed))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with up to four numbers, or OSError."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    result = int(libc.prctl(option, *(ctypes.c_ulong(one) for one in padded)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
