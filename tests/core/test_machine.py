"""Every state and cause: what the table says, or `IllegalTransitionError`; and the page made from it."""

import subprocess
import sys
from pathlib import Path

import pytest

from fetchd.daemon.core import machine
from fetchd.daemon.core.machine import TABLE, Cause, IllegalTransitionError, allows, step
from fetchd.protocol.job import TERMINAL, State

STATES_PAGE = Path(__file__).resolve().parents[2] / "daemon" / "core" / "STATES.md"


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("state", State)
def test_each_state_and_cause(state: State, cause: Cause) -> None:
    if (state, cause) in TABLE:
        assert allows(state, cause)
        assert step(state, cause) is TABLE[state, cause]
    else:
        assert not allows(state, cause)
        with pytest.raises(IllegalTransitionError):
            step(state, cause)


def test_completed_is_for_ever_and_the_other_ends_can_only_be_retried() -> None:
    causes = {state: {cause for old, cause in TABLE if old is state} for state in TERMINAL}
    assert causes == {
        State.COMPLETED: set(), State.FAILED: {Cause.RETRY}, State.CANCELLED: {Cause.RETRY}
    }  # fmt: skip


def test_cancel_is_legal_until_publishing() -> None:
    allowed = {state for state in State if allows(state, Cause.CANCEL)}
    assert allowed == {State.QUEUED, State.WAITING, State.RUNNING, State.PAUSED}


def test_every_state_can_be_reached_from_a_submit() -> None:
    reached, found = {State.QUEUED}, True
    while found:
        new = {new for (old, _), new in TABLE.items() if old in reached} - reached
        found = bool(new)
        reached |= new
    assert reached == set(State)


def test_a_cause_is_legal_somewhere() -> None:
    assert {cause for _, cause in TABLE} == set(Cause)


def test_the_page_is_made_from_the_table() -> None:
    assert STATES_PAGE.read_text() == machine.document()


def test_the_module_prints_the_page() -> None:
    command = [sys.executable, "-m", machine.__name__]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == machine.document()
