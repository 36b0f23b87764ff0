"""Every behaviour, on every way that bytes may take, in one piece and in segments: right bytes, right code.

`python -m tests.adapters.matrix` prints the same as a table.
"""

from collections.abc import Callable, Iterator

import pytest
from support.origin import Origin
from support.tls import Certificates

from . import trials as running
from .attempts import Room
from .attempts import room as rooms
from .cases import BIG, CASES, OK
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


@pytest.mark.parametrize(
    ("behaviour", "verdict"), [("plain", "WRONG BYTES"), ("cut_at", "WRONG BYTES KEPT"), ("cut", OK)]
)
def test_the_judge_is_not_blind(
    origin: Origin, room: Room, monkeypatch: pytest.MonkeyPatch, behaviour: str, verdict: str
) -> None:
    """If what was kept is not what the server has, the bytes in the end are wrong, and it is seen."""
    monkeypatch.setattr(running, "write_content", lambda path, content: path.write_bytes(bytes(content.size)))
    (case, *_) = (case for case in CASES if case.behaviour == behaviour and case.size == BIG)
    if verdict == OK:
        end = persist(Trial(case, "buffered", 1), origin, room)
    else:
        end = attempt(Trial(case, "buffered", 1, resumed=True), origin, room)
    assert end == verdict
