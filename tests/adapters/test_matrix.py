"""Every behaviour, on every way that bytes may take, in one piece and in segments: right bytes, right code.

`python -m tests.adapters.matrix` prints the same as a table.
"""

from collections.abc import Callable, Iterator

import pytest
from support.origin import Origin
from support.tls import Certificates

from .attempts import Room
from .attempts import room as rooms
from .cases import CASES
from .trials import Trial, attempt, in_the_end, may_pass, persist, trials

PLAIN = [trial for trial in trials() if not trial.tls]
ENCRYPTED = [trial for trial in trials() if trial.tls]
RETRIED = [trial for trial in trials(filter(may_pass, CASES)) if not trial.resumed and not trial.tls]


@pytest.fixture
def room() -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.mark.parametrize("trial", PLAIN, ids=str)
def test_one_attempt(trial: Trial, origin: Origin, room: Room) -> None:
    end = attempt(trial, origin, room)
    assert end in trial.wanted


@pytest.mark.parametrize("trial", ENCRYPTED, ids=str)
def test_one_attempt_over_tls(
    trial: Trial, make_origin: Callable[..., Origin], certificates: Certificates, room: Room
) -> None:
    origin = make_origin(tls=certificates.server_context())
    end = attempt(trial, origin, room, str(certificates.authority))
    assert end in trial.wanted


@pytest.mark.parametrize("trial", RETRIED, ids=str)
def test_a_server_that_comes_round(trial: Trial, origin: Origin, room: Room) -> None:
    """Twice bad, then honest: the file is whole in the end, whatever was kept from the bad times."""
    end = persist(trial, origin, room)
    assert end in in_the_end(trial)
