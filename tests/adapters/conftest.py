"""Fixtures of several files here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounts import mounted

from .staged import House


@pytest.fixture(params=["one mount", "across mounts"])
def any_house(request: pytest.FixtureRequest, downloads: Path) -> Iterator[House]:
    """With a staging area on the destination's mount, and on another one."""
    if request.param == "one mount":
        (downloads / "target").mkdir()
        yield House(downloads, downloads / "target")
        return
    with mounted() as other:
        yield House(downloads, other / "new" / "deeper")
