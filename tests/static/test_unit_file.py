"""The unit files: a service manager must not kill a daemon that still drains."""

import configparser
from pathlib import Path

import pytest

from fetchd.daemon.config import Config

UNITS = sorted((Path(__file__).parents[2] / "systemd").glob("*.service"))
MARGIN = 10.0
"""Seconds for the last workers and helpers, and for closing the databases on a slow disk."""


def read(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(path)
    return unit


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_it_is_started_again_for_as_long_as_it_takes(path: Path) -> None:
    """By default five starts within ten seconds are the last ones, and the socket fails with them."""
    unit = read(path)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "on-failure"
    assert float(unit["Service"]["RestartSec"]) >= 2, "and nothing is kept busy by it"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_stop_timeout_is_longer_than_the_drain(path: Path) -> None:
    unit = read(path)
    config = Config()
    wanted = config.drain_timeout + config.stop_grace + MARGIN
    assert float(unit["Service"]["TimeoutStopSec"]) >= wanted
    assert unit["Service"]["KillMode"] == "mixed", (
        "only the supervisor is to hear SIGTERM: it stops the workers"
    )


def test_there_is_a_unit_file() -> None:
    assert UNITS
