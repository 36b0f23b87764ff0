"""HTTP and HTTPS: ask, resume, and receive over one connection or several.

An attempt begins with one request. What `plan` makes of its answer decides what is kept; then connections
receive, each in a thread and a stripe of its own, as many as the job wants and is allowed. Retries are the
supervisor's; a connection that fails while others go on only leaves its stripe to them.
"""

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TypeVar

from msgspec.structs import replace

from fetchd.protocol import urls
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.mailbox import Assign, Validator

from . import digests, gate, plan
from .api import Context, NotModifiedError, Transfer, TransferError
from .body import PATHS
from .connect import Managers
from .exchange import Answer, Exchange
from .failures import classify, status_error
from .segments import Ranges
from .swarm import Swarm

T = TypeVar("T")

TRIES = 3
"""Answers that contradict what is kept, before the server is given up."""


class Http(Transfer):
    """The transfer of `http:` and `https:`. Connections are kept for the next attempt of this worker.

    `paths` are the ways for bodies, in order of preference.
    """

    def __init__(self) -> None:
        self.paths = PATHS
        self._managers = Managers()

    def close(self) -> None:
        self._managers.close()

    def run(self, context: Context) -> int:
        return self._coded(context, self._run)

    def read_list(self, context: Context, url: str) -> str:
        """The text of a small file, such as a list of checksums."""
        return self._coded(context, lambda context: self._read_list(context, url))

    def _coded(self, context: Context, work: Callable[[Context], T]) -> T:
        """Do it; every exception becomes one with a code."""
        try:
            return work(context)
        except TransferError:
            context.check()
            raise
        except FetchdError as error:
            context.check()
            raise TransferError(error.code, error.message) from None
        except NotModifiedError:
            raise
        except Exception as error:
            context.check()
            raise classify(error) from error

    def _read_list(self, context: Context, url: str) -> str:
        with Exchange(context, self._managers).ask(url, {}) as answer:
            if answer.status != 200:
                raise status_error(answer.status, answer.raw.reason, answer.raw.headers)
            until = time.monotonic() + gate.TIMES * context.task.read_timeout
            text = bytearray()
            while piece := answer.raw.read1(1 << 16):
                text += piece
                context.check()
                if len(text) > digests.LARGEST_LIST:
                    text_is = f"{urls.redact(url)} is no list of checksums: it is too large"
                    raise TransferError(Code.INVALID_CHECKSUM, text_is)
                if time.monotonic() > until:
                    raise TransferError(Code.TIMEOUT, "it does not end")
            if answer.head.length not in (None, len(text)):
                raise TransferError(Code.SHORT_BODY, f"{len(text)} of {answer.head.length} bytes came")
        return text.decode("utf-8", "replace")

    def _run(self, context: Context) -> int:
        exchange = Exchange(context, self._managers)
        sources = [context.task.url, *context.task.mirrors]
        source = sources[min(context.source, len(sources) - 1)]
        parts = context.task.ranges
        for left in reversed(range(TRIES)):
            task = context.task
            kept = kept_of(task)
            asked = plan.range_headers(kept) if parts else {}
            if asked is None:
                context.restart("there is no validator and no checksum to resume with")
                kept, asked = kept_of(context.task), {}
            if not kept.any and task.newer_than is not None:
                asked["If-Modified-Since"] = formatdate(task.newer_than // 1_000_000, usegmt=True)
            with exchange.ask(source, asked) as answer:
                if answer.status == 304 or _is_old(task, answer):
                    if "If-Modified-Since" not in asked:
                        raise TransferError(Code.BAD_RESPONSE, "304 without a condition")
                    answer.reusable = answer.status == 304
                    raise NotModifiedError
                decision = plan.decide(kept, "Range" in asked, answer.head)
                if isinstance(decision, plan.Again):
                    if not left:
                        raise TransferError(Code.BAD_RESPONSE, decision.why)
                    context.restart(decision.why)
                    continue
                outcome = self._deliver(context, exchange, source, kept, decision, answer, parts=parts)
            if outcome is None:
                return context.sink.finish()
            if not left:
                raise TransferError(Code.BAD_RESPONSE, outcome.why)
            if isinstance(outcome, plan.Changed):
                context.restart(outcome.why)
                parts = parts and left > 1
            else:
                # what there is stays until the server has shown that it sends the whole
                context.keep()
                parts = False
        raise TransferError(Code.BAD_RESPONSE, "the server answers no request whole")

    def _deliver(
        self,
        context: Context,
        exchange: Exchange,
        source: str,
        kept: plan.Kept,
        decision: plan.Decision,
        answer: Answer,
        *,
        parts: bool,
    ) -> plan.Changed | plan.NoParts | None:
        """Receive everything; None, or why it cannot be gone on with what was received."""
        ranges: Ranges = ()
        match decision:
            case plan.Append(offset, total):
                validator = _merged(kept.validator, answer.head.validator)
                ranges = (((0, offset),) if offset else ()) + kept.beyond
            case plan.Complete(total):
                validator, ranges = kept.validator, ((0, total),)
            case plan.Whole(total):
                if kept.any:
                    context.restart("the server sent another content, or the whole of it")
                validator = answer.head.validator
            case plan.Again(why):
                return plan.Changed(why)
        most = context.task.max_size
        if total is not None and most is not None and total > most:
            raise TransferError(Code.FILE_TOO_LARGE, f"{total} bytes, at most {most} are allowed")
        context.responded(
            status=answer.status,
            url=answer.url,
            total=total,
            kept=sum(end - start for start, end in ranges),
            validator=validator,
            disposition=answer.disposition,
            have=ranges,
            modified=answer.head.modified,
            digests=answer.head.digests,
        )
        context.sink.begin(validator, total, context.task.generation, ranges)
        if isinstance(decision, plan.Complete):
            answer.reusable = answer.head.length == 0
            return None
        swarm = Swarm(context, exchange, source, self.paths, total, validator, answer.head, parts=parts)
        return swarm.run(answer)


def kept_of(task: Assign) -> plan.Kept:
    """What of an earlier attempt there is to go on from."""
    have = tuple(task.have)
    first = bool(have) and have[0][0] == 0
    return plan.Kept(
        size=have[0][1] if first else 0,
        beyond=have[1:] if first else have,
        validator=task.validator,
        total=task.total,
        verifiable=task.checksum is not None,
    )


def _is_old(task: Assign, answer: Answer) -> bool:
    """Whether a server that knows no conditions has nothing newer either."""
    if task.newer_than is None or answer.head.modified is None or answer.status != 200:
        return False
    return not task.have and answer.head.modified <= task.newer_than


def _merged(kept: Validator, now: Validator) -> Validator:
    return replace(kept, etag=kept.etag or now.etag, last_modified=kept.last_modified or now.last_modified)
