"""The engine keeps the order that the core rests on: inputs, one batch, its commit, and only then effects."""

from collections.abc import Callable
from typing import Any

import pytest

from fetchd.daemon.core import commands
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.inputs import LanesLoaded, Request, Submit, Verb
from fetchd.daemon.core.intake import Intake, check
from fetchd.daemon.core.settings import Settings
from fetchd.daemon.router.engine import Engine
from fetchd.protocol.job import JobSpec

Then = Callable[[None, BaseException | None], None]


class Surroundings:
    """An engine around a real core, with a store that commits when the test says so."""

    def __init__(self) -> None:
        self.commits: list[tuple[list[Any], Then]] = []
        self.done: list[commands.Command] = []
        self.lost: list[object] = []
        self.errors: list[BaseException] = []
        self.engine = Engine(
            self.core(), lambda batch, then: self.commits.append((list(batch), then)), self.fail
        )
        kinds = [kind for kind in vars(commands).values() if isinstance(kind, type)]
        self.engine.wire(dict.fromkeys(kinds, self.done.append))
        self.engine.start()
        self.engine.feed(LanesLoaded((), False))
        self.engine.turn()
        self.done.clear()

    @staticmethod
    def core() -> Core:
        return Core(Settings(workers=1, default_area="/area"), Loaded())

    def fail(self, error: BaseException, tokens: list[object]) -> None:
        self.errors.append(error)
        self.lost += tokens

    def submit(self, name: str) -> None:
        self.engine.feed(Submit(request(name), (intake(name),), {}, {}))
        self.engine.turn()

    def commit(self, error: BaseException | None = None) -> None:
        self.commits.pop(0)[1](None, error)

    def replies(self) -> list[object]:
        return [command.token for command in self.done if isinstance(command, commands.Reply)]


def request(token: str) -> Request:
    return Request("uid:1", token, b"digest", token)


def intake(name: str) -> Intake:
    return check(name, JobSpec(url="http://host/f", directory="/d", name=name), b"key")


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


def test_nobody_hears_before_the_commit(around: Surroundings) -> None:
    around.submit("a")
    assert (around.replies(), len(around.commits)) == ([], 1)
    around.submit("b")
    assert len(around.commits) == 1, "one batch is in flight, the next accumulates"
    around.commit()
    assert around.replies() == ["a"]
    around.commit()
    assert around.replies() == ["a", "b"]


def test_a_question_waits_for_what_it_would_show(around: Surroundings) -> None:
    answered: list[str] = []
    around.engine.after(lambda: answered.append("at once"))
    around.submit("a")
    around.engine.after(lambda: answered.append("later"))
    assert answered == ["at once"]
    around.commit()
    while around.commits:
        around.commit()
    around.engine.turn()
    assert answered == ["at once", "later"]


def test_a_failed_commit_does_nothing_and_tells_who_asked(around: Surroundings) -> None:
    around.submit("a")
    around.submit("b")
    around.commit(OSError("no"))
    assert (around.replies(), around.engine.dead, len(around.errors)) == ([], True, 1)
    assert sorted(map(str, around.lost)) == ["a", "b"]
    around.submit("c")
    assert around.commits == []
    around.engine.revive(around.core())
    around.submit("d")
    around.commit()
    assert "d" in around.replies()


def test_an_answer_older_than_a_commit_is_heard_before_it(around: Surroundings) -> None:
    """Else memory has forgotten what it knew better, and a removed job comes back from an old row."""
    around.submit("job")
    while around.commits:
        around.commit()
        around.engine.turn()
    row = around.engine.core.ledger.find("job")
    assert row is not None
    around.engine.feed(Verb(request("rm"), "remove", ("job",), {}))
    around.engine.turn()
    # one take of the store's answers: first a look-up that was made before the commit, then the commit
    around.engine.feed(Verb(request("late"), "pause", ("job",), {"job": row}))
    around.commit()
    around.engine.turn()
    assert around.engine.core.ledger.find("job") is None
