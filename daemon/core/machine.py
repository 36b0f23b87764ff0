"""The state machine of a job, as a table. Everything that changes a state goes through `step`."""

from enum import StrEnum

from fetchd.protocol.job import State

S = State


class Cause(StrEnum):
    """Why a state changes."""

    DISPATCH = "dispatch"
    DELAY = "delay"
    DUE = "due"
    PAUSE = "pause"
    RESUME = "resume"
    YIELD = "yield"
    SEAL = "seal"
    PUBLISH = "publish"
    SATISFY = "satisfy"
    FAIL = "fail"
    CANCEL = "cancel"
    RETRY = "retry"


class IllegalTransitionError(Exception):
    """A cause that its state does not allow: a fault in the core, never in its input."""


TABLE: dict[tuple[State, Cause], State] = {
    (S.QUEUED, Cause.DISPATCH): S.RUNNING,
    (S.QUEUED, Cause.DELAY): S.WAITING,
    (S.QUEUED, Cause.PAUSE): S.PAUSED,
    (S.QUEUED, Cause.SATISFY): S.COMPLETED,
    (S.QUEUED, Cause.FAIL): S.FAILED,
    (S.QUEUED, Cause.CANCEL): S.CANCELLED,
    (S.WAITING, Cause.DUE): S.QUEUED,
    (S.WAITING, Cause.PAUSE): S.PAUSED,
    (S.WAITING, Cause.FAIL): S.FAILED,
    (S.WAITING, Cause.CANCEL): S.CANCELLED,
    (S.RUNNING, Cause.SEAL): S.PUBLISHING,
    (S.RUNNING, Cause.DELAY): S.WAITING,
    (S.RUNNING, Cause.YIELD): S.QUEUED,
    (S.RUNNING, Cause.PAUSE): S.PAUSED,
    (S.RUNNING, Cause.SATISFY): S.COMPLETED,
    (S.RUNNING, Cause.FAIL): S.FAILED,
    (S.RUNNING, Cause.CANCEL): S.CANCELLED,
    (S.PUBLISHING, Cause.PUBLISH): S.COMPLETED,
    (S.PUBLISHING, Cause.SATISFY): S.COMPLETED,
    (S.PUBLISHING, Cause.YIELD): S.QUEUED,
    (S.PUBLISHING, Cause.FAIL): S.FAILED,
    (S.PAUSED, Cause.RESUME): S.QUEUED,
    (S.PAUSED, Cause.FAIL): S.FAILED,
    (S.PAUSED, Cause.CANCEL): S.CANCELLED,
    (S.FAILED, Cause.RETRY): S.QUEUED,
    (S.CANCELLED, Cause.RETRY): S.QUEUED,
}


def step(state: State, cause: Cause) -> State:
    """The state after `cause`, or `IllegalTransitionError`."""
    try:
        return TABLE[state, cause]
    except KeyError:
        raise IllegalTransitionError(f"{cause} in state {state}") from None


def allows(state: State, cause: Cause) -> bool:
    """Whether `cause` is legal in `state`."""
    return (state, cause) in TABLE


def diagram() -> str:
    """The table as a Mermaid state diagram; `STATES.md` beside this file holds its output."""
    lines = ["stateDiagram-v2", "    [*] --> queued: submit"]
    lines += [f"    {old} --> {new}: {cause}" for (old, cause), new in TABLE.items()]
    lines += [f"    {state} --> [*]" for state in (S.COMPLETED, S.FAILED, S.CANCELLED)]
    return "\n".join(lines) + "\n"


def document() -> str:
    """The content of `STATES.md`."""
    return f"# The states of a job\n\nMade by `python -m {__spec__.name}`.\n\n```mermaid\n{diagram()}```\n"


if __name__ == "__main__":
    print(document(), end="")
