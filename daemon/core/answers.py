"""Answers to requests: each is kept for the repetition of its request."""

from typing import TYPE_CHECKING

from msgspec import Struct

from fetchd.protocol.errors import Code

from . import inputs
from .commands import Refuse, Reply, SaveReply
from .job import Moment

if TYPE_CHECKING:
    from .core import Core


def answer(core: "Core", request: inputs.Request, body: Struct, now: Moment) -> None:
    """Reply, and keep the reply for a repetition of the request."""
    stamp = core.ledger.next_stamp()
    core.emit(SaveReply(request.owner, request.req, request.digest, body, now.wall, stamp))
    core.emit(Reply(request.token, body))
    core.replies[request.owner, request.req] = (stamp, request.digest, body)


def repeated(core: "Core", request: inputs.Request) -> bool:
    """Answer a repetition of a request whose first answer is still on its way to the disk."""
    earlier = core.replies.get((request.owner, request.req))
    if earlier is None:
        return False
    _, digest, body = earlier
    if digest == request.digest:
        core.emit(Reply(request.token, body))
    else:
        core.emit(Refuse(request.token, Code.CONFLICT, "this request ID was used for another request"))
    return True
