"""Checksums while the bytes arrive: a thread that follows the frontier of the file and hashes behind it."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from fetchd.protocol.errors import Code

from .api import TransferError

CHUNK = 1 << 20
INLINE = 4 << 20
"""Files up to this size are hashed at the end without a thread."""


class _EndedError(Exception):
    """The thread is to end."""


class Verifier:
    """Hashes a file from its start, as far as `advance` has said; kept bytes of earlier attempts too."""

    def __init__(self, fd: int, algorithms: Iterable[str]) -> None:
        self._fd = fd
        self._hashes = {algorithm: new_hash(algorithm) for algorithm in algorithms}
        self._position = 0
        self._frontier = 0
        self._condition = threading.Condition()
        self._ended = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def advance(self, frontier: int) -> None:
        """Bytes up to `frontier` are in the file. May be called from any thread, in any order."""
        if frontier <= self._frontier:
            return
        with self._condition:
            self._frontier = max(self._frontier, frontier)
            if self._thread is None and not self._ended and frontier > INLINE:
                self._thread = threading.Thread(target=self._run, name="verify", daemon=True)
                self._thread.start()
            self._condition.notify()

    def finish(self, size: int, check: Callable[[], None]) -> dict[str, str]:
        """The digests in hex of the first `size` bytes. `check` is called now and then and may raise."""
        self.stop()
        if self._error is not None:
            raise TransferError(Code.IO_ERROR, self._error.strerror or str(self._error))
        self._frontier = size
        try:
            self._catch_up(check)
        except OSError as error:
            raise TransferError(Code.IO_ERROR, error.strerror or str(error)) from None
        return {algorithm: made.hexdigest() for algorithm, made in self._hashes.items()}

    def stop(self) -> None:
        """End the thread, however far it has come."""
        with self._condition:
            self._ended = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _catch_up(self, check: Callable[[], None]) -> None:
        buffer = bytearray(min(CHUNK, max(1, self._frontier - self._position)))
        view = memoryview(buffer)
        while self._position < self._frontier:
            check()
            room = min(len(buffer), self._frontier - self._position)
            count = os.preadv(self._fd, [view[:room]], self._position)
            if count == 0:
                raise OSError(5, "the file is shorter than what was written")
            for made in self._hashes.values():
                made.update(view[:count])
            self._position += count

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(lambda: self._ended or self._frontier > self._position)
                    if self._ended:
                        return
                self._catch_up(self._check_ended)
        except _EndedError:
            return
        except OSError as error:
            self._error = error

    def _check_ended(self) -> None:
        # hundreds of gigabytes of earlier attempts may have to be hashed, and nobody waits for that at a stop
        if self._ended:
            raise _EndedError


def new_hash(algorithm: str) -> Any:
    """A hash object of hashlib's form, or `invalid_checksum` where there is no such algorithm here."""
    if algorithm == "blake3":
        try:
            from blake3 import blake3
        except ImportError:
            text = "blake3 needs: pip install 'fetchd[blake3]'"
            raise TransferError(Code.INVALID_CHECKSUM, text) from None
        return blake3()
    return hashlib.new(algorithm, usedforsecurity=False)


def matches(expected: str, digest: str) -> None:
    """Raise `checksum_mismatch` unless `algorithm:hex` names this digest."""
    algorithm, _, wanted = expected.partition(":")
    if wanted != digest:
        raise TransferError(Code.CHECKSUM_MISMATCH, f"{algorithm} is {digest}, expected {wanted}")
