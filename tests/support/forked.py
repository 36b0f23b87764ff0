"""A function in a process of its own, for what cannot be undone: sandboxes, limits, other users."""

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from .wait import Deadline, readable

Result = TypeVar("Result")

TIMEOUT = 20.0


class ChildError(Exception):
    """The function raised; the message is its traceback."""


class KilledError(Exception):
    """The child died of the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def forked(function: Callable[..., Result], *arguments: Any) -> Result:
    """What it returns in a forked child, which has to be plain values. `KilledError` if it dies."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                result = (True, function(*arguments))
            except BaseException:
                result = (False, traceback.format_exc())  # type: ignore[assignment]
            os.write(writing, pickle.dumps(result))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    data, deadline = b"", Deadline(TIMEOUT)
    try:
        while True:
            readable(reading, deadline.left("the child"), "the child")
            if not (piece := os.read(reading, 1 << 16)):
                break
            data += piece
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        raise KilledError(-code)
    good, result = pickle.loads(data)
    if not good:
        raise ChildError(result)
    return result  # type: ignore[no-any-return]
