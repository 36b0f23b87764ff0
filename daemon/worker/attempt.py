"""One attempt: the thread that runs a transfer, and what it tells the worker's loop."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from fetchd.daemon.transfer.api import Context, StoppedError, TransferError
from fetchd.daemon.transfer.registry import Transfers
from fetchd.daemon.transfer.sink import Sink, SinkError, file_error
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import (
    Assign,
    Failed,
    Finished,
    Report,
    Responded,
    Restart,
    Stopped,
    Synced,
    Validator,
    Warned,
)
from fetchd.protocol.version import __version__


def printable(text: str) -> str:
    """A message that can be sent, whatever a library made it from."""
    return text[:2000].encode("utf-8", "replace").decode()


class Attempt(Context):
    """Runs one assignment in a thread; `send` may be called from any thread."""

    user_agent = f"fetchd/{__version__}"

    def __init__(
        self, task: Assign, transfers: Transfers, ca_bundle: str, send: Callable[[Report], None]
    ) -> None:
        self.task = task
        self.home = ""
        self.connections = task.connections
        self.source = task.source
        self.ca_bundle = ca_bundle
        self._transfers = transfers
        self._send = send
        self._lock = threading.Lock()
        self._abort: Callable[[], None] | None = None
        self._keep: bool | None = None
        self._proceed = threading.Event()
        self._responded = False
        self._generation = task.generation
        self._thread = threading.Thread(target=self._run, name="transfer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def on_hand(self) -> int:
        """Bytes in the workspace, for progress."""
        sink = getattr(self, "sink", None)
        return 0 if sink is None else sink.position

    @property
    def total(self) -> int | None:
        return self.task.total

    @property
    def responded_yet(self) -> bool:
        return self._responded

    # the worker's loop

    def stop(self, keep: bool) -> None:
        """End the attempt, keeping its bytes or not; a read that waits for the server returns."""
        with self._lock:
            self._keep = keep
            abort = self._abort
        self._proceed.set()
        if abort is not None:
            abort()

    def proceed(self, generation: int) -> None:
        """The new content generation is on disk."""
        self._generation = generation
        self._proceed.set()

    # the transfer

    def check(self) -> None:
        if self._keep is not None:
            raise StoppedError

    def on_abort(self, abort: Callable[[], None] | None) -> None:
        with self._lock:
            self._abort = abort
            stopping = self._keep is not None
        if stopping and abort is not None:
            abort()

    @contextmanager
    def abortable(self, abort: Callable[[], None]) -> Iterator[None]:
        self.on_abort(abort)
        try:
            yield
        finally:
            self.on_abort(None)

    def pace(self, wanted: int) -> int:
        return wanted

    def warn(self, code: Code, message: str) -> None:
        text = printable(message)
        self._send(Warned(job=self.task.job, attempt=self.task.attempt, code=code, message=text))

    def restart(self, why: str) -> None:
        self._proceed.clear()
        self.check()
        self._send(
            Restart(
                job=self.task.job, attempt=self.task.attempt, generation=self.task.generation, why=why[:1000]
            )
        )
        self._proceed.wait()
        self.check()
        self.task = replace(
            self.task, generation=self._generation, have=[], validator=Validator(), total=None
        )

    def responded(
        self,
        *,
        status: int,
        url: str,
        total: int | None,
        kept: int,
        validator: Validator,
        disposition: str | None,
        origins: list[str],
        modified: int | None = None,
        digests: Sequence[str] = (),
    ) -> None:
        self.task = replace(self.task, total=total)
        self._send(
            Responded(
                job=self.task.job,
                attempt=self.task.attempt,
                generation=self.task.generation,
                status=status,
                url=url,
                total=total,
                kept=kept,
                validator=validator,
                disposition=disposition,
                origins=origins,
                modified=modified,
            )
        )
        self._responded = True

    # the thread

    def _run(self) -> None:
        job, attempt = self.task.job, self.task.attempt
        try:
            have = self.task.have[0][1] if self.task.have and self.task.have[0][0] == 0 else 0
            self.sink = Sink(Path(self.task.workspace), self.task.generation, have, self._synced)
        except OSError as error:
            refused = file_error(error)
            self._send(Failed(job=job, attempt=attempt, code=refused.code, message=refused.message, bytes=0))
            return
        except Exception as error:
            # without a final report the job would be running for ever
            text = f"workspace: {type(error).__name__}: {error}"
            self._send(Failed(job=job, attempt=attempt, code=Code.IO_ERROR, message=printable(text), bytes=0))
            return
        self._send(self._outcome())

    def _outcome(self) -> Report:
        job, attempt = self.task.job, self.task.attempt
        report: Report
        try:
            size = self._transfers.find(self.task.url).run(self)
            self.sink.settle()
            report = Finished(job=job, attempt=attempt, size=size, digests=self._digests())
        except StoppedError:
            report = self._stopped()
        except TransferError as error:
            report = self._failed(error.code, error.message, error.retry_after)
        except SinkError as error:
            report = self._failed(error.code, error.message, None)
        except Exception as error:
            report = self._failed(Code.INTERNAL, f"{type(error).__name__}: {error}", None)
        try:
            self.sink.close()
        except OSError as error:
            refused = file_error(error)
            report = self._failed(refused.code, refused.message, None)
        return report

    def _digests(self) -> dict[str, str]:
        if self.task.checksum is None:
            return {}
        algorithm, _, digest = self.task.checksum.partition(":")
        return {algorithm: digest}

    def _stopped(self) -> Report:
        if self._keep and self._responded:
            try:
                self.sink.sync()
            except SinkError as error:
                return self._failed(error.code, error.message, None)
        return Stopped(job=self.task.job, attempt=self.task.attempt, bytes=self.sink.position)

    def _failed(self, code: Code, message: str, retry_after: float | None) -> Report:
        dropped = code is Code.CHECKSUM_MISMATCH
        return Failed(
            job=self.task.job,
            attempt=self.task.attempt,
            code=code,
            message=printable(message),
            bytes=0 if dropped else self.sink.position,
            retry_after=retry_after,
        )

    def _synced(self, generation: int, position: int) -> None:
        self._send(
            Synced(
                job=self.task.job,
                attempt=self.task.attempt,
                generation=generation,
                ranges=[(0, position)] if position else [],
            )
        )
