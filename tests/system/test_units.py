"""The shipped units, judged by systemd itself, and their limits against what the configuration can ask."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tmp import TempDir

from fetchd.daemon.config import DESCRIPTORS, PER_WORKER, Config, most_memory, most_tasks

UNITS = Path(__file__).parents[2] / "systemd"
MOST = 1.5
"""The exposure that systemd may find; it was 1.4 with version 252."""

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_analyze
def test_the_service_is_hardly_exposed() -> None:
    told = analyze("security", "--offline=true", "--no-pager", str(UNITS / "fetchd.service"))
    found = re.search(r"Overall exposure level for fetchd.service: ([\d.]+)", told)
    assert found is not None, told
    assert float(found[1]) <= MOST


@needs_analyze
def test_the_units_are_valid() -> None:
    with TempDir() as directory:
        for name in ("fetchd.service", "fetchd.socket", "fetchd-user.service"):
            text = (UNITS / name).read_text()
            # only the path of this installation differs
            text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE)
            (directory / name).write_text(text)
            assert analyze("verify", "--man=no", str(directory / name)) == ""


def test_the_limits_are_enough_for_the_workers() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNITS / "fetchd.service")
    service, config = unit["Service"], Config()
    assert int(service["LimitNOFILE"]) >= DESCRIPTORS + PER_WORKER * 512, "the most workers there may be"
    assert int(service["TasksMax"]) >= config.workers * (config.host_connections + 4)
    assert int(service["MemoryMax"].removesuffix("M")) << 20 >= (config.workers + 1) * config.worker_memory


@pytest.mark.parametrize("name", ["fetchd.service", "fetchd-user.service"])
def test_the_shipped_limits_are_those_of_the_defaults(name: str) -> None:
    """`fetchd daemon install` derives them; what a package ships is what it would write."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNITS / name)
    config = Config()
    assert int(unit["Service"]["TasksMax"]) == most_tasks(config)
    assert int(unit["Service"]["MemoryMax"].removesuffix("M")) << 20 == most_memory(config)
