"""What a worker may say in which phase of its life. Anything else is a violation, and ends it.

connected → (Arrived, Admitted) → locking → (Locked) → idle → (Assign) → busy → (a final report) → idle.
What a busy one may say about its attempt in detail is the core's to judge (`core/attempt`).
"""

from enum import StrEnum
from typing import get_args

from fetchd.protocol import mailbox


class Phase(StrEnum):
    """Where in its life a worker is."""

    CONNECTED = "connected"
    LOCKING = "locking"
    IDLE = "idle"
    BUSY = "busy"


MAY_SAY: dict[Phase, tuple[type, ...]] = {
    Phase.CONNECTED: (mailbox.Arrived,),
    Phase.LOCKING: (mailbox.Locked,),
    Phase.IDLE: (mailbox.Beat,),
    Phase.BUSY: (mailbox.Beat, *get_args(mailbox.Report)),
}


def after_saying(phase: Phase, message: object) -> Phase:
    """The phase once the worker has said something that it may say."""
    if isinstance(message, mailbox.Locked):
        return Phase.IDLE
    return Phase.IDLE if isinstance(message, mailbox.FINAL) else phase


def after_hearing(phase: Phase, message: object) -> Phase:
    """The phase once the worker has been told something."""
    if isinstance(message, mailbox.Admitted):
        return Phase.LOCKING
    return Phase.BUSY if isinstance(message, mailbox.Assign) else phase
