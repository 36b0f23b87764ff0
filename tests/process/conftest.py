"""Fixtures of several files here."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemon import DaemonProcess
from support.keyed import Keyed

Make = Callable[..., Keyed]


@pytest.fixture
def keyed(make_daemon: Callable[..., DaemonProcess], downloads: Path) -> Make:
    """Make daemons that listen, not started."""
    ground = downloads / "ground"
    ground.mkdir(mode=0o700)

    def make(**options: str) -> Keyed:
        return Keyed(make_daemon, ground, **options)

    return make


@pytest.fixture
def house(keyed: Make) -> Keyed:
    """One that runs and knows alice, bob, and root, an admin."""
    made = keyed()
    made.authorize(made.line("alice"), made.line("bob"), made.line("root", None, "admin"))
    return made.start()
