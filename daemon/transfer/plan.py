"""What may be done with a response, given what is kept: pure rules about ranges and validators.

RFC 9110: sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges), 15.5.17 (416).
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

from msgspec import Struct

from fetchd.protocol.codec import MAX_INT
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator

from .api import TransferError
from .segments import Ranges

STRONG_AFTER = timedelta(seconds=60)
"""A Last-Modified is strong if it is this much older than the Date of the response."""

MAX_DATE = 64
"""Longest HTTP date that is looked at: comments in it may be of any length."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16}|\*)\Z")
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,16})\Z")


class Kept(Struct, frozen=True, kw_only=True):
    """What earlier attempts left: the first `size` bytes of a content, and ranges `beyond` a hole behind it.

    `verifiable`: a checksum will tell in the end whether the parts belong together.
    """

    size: int
    validator: Validator
    total: int | None
    verifiable: bool
    beyond: Ranges = ()

    @property
    def any(self) -> bool:
        return self.size > 0 or bool(self.beyond)

    @property
    def hole_end(self) -> int | None:
        """Where the first hole ends; None: at the end of the content."""
        return self.beyond[0][0] if self.beyond else None


class Response(Struct, frozen=True, kw_only=True):
    """The head of a final response, its headers already through the gate."""

    status: int
    length: int | None = None
    content_range: str | None = None
    validator: Validator = Validator()
    said: Validator = Validator()
    """The validators as they came, weak ones too: not to be used for ranges, but a difference says enough."""
    encoded: bool = False
    ranges: bool = True
    """Whether the server may know ranges: it has not said that it does not."""
    modified: int | None = None
    """The server's modification time in µs UTC."""
    digests: tuple[str, ...] = ()


class Append(Struct, frozen=True):
    """Write the body at `offset`; the whole has `total` bytes if known."""

    offset: int
    total: int | None


class Whole(Struct, frozen=True):
    """The body is the whole content. What was kept, if anything, is of another one."""

    total: int | None


class Complete(Struct, frozen=True):
    """Everything is there already."""

    total: int


class Again(Struct, frozen=True):
    """Drop what was kept and ask again without a range."""

    why: str


Decision = Append | Whole | Complete | Again


def range_headers(kept: Kept) -> dict[str, str] | None:
    """Request headers that ask for the rest, or None where resuming cannot be proven right."""
    if not kept.any:
        return {}
    condition = kept.validator.etag or kept.validator.last_modified
    if condition is None and not kept.verifiable:
        return None
    return part_headers(kept.size, kept.hole_end, kept.validator)


