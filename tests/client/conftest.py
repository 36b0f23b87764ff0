"""A state directory of one's own, and scripted daemons in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tmp import TempDir

from .peer import Peer, Store


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state directory that clients of this process, and their children, take for theirs."""
    with TempDir() as directory:
        monkeypatch.setenv("FETCHD_STATE_DIR", str(directory))
        monkeypatch.delenv("FETCHD_SOCKET", raising=False)
        yield directory


@pytest.fixture
def start_peer(state: Path) -> Iterator[Callable[..., Peer]]:
    """Start scripted daemons, one after another, on one store."""
    store, made = Store(), []

    def start(**options: Any) -> Peer:
        made.append(Peer(state, store, **options))
        return made[-1]

    yield start
    for peer in made:
        peer.close()


@pytest.fixture
def peer(start_peer: Callable[..., Peer]) -> Peer:
    """A scripted daemon."""
    return start_peer()
