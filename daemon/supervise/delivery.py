"""Finished files: carries out the core's wishes about names, sealing, publishing and cleaning."""

import logging
from collections.abc import Callable
from typing import TypeVar

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.service.faults import code_of
from fetchd.protocol.errors import Code, FetchdError

from . import publish
from .area import Areas
from .helpers import Helpers
from .modes import BY_UMASK, Modes
from .untrusted import LostError
from .workspace import Seal, Workspaces

T = TypeVar("T")
Reserved = Callable[[dict[str, str], BaseException | None], None]

logger = logging.getLogger("fetchd")


class Delivery:
    """`reserved` asks the store which names in a directory live jobs have taken. `modes()` may change."""

    def __init__(
        self,
        *,
        helpers: Helpers,
        workspaces: Workspaces,
        areas: Areas,
        reserved: Callable[[str, tuple[str, ...], Reserved], None],
        feed: Callable[[inputs.Input], None],
        modes: Callable[[], Modes] = lambda: BY_UMASK,
    ) -> None:
        self._helpers = helpers
        self._workspaces = workspaces
        self._areas = areas
        self._reserved = reserved
        self._feed = feed
        self._modes = modes

    def probe(self, command: commands.ProbeName) -> None:
        """Which of the names are taken: by live jobs as the store knows them, and in the directory."""
        job, names = command.job, command.names

        def known(rows: dict[str, str], error: BaseException | None) -> None:
            held = (
                frozenset()
                if error is not None
                else frozenset(n for n, holder in rows.items() if holder != job.id)
            )

            def probed(found: frozenset[str], trouble: BaseException | None) -> None:
                # what cannot be looked at now is found out when the file is published, which replaces nothing
                there = found if trouble is None else frozenset()
                self._feed(inputs.NameProbed(job.id, job.attempt, names, there | held))

            self._helpers.run(job.id, lambda: self._taken(job, names), probed)

        self._reserved(job.directory, names, known)

    def _taken(self, job: Job, names: tuple[str, ...]) -> frozenset[str]:
        self._areas.check(job.area)
        return publish.taken(job.directory, names)

    def seal(self, command: commands.Seal) -> None:
        """Take the file from its worker."""
        job = command.job

        def sealed(seal: Seal) -> inputs.Input:
            return inputs.Sealed(job.id, job.attempt, seal.size, seal.inode, seal.mtime_ns)

        self._run(job, lambda: self._workspaces.seal(job, command.size, self._modes()), sealed)

    def publish(self, command: commands.Publish) -> None:
        """Put it under its final name."""
        job = command.job
        self._run(
            job,
            lambda: publish.publish(job, self._modes()),
            lambda _none: inputs.Published(job.id, job.attempt),
        )

    def clean(self, command: commands.Clean) -> None:
        """Delete the workspace, and the area if it was the last one there."""
        job = command.job

        def clean() -> None:
            self._areas.check(job.area)
            self._workspaces.clean(job)
            self._areas.drop_empty(job.area)

        def cleaned(_result: None, error: BaseException | None) -> None:
            if error is not None:
                logger.warning("workspace of %s cannot be deleted: %s", job.id, error, extra={"job": job.id})

        self._helpers.run(job.id, clean, cleaned, long=True)

    def _run(self, job: Job, function: Callable[[], T], then: Callable[[T], inputs.Input]) -> None:
        def done(result: T, error: BaseException | None) -> None:
            if error is None:
                self._feed(then(result))
                return
            match error:
                case LostError():
                    refused = (Code.IO_ERROR, "the workspace is gone", True)
                case FetchdError():
                    refused = (error.code, error.message, False)
                case OSError():
                    refused = (code_of(error), error.strerror or str(error), False)
                case _:
                    about = {"job": job.id, "attempt": job.attempt}
                    logger.error("delivery of %s", job.id, exc_info=error, extra=about)
                    refused = (Code.INTERNAL, str(error), False)
            self._feed(inputs.FileRefused(job.id, job.attempt, *refused))

        def check_first() -> T:
            # under its mount point there is nothing of this job, and nothing is to be put there
            self._areas.check(job.area)
            return function()

        self._helpers.run(job.id, check_first, done, long=True)
