"""`fetchd daemon install`: what it writes, and what of others it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import COMMAND
from support.tmp import TempDir

from fetchd.daemon.config import Config, most_memory, most_tasks
from fetchd.daemon.install import Options, destinations, install, run, uninstall
from fetchd.daemon.service.units import UnitError, fitted, is_ours, marked, plain, shipped, write

HOME_UNIT = "home/.config/systemd/user/fetchd.service"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, downloads: Path) -> Path:
    """The prefix of an installation, with an empty home directory in it."""
    monkeypatch.setenv("HOME", "/home")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return downloads


def values(path: Path) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines() if "=" in line)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_a_users_unit_comes_and_goes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "mine").write_text("")
    options = Options(system=False, prefix=home)
    assert run(install, options) == 0
    unit = home / HOME_UNIT
    assert files(home) == [HOME_UNIT, "mine"]
    assert unit.stat().st_mode & 0o777 == 0o644
    found = values(unit)
    assert found["ExecStart"] == f"{sys.executable} -m fetchd.daemon run"
    assert found["TasksMax"] == str(most_tasks(Config()))
    assert f"wrote {unit}" in capsys.readouterr().out
    assert run(install, options) == 0, "again, over what is ours"
    assert run(uninstall, options) == 0
    assert files(home) == ["mine"]
    assert run(uninstall, options) == 0, "there is nothing to do"


def test_limits_follow_the_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TempDir() as configuration:
        (configuration / "fetchd").mkdir()
        settings = configuration / "fetchd" / "fetchd.toml"
        settings.write_text("workers = 20")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(configuration))
        monkeypatch.setenv("FETCHD_WORKERS", "7")  # of this shell, not of the service
        options = Options(system=False, prefix=home)
        unit = options.targets["fetchd-user.service"]
        assert run(install, options) == 0
        config = Config(workers=20)
        memory = most_memory(config)
        assert memory is not None
        assert values(unit)["TasksMax"] == str(most_tasks(config))
        assert values(unit)["MemoryMax"] == f"{memory >> 20}M"
        assert values(unit)["TimeoutStopSec"] == "40"
        settings.write_text("worker_memory = 0\ndrain_timeout = 120.5\nstop_grace = 3")
        assert run(install, options) == 0
        assert int(values(unit)["TimeoutStopSec"]) > 123
        assert values(unit)["MemoryMax"] == "infinity"
        settings.write_text("nonsense = 1")
        assert run(install, options) == 1


def test_what_was_edited_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, forced = Options(system=False, prefix=home), Options(system=False, prefix=home, force=True)
    unit = home / HOME_UNIT
    assert run(install, options) == 0
    edited = unit.read_text() + "Nice=10\n"
    unit.write_text(edited)
    for act in (install, uninstall):
        assert run(act, options) == 1
        assert "--force" in capsys.readouterr().err
        assert unit.read_text() == edited
    assert run(install, forced) == 0
    assert is_ours(unit)
    unit.unlink()
    unit.symlink_to("/dev/null")
    assert run(install, options) == 1, "masked by its administrator"
    assert run(uninstall, forced) == 0
    assert not unit.is_symlink()


def test_an_older_one_of_ours_is_replaced(home: Path) -> None:
    unit = home / HOME_UNIT
    write(unit, marked("[Unit]\nDescription=the one before\n"))
    assert run(install, Options(system=False, prefix=home)) == 0
    assert "the one before" not in unit.read_text()


def test_an_enabled_unit_is_not_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(system=False, prefix=home)
    assert run(install, options) == 0
    wants = home / HOME_UNIT
    link = wants.parent / "default.target.wants" / "fetchd.service"
    link.parent.mkdir()
    link.symlink_to(wants)
    assert run(uninstall, options) == 1
    assert "disable --now" in capsys.readouterr().err
    assert wants.exists()
    link.unlink()
    assert run(uninstall, options) == 0


@pytest.mark.parametrize("place", ["/root/v", "/home/a/v", "/tmp/v", "/var/tmp/v"])
def test_a_service_could_not_see_this_environment(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, place)
    assert run(install, Options(system=True, dry_run=True)) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert "hidden from the service" in found.err


def test_where_the_service_may_write() -> None:
    roots = ("/srv/fetchd", "/srv/music/{user}", "/data/of-{user}/x", "/srv/a/../b")
    found = [str(path) for path in destinations(Config(roots=roots))]
    assert found == ["/srv/fetchd", "/srv/music", "/data", "/srv/b"]
    for bad in ("/{user}", "/home/{user}", "/srv/../root/x"):
        with pytest.raises(UnitError):
            destinations(Config(roots=(bad,)))


@pytest.mark.parametrize("root", [sys.prefix, f"{Path(sys.prefix).parent}/{{user}}", "/usr/../usr"])
def test_a_root_with_programs_in_it(root: str) -> None:
    with pytest.raises(UnitError, match="programs"):
        destinations(Config(roots=("/usr/share/downloads", root)))


def test_a_root_that_leads_to_what_is_hidden(monkeypatch: pytest.MonkeyPatch, downloads: Path) -> None:
    monkeypatch.setattr("fetchd.daemon.install.HIDDEN", {str(downloads / "home"): "ProtectHome"})
    (downloads / "data").symlink_to(downloads / "home" / "data")
    with pytest.raises(UnitError, match="ProtectHome"):
        destinations(Config(roots=(f"{downloads}/data/{{user}}",)))
    (downloads / "loop").symlink_to("loop")
    assert downloads / "loop" in destinations(Config(roots=(f"{downloads}/loop",)))


def test_usage_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(install, Options(system=True)) == 1
    assert "only root" in capsys.readouterr().err
    assert run(install, Options(system=False, prefix=Path("/nowhere"), now=True)) == 1
    assert "--prefix" in capsys.readouterr().err


def test_paths_that_a_unit_does_not_take() -> None:
    for bad in ("/opt/with space", "/opt/%h", "/opt/$x", '/opt/"x', "/opt/a;b", "/opt/new\nline"):
        with pytest.raises(UnitError):
            plain(Path(bad))
    assert plain(Path("/opt/fetchd-1.0/bin")) == "/opt/fetchd-1.0/bin"


def test_only_what_is_there_is_fitted() -> None:
    text = shipped("fetchd.service")
    changed = fitted(text, {"TasksMax": "1"})
    assert [line for line in changed.splitlines() if line not in text.splitlines()] == ["TasksMax=1"]
    with pytest.raises(AssertionError):
        fitted(text, {"Nonsense": "1"})


@pytest.mark.parametrize("prefix", [[], ["--prefix", ""]])
def test_the_command_prints_and_changes_nothing(home: Path, prefix: list[str]) -> None:
    environment = {**os.environ, "HOME": str(home)}
    command = [*COMMAND, "daemon", "install", "--user", "--dry-run", *prefix]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"# {home}/.config/systemd/user/fetchd.service\n# Written by fetchd")
    assert files(home) == []


@pytest.mark.parametrize("verb", [["daemon", "install", "--user", "--dry-run"], ["config", "show"]])
def test_paths_that_are_no_utf8_are_shown(home: Path, verb: list[str]) -> None:
    odd = home / "\udcff"
    (odd / "fetchd").mkdir(parents=True)
    (odd / "fetchd" / "fetchd.toml").write_text("workers = 3")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(odd), "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [*COMMAND, *verb], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\udcff" in done.stdout
