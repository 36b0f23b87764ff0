"""Every behaviour, on every way that bytes may take, in one piece and in segments: right bytes, right code.

`python -m tests.adapters.matrix` prints the same as a table.
"""

from collections.abc import Callable, Iterator

import pytest
from support.origin import Origin
from support.tls import Certificates

from .attempts import Room
from .attempts import room as rooms
from .cases import CASES, OK
from .trials import Trial, attempt, may_pass, persist, trials

TRIALS = list(trials())
RETRIED = [trial for trial in trials(filter(may_pass, CASES)) if not trial.resumed and not trial.tls]


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture
def server(
    request: pytest.FixtureRequest, make_origin: Callable[..., Origin]
) -> Callable[[Trial], tuple[Origin, str]]:
    """The origin for a trial, and the authority to trust."""

    def make(trial: Trial) -> tuple[Origin, str]:
        if not trial.tls:
            return make_origin(), ""
        certificates: Certificates = request.getfixturevalue("certificates")
        return make_origin(tls=certificates.server_context()), str(certificates.authority)

    return make


Server = Callable[[Trial], tuple[Origin, str]]


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_one_attempt(trial: Trial, server: Server, room: Room) -> None:
    assert attempt(trial, *_with(server(trial), room)) in trial.wanted


@pytest.mark.parametrize("trial", RETRIED, ids=str)
def test_a_server_that_comes_round(trial: Trial, server: Server, room: Room) -> None:
    """Twice bad, then honest: the file is whole in the end, whatever was kept from the bad times."""
    assert persist(trial, *_with(server(trial), room)) == OK


def _with(server: tuple[Origin, str], room: Room) -> tuple[Origin, Room, str]:
    origin, authority = server
    return origin, room, authority
