"""Almost right messages by the hundred thousand: `ProtocolError` or a message, and memory stays as it is.

`FETCHD_FUZZ=1000000 pytest -n0 tests/protocol/test_mutations.py` tries so many control messages and a
tenth of that from workers.
"""

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from fetchd.protocol import codec, control, events, job, mailbox
from fetchd.protocol.errors import Code, ProtocolError

from .mutations import CONTROL, MAILBOX, Mutator

COUNT = int(os.environ.get("FETCHD_FUZZ", "10000"))
KINDS: list[Any] = [
    control.RequestHeader,
    control.ReplyHeader,
    control.ErrorBody,
    *control.REQUESTS.values(),
    *{id(kind): kind for kind in control.REPLIES.values()}.values(),
    events.EventHeader,
    job.JobSnapshot,
]
GROWTH = 8 << 20
"""Bytes of resident memory that a run may add once it is warm: an allocator's, not a leak's."""


def resident() -> int:
    """This process's memory in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def understood(data: bytes, kinds: list[Any]) -> int:
    """As how many kinds a message is understood. What is understood can be sent on and comes out the same."""
    try:
        plain = codec.unpack(data)
    except ProtocolError as error:
        _check(error)
        return 0
    count = 0
    for kind in kinds:
        try:
            message = codec.convert(plain, kind)
        except ProtocolError as error:
            _check(error)
            continue
        assert codec.decode(codec.encode(message), kind) == message
        count += 1
    return count


def _check(error: ProtocolError) -> None:
    assert error.code in (Code.BAD_REQUEST, Code.UNSUPPORTED_FIELD, Code.TOO_LARGE)
    assert 0 < len(error.message) <= codec.MAX_ERROR_TEXT


@pytest.mark.parametrize(
    ("corpus", "kinds", "count", "seed"),
    [(CONTROL, KINDS, COUNT, 1), (MAILBOX, [mailbox.FromWorker, mailbox.ToWorker], COUNT // 10, 2)],
    ids=["control", "mailbox"],
)
def test_almost_right_messages(corpus: list[bytes], kinds: list[Any], count: int, seed: int) -> None:
    mutator = Mutator(seed, corpus)
    good = sum(understood(mutator.next(), kinds) > 0 for _ in range(count // 5))
    before = resident()
    for n in range(count // 5, count):
        # a few kinds each: all of them only take longer
        good += understood(mutator.next(), [kinds[(n + k) % len(kinds)] for k in range(3)]) > 0
    assert resident() - before < GROWTH
    # neither all rubbish nor all fine
    assert 0.02 * count < good < 0.9 * count


def test_a_seed_says_it_all() -> None:
    """So that what failed in a campaign can be had again."""
    first, again, other = (Mutator(seed, CONTROL) for seed in (7, 7, 8))
    messages = [first.next() for _ in range(200)]
    assert messages == [again.next() for _ in range(200)]
    assert messages != [other.next() for _ in range(200)]
