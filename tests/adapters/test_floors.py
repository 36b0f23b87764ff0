"""Versions that are too old, by the metadata of what is installed."""

import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fetchd.daemon.service import floors


def test_what_runs_here_is_new_enough() -> None:
    found = floors.installed(set(floors.FLOORS))
    assert found == {name: floors.numbers(version(name)) for name in floors.FLOORS}
    assert not list(floors.too_old())


@pytest.fixture
def site(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first directory of packages."""
    monkeypatch.syspath_prepend(str(downloads))
    return downloads


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        (["urllib3-2.7.9.dist-info"], (2, 7, 9)),
        (["urllib3-2.7.9.dist-info", "urllib3-2.10.0.dist-info"], (2, 10, 0)),
        (["urllib3-1.26.5-py3.11.egg-info"], (1, 26, 5)),
        (["Urllib3-2.8.0rc1.dist-info"], (2, 8, 0)),
        (["urllib3_extras-1.0.dist-info", "urllib3", "urllib3-odd.dist-info"], None),
    ],
)
def test_versions_of_packages(site: Path, entries: list[str], found: tuple[int, ...] | None) -> None:
    ours = floors.numbers(version("urllib3"))
    for entry in entries:
        site.joinpath(entry).mkdir()
    assert floors.installed({"urllib3"}) == {"urllib3": found or ours}


def test_a_path_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/nowhere", __file__])
    assert floors.installed({"urllib3"}) == {}


def test_what_is_too_old(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.joinpath("msgpack-1.0.8.dist-info").mkdir()
    site.joinpath("click-1.0.dist-info").mkdir()  # the daemon does without
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    monkeypatch.setattr("zmq.zmq_version_info", lambda: (4, 3, 4))
    assert list(floors.too_old()) == [
        "SQLite is 3.36.0, and 3.37.0 or newer is needed",
        "libzmq is 4.3.4, and 4.3.5 or newer is needed",
        "msgpack is 1.0.8, and 1.2.3 or newer is needed",
    ]