def part_headers(start: int, end: int | None, validator: Validator) -> dict[str, str]:
    """Request headers for `[start, end)` of the content with this validator."""
    headers = {"Range": f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"}
    condition = validator.etag or validator.last_modified
    if condition is not None:
        headers["If-Range"] = condition
    return headers


def decide(kept: Kept, asked_range: bool, response: Response) -> Decision:
    """What to do with a 200, 206 or 416; other statuses are errors and do not come here."""
    if response.status == 206:
        return _partial(kept, asked_range, response)
    if response.status == 416:
        return _unsatisfied(kept, asked_range, response)
    return Whole(response.length)


def _partial(kept: Kept, asked_range: bool, response: Response) -> Decision:
    if not asked_range:
        raise TransferError(Code.BAD_RESPONSE, "a partial response that was not asked for")
    match = _CONTENT_RANGE.match(response.content_range or "")
    if match is None:
        return Again("a partial response without a usable Content-Range")
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    wanted = (total, kept.hole_end) if kept.beyond else (total,)
    if total is None or end not in wanted or start >= end or end > total or total > MAX_INT:
        return Again("a partial response that does not reach the end")
    if response.length is not None and response.length != end - start:
        return Again("a partial response whose length contradicts its range")
    if total < _reach(kept) or (kept.total is not None and total != kept.total):
        return Again("the size has changed")
    if not _same(kept.validator, response):
        return Again("the content has changed")
    if start > kept.size or response.encoded:
        return Again("a range that does not continue what is kept")
    return Append(start, total)


def _unsatisfied(kept: Kept, asked_range: bool, response: Response) -> Decision:
    if not asked_range:
        raise TransferError(Code.BAD_RESPONSE, "416 without a range")
    match = _UNSATISFIED.match(response.content_range or "")
    whole = not kept.beyond and kept.total in (None, kept.size)
    here = match is not None and int(match[1]) == kept.size and whole
    if here and _same(kept.validator, response):
        return Complete(kept.size)
    return Again("the range was refused")


def _reach(kept: Kept) -> int:
    return kept.beyond[-1][1] if kept.beyond else kept.size


class Part(Struct, frozen=True):
    """The body is what was asked for, at least from its start on."""


class NoParts(Struct, frozen=True):
    """This server gives no parts, or not these. Nothing is said against the content."""

    why: str


class Changed(Struct, frozen=True):
    """The server has another content now."""

    why: str


def judge_part(pinned: Validator, total: int, start: int, response: Response) -> Part | NoParts | Changed:
    """What to make of the answer to a request for a part that begins at `start`.

    `pinned` and `total` are those of the content that the other parts are of.
    """
    if not _same(pinned, response):
        return Changed("the content has changed")
    if response.status != 206:
        other = response.status == 200 and response.length not in (None, total)
        refused = _UNSATISFIED.match(response.content_range or "") if response.status == 416 else None
        if other or (refused is not None and int(refused[1]) != total):
            return Changed("the size has changed")
        return NoParts(f"{response.status} to a range")
    match = _CONTENT_RANGE.match(response.content_range or "")
    if match is None or response.encoded:
        return NoParts("a partial response without a usable Content-Range")
    first, end = int(match[1]), int(match[2]) + 1
    if match[3] != "*" and int(match[3]) != total:
        return Changed("the size has changed")
    if first != start or not start < end <= total or response.length not in (None, end - first):
        return NoParts("a partial response that is not the part that was asked for")
    return Part()


def _same(kept: Validator, response: Response) -> bool:
    """Whether the response may belong to the kept content: what both sides say must be equal.

    A server that knows nothing of If-Range may answer with a part of what it has had for a second only, and
    its validators are weak for that reason.
    """
    for now in (response.validator, response.said):
        for old, new in ((kept.etag, now.etag), (kept.last_modified, now.last_modified)):
            if old is not None and new is not None and old != new:
                return False
    return True


def strong_validator(etag: str | None, last_modified: str | None, date: str | None) -> Validator:
    """The validators of a response that may be used for ranges: strong ones only."""
    usable = etag if etag and etag.startswith('"') and len(etag) <= 1024 else None
    modified = None
    if last_modified and date and len(last_modified) <= MAX_DATE:
        told, now = http_date(last_modified), http_date(date)
        if told is not None and now is not None and now - told >= STRONG_AFTER:
            modified = last_modified
    return Validator(etag=usable, last_modified=modified)


def microseconds(text: str | None) -> int | None:
    """An HTTP date as µs UTC, where it is one after 1970."""
    told = http_date(text) if text else None
    return None if told is None else max(0, int(told.timestamp())) * 1_000_000 or None


@lru_cache(maxsize=16)
def http_date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110 section 5.6.7), or None."""
    if len(text) > MAX_DATE:
        return None
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def content_length(values: list[str]) -> int | None:
    """The one Content-Length of a response, or `bad_response` (RFC 9112 section 6.3)."""
    if not values:
        return None
    if len(set(values)) > 1 or not re.fullmatch(r"\d{1,16}", values[0]):
        raise TransferError(Code.BAD_RESPONSE, "the Content-Length is not one number")
    length = int(values[0])
    if length > MAX_INT:
        raise TransferError(Code.BAD_RESPONSE, "the Content-Length is beyond all bounds")
    return length


def retry_after(value: str | None, date: str | None) -> float | None:
    """Retry-After in seconds: a number, or an HTTP date seen from the server's own clock."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    until = http_date(value)
    now = http_date(date) if date else None
    if until is None or now is None:
        return None
    return max(0.0, (until - now).total_seconds())
