"""An interpreter of the classic BPF that seccomp(2) runs (linux/filter.h), over its `struct seccomp_data`."""

import struct
from collections.abc import Sequence

INSTRUCTION = struct.Struct("<HBBI")
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMPS = {
    0x15: lambda value, k: value == k,
    0x25: lambda value, k: value > k,
    0x35: lambda value, k: value >= k,
    0x45: lambda value, k: value & k != 0,
}


def run(program: bytes, *, number: int, architecture: int, arguments: Sequence[int] = ()) -> int:
    """What the program returns for a system call. IndexError where it leaves itself or the data."""
    given = [one & (1 << 64) - 1 for one in arguments] + [0] * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number, architecture, 0x7F00_0000_1234, *given)
    code = list(INSTRUCTION.iter_unpack(program))
    at = value = 0
    while True:
        operation, true, false, k = code[at]
        at += 1
        if operation == LOAD:
            if k % 4 or k + 4 > len(data):
                raise IndexError(k)
            (value,) = struct.unpack_from("<I", data, k)
        elif operation == AND:
            value &= k
        elif operation == RETURN:
            return int(k)
        else:
            at += true if JUMPS[operation](value, k) else false
