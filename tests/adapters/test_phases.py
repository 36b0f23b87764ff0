"""What a worker may say in which phase of its life, every message in every phase."""

from typing import Any, get_args

import pytest

from fetchd.daemon.core import inputs
from fetchd.daemon.router.phases import MAY_SAY, Phase
from fetchd.protocol.mailbox import (
    Arrived,
    Beat,
    Failed,
    Finished,
    FromWorker,
    Locked,
    NotModified,
    Progressed,
    Responded,
    Restart,
    Stopped,
    Synced,
    Validator,
    Warned,
)  # fmt: skip

from .test_mailboxes import SECRET, Post, post

__all__ = ["post"]

NAMED = {"job": "j", "attempt": 1}
EXAMPLES: dict[type, Any] = {
    Arrived: Arrived(secret=SECRET),
    Locked: Locked(layers={"landlock": "on"}),
    Beat: Beat(),
    Responded: Responded(
        **NAMED, generation=0, status=200, url="u", total=1, kept=0, validator=Validator(), disposition=None,
        origins=[],
    ),
    Restart: Restart(**NAMED, generation=0, why=""),
    Progressed: Progressed(**NAMED, bytes=7, total=None, speed=None),
    Synced: Synced(**NAMED, generation=0, ranges=[]),
    Warned: Warned(**NAMED, code="insecure", message=""),
    Finished: Finished(**NAMED, size=1),
    NotModified: NotModified(**NAMED),
    Failed: Failed(**NAMED, code="dns", message="", bytes=0),
    Stopped: Stopped(**NAMED, bytes=0),
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(FromWorker))
@pytest.mark.parametrize("phase", Phase)
def test_a_worker_says_what_its_phase_allows(post: Post, phase: Phase, kind: type) -> None:
    """Anything else is a violation; before it has shown its secret nobody is blamed, and nothing is heard."""
    if phase in (Phase.CONNECTED, Phase.LOCKING):
        endpoint = post.boxes.open(0, 1, SECRET)
        socket = post.peer(endpoint, *([Arrived(secret=SECRET)] if phase is Phase.LOCKING else []))
    else:
        socket = post.worker(busy=phase is Phase.BUSY)
    post.say(socket, EXAMPLES[kind])
    if kind in MAY_SAY[phase] or phase is Phase.CONNECTED:
        other = post.worker(slot=1)
        for _ in range(20):
            post.settle(other)
        assert not [entry for entry in post.heard if isinstance(entry, inputs.Violation)]
        assert phase is not Phase.CONNECTED or EXAMPLES[kind] not in post.heard
    else:
        post.until(lambda: bool(post.heard))
        assert [type(entry) for entry in post.heard] == [inputs.Violation]
