"""A worker that says almost right things: each is a report or the end of that worker, and of nobody else.

`FETCHD_FUZZ=10000 pytest -n0 tests/adapters/test_mailbox_fuzz.py` is the long run.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchd.daemon.core import inputs
from fetchd.protocol import mailbox
from fetchd.protocol.codec import decode
from fetchd.protocol.errors import ProtocolError

from ..protocol.mutations import MAILBOX, Mutator
from .test_mailboxes import PROGRESS, Post

COUNT = int(os.environ.get("FETCHD_FUZZ", "500"))
MARK = mailbox.Progressed(job="mark", attempt=1, bytes=0, total=None, speed=None)


@pytest.fixture
def post(downloads: Path) -> Iterator[Post]:
    made = Post(downloads)
    yield made
    made.close()


def meant(frames: list[bytes]) -> list[object]:
    """What the supervisor is to hear of this: a report, nothing (a sign of life), or a violation."""
    try:
        message: object = decode(frames[0], mailbox.FromWorker) if len(frames) == 1 else None  # type: ignore[arg-type]
    except ProtocolError:
        message = None
    if isinstance(message, mailbox.Beat):
        return []
    if isinstance(message, mailbox.FINAL):
        # what is said after it is about no attempt
        return [message, inputs.Violation]
    return [message if isinstance(message, mailbox.Report) else inputs.Violation]


def test_a_worker_that_says_almost_right_things(post: Post) -> None:
    mutator = Mutator(5, MAILBOX)
    good = post.worker(slot=1)
    worker = post.worker(slot=0, incarnation=1)
    incarnation, ended = 1, 0
    for n in range(COUNT):
        frames = [mutator.next()]
        if mutator.random.random() < 0.05:
            frames *= mutator.random.randint(2, 9)
        post.heard.clear()
        post.say(worker, frames)
        post.say(worker, MARK)
        post.until(lambda: MARK in post.heard or any(isinstance(e, inputs.Violation) for e in post.heard))
        heard = [type(e) if isinstance(e, inputs.Violation) else e for e in post.heard if e != MARK]
        assert heard == meant(frames), frames
        if inputs.Violation in heard:
            # as the core has it done
            assert (post.heard[-1].slot, post.heard[-1].incarnation) == (0, incarnation)  # type: ignore[attr-defined]
            post.boxes.close(0, incarnation)
            post.peers.remove(worker)
            worker.close(0)
            incarnation, ended = incarnation + 1, ended + 1
            worker = post.worker(slot=0, incarnation=incarnation)
        if n % 50 == 0:
            post.say(good, PROGRESS)
            post.until(lambda: PROGRESS in post.heard)
    assert COUNT // 2 < ended < COUNT
