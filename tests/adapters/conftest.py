"""Fixtures of several files here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounts import mounted

from fetchd.daemon.supervise.area import Areas

from .staged import INSTANCE, House


@pytest.fixture(params=["one mount", "across mounts"])
def any_house(request: pytest.FixtureRequest, downloads: Path) -> Iterator[House]:
    """With a staging area on the destination's mount, and on another one."""
    if request.param == "one mount":
        (downloads / "target").mkdir()
        yield House(downloads, downloads / "target")
        return
    with mounted() as other:
        yield House(downloads, other / "new" / "deeper")


@pytest.fixture
def state(downloads: Path) -> Path:
    path = downloads / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def areas(state: Path) -> Iterator[Areas]:
    made = Areas(state, INSTANCE, {})
    yield made
    made.close()


@pytest.fixture
def mount() -> Iterator[Path]:
    """Another file system."""
    with mounted("size=8m,mode=755") as directory:
        yield directory
