"""One attempt: the thread that runs a transfer, and what it tells the worker's loop."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fetchd.daemon.transfer import digests
from fetchd.daemon.transfer.api import Context, NotModifiedError, StoppedError, TransferError
from fetchd.daemon.transfer.http import Http
from fetchd.daemon.transfer.pace import Floor, Pace
from fetchd.daemon.transfer.registry import Transfers
from fetchd.daemon.transfer.segments import Ranges
from fetchd.daemon.transfer.sink import Sink, SinkError, file_error
from fetchd.daemon.transfer.verify import Verifier, matches
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import (
    Assign,
    Failed,
    Finished,
    NotModified,
    Report,
    Responded,
    Restart,
    Stopped,
    Synced,
    Validator,
    Warned,
)
from fetchd.protocol.version import __version__

from .telling import told

MAX_ORIGINS = 64
"""Origins that a report can hold. A worker that has spoken to more has spoken to `*`: no one's secrets go."""


class Attempt(Context):
    """Runs one assignment in a thread; `send` may be called from any thread."""

    user_agent = f"fetchd/{__version__}"

    def __init__(
        self, task: Assign, transfers: Transfers, ca_bundle: str, send: Callable[[Report], None]
    ) -> None:
        self.task = self._given = task
        self.ca_bundle = ca_bundle
        self.connections = task.connections
        self.changed: Callable[[], None] | None = None
        self.source = task.source
        self.mixed = False
        self._transfers = transfers
        self._send = send
        self._lock = threading.Lock()
        self._origins: list[str] = []
        self._aborts: list[Callable[[], None]] = []
        self._keep: bool | None = None
        self._proceed = threading.Event()
        self._responded = False
        self._generation = task.generation
        self._pace = Pace(task.rate)
        self._floor = Floor(task.min_speed, task.min_speed_time)
        self._announced: tuple[str, ...] = ()
        self._validator = task.validator
        self._verifier: Verifier | None = None
        self._thread = threading.Thread(target=self._run, name="transfer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def on_hand(self) -> int:
        """Bytes in the workspace, for progress."""
        sink = getattr(self, "sink", None)
        return 0 if sink is None else sink.on_hand

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
            aborts = list(self._aborts)
        self._proceed.set()
        self._pace.end()
        for abort in aborts:
            abort()

    def proceed(self, generation: int) -> None:
        """The new content generation is on disk."""
        self._generation = generation
        self._proceed.set()

    def allow(self, connections: int, rate: int | None) -> None:
        """What the attempt may use from now on."""
        self._change(rate=rate)
        self.connections = connections
        self._pace.set(rate)
        if (changed := self.changed) is not None:
            changed()

    def _change(self, **fields: Any) -> None:
        # the loop and the transfer both do: a change that is lost could bring back what was dropped
        with self._lock:
            self.task = replace(self.task, **fields)

    # the transfer

    def check(self) -> None:
        if self._keep is not None:
            raise StoppedError

    @contextmanager
    def abortable(self, abort: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._aborts.append(abort)
            stopping = self._keep is not None
        try:
            if stopping:
                abort()
            yield
        finally:
            with self._lock:
                self._aborts.remove(abort)

    def pace(self, wanted: int) -> int:
        allowed = self._pace.take(wanted)
        self.check()
        return allowed

    def received(self, count: int, allowed: int) -> None:
        self._pace.put_back(allowed - count)
        self._floor.received(count, self._pace.rate)
        most = self.task.max_size
        if most is not None and self.sink.on_hand > most:
            raise TransferError(Code.FILE_TOO_LARGE, f"more than {most} bytes came")

    def warn(self, code: Code, message: str) -> None:
        text = told(message, self._given)
        self._send(Warned(job=self.task.job, attempt=self.task.attempt, code=code, message=text))

    def speaks_to(self, origin: str) -> None:
        with self._lock:
            if origin not in self._origins:
                self._origins.append(origin)

    @property
    def _spoken(self) -> list[str]:
        few = len(self._origins) <= MAX_ORIGINS
        return list(self._origins) if few else [*self._origins[: MAX_ORIGINS - 1], "*"]

    def restart(self, why: str) -> None:
        self._proceed.clear()
        self.check()
        self._drop_verifier()
        self._responded = False
        self._send(
            Restart(
                job=self.task.job, attempt=self.task.attempt, generation=self.task.generation, why=why[:1000]
            )
        )
        self._proceed.wait()
        self.check()
        self.mixed = False
        self._change(generation=self._generation, have=[], validator=Validator(), total=None)

    def keep(self) -> None:
        ranges = self.sink.board.ranges()
        self._change(have=list(ranges), validator=self._validator)

    def responded(
        self,
        *,
        status: int,
        url: str,
        total: int | None,
        kept: int,
        validator: Validator,
        disposition: str | None,
        have: Ranges | None = None,
        modified: int | None = None,
        digests: Sequence[str] = (),
    ) -> None:
        self._change(total=total)
        self._validator = validator
        self._announced = tuple(digests)
        self._verify()
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
                origins=self._spoken,
                have=list(have) if have is not None else [(0, kept)] if kept else [],
                modified=modified,
            )
        )
        self._responded = True

    # checksums

    def _verify(self) -> None:
        """From now on follow the frontier with what has to be hashed."""
        wanted = [said for said in (self.task.checksum, *self._announced) if said]
        if wanted:
            self._verifier = Verifier(self.sink.fd, dict.fromkeys(said.partition(":")[0] for said in wanted))
            self.sink.follow = self._verifier.advance

    def _drop_verifier(self) -> None:
        if self._verifier is not None:
            self.sink.follow = None
            self._verifier.stop()
            self._verifier = None

    def _verified(self, size: int) -> dict[str, str]:
        """The digests of the file, or `checksum_mismatch`. What the user says counts more than the server."""
        if self._verifier is None:
            return {}
        found = self._verifier.finish(size, self.check)
        asked = (self.task.checksum or "").partition(":")[0]
        if self.task.checksum is not None:
            matches(self.task.checksum, found[asked])
        for said in self._announced:
            algorithm = said.partition(":")[0]
            try:
                matches(said, found[algorithm])
            except TransferError as error:
                if self.task.checksum is None:
                    raise
                self.warn(Code.DIGEST_DIFFERS, f"announced by the server: {error.message}")
                if algorithm != asked:
                    del found[algorithm]
        return found

    def _look_up_checksum(self) -> None:
        """Where the checksum is in a list, get it from there."""
        algorithm, _, place = (self.task.checksum or "").partition(":")
        if not place.startswith("@"):
            return
        url = place[1:]
        transfer = self._transfers.find(url)
        if not isinstance(transfer, Http):
            raise TransferError(Code.INVALID_CHECKSUM, "a list of checksums comes over HTTP alone")
        try:
            text = transfer.read_list(self, url)
        except TransferError as error:
            message = f"the list of checksums: {error.message}"
            raise TransferError(error.code, message, error.retry_after) from None
        names = [digests.basename(url) for url in (self.task.url, *self.task.mirrors)]
        checksum = digests.listed(text, algorithm, [name for name in dict.fromkeys(names) if name])
        self._change(checksum=checksum)

    # the thread

    def _run(self) -> None:
        job, attempt = self.task.job, self.task.attempt
        try:
            have = tuple(self.task.have)
            self.sink = Sink(Path(self.task.workspace), self.task.generation, have, self._synced)
        except OSError as error:
            refused = file_error(error)
            self._send(Failed(job=job, attempt=attempt, code=refused.code, message=refused.message, bytes=0))
            return
        except Exception as error:
            # without a final report the job would be running for ever
            text = f"workspace: {type(error).__name__}: {error}"
            text = told(text, self._given)
            self._send(Failed(job=job, attempt=attempt, code=Code.IO_ERROR, message=text, bytes=0))
            return
        self._send(self._outcome())

    def _outcome(self) -> Report:
        job, attempt = self.task.job, self.task.attempt
        report: Report
        try:
            report = self._fetch()
        except StoppedError:
            report = self._stopped()
        except NotModifiedError:
            report = NotModified(job=job, attempt=attempt, origins=self._spoken)
        except TransferError as error:
            report = self._failed(error.code, error.message, error.retry_after)
        except SinkError as error:
            report = self._failed(error.code, error.message, None)
        except (Exception, SystemExit) as error:
            # a plug-in may do anything, and without a final report the job would be running for ever
            report = self._failed(Code.INTERNAL, f"{type(error).__name__}: {error}", None)
        self._drop_verifier()
        try:
            self.sink.close()
        except OSError as error:
            refused = file_error(error)
            report = self._failed(refused.code, refused.message, None)
        return report

    def _fetch(self) -> Report:
        url = [self.task.url, *self.task.mirrors][self.source]
        transfer = self._transfers.find(url)
        if self.source and not isinstance(transfer, Http):
            # only ours knows of several sources; what goes to the origin of the URL goes to no other
            self._change(
                url=url, mirrors=[], headers={}, credentials=None, cookies="", client_certificate=None
            )
        if self.task.options.insecure:
            self.warn(Code.INSECURE, "the server's certificate is not checked")
        self._look_up_checksum()
        size = transfer.run(self)
        found = self._verified(size)
        self.sink.settle()
        return Finished(
            job=self.task.job, attempt=self.task.attempt, size=size, digests=found, origins=self._spoken
        )

    def _stopped(self) -> Report:
        if self._keep and self._responded:
            try:
                self.sink.sync()
            except SinkError as error:
                return self._failed(error.code, error.message, None)
        return Stopped(
            job=self.task.job,
            attempt=self.task.attempt,
            bytes=self.sink.on_hand,
            origins=self._spoken,
        )

    def _failed(self, code: Code, message: str, retry_after: float | None) -> Report:
        return Failed(
            job=self.task.job,
            attempt=self.task.attempt,
            code=code,
            message=told(message, self._given),
            bytes=self.sink.on_hand,
            retry_after=retry_after,
            source=self.source,
            mixed=self.mixed,
            origins=self._spoken,
        )

    def _synced(self, generation: int, ranges: Ranges) -> None:
        self._send(
            Synced(job=self.task.job, attempt=self.task.attempt, generation=generation, ranges=list(ranges))
        )
