"""The doctor finds what is wrong, says what helps, and never falls over."""

import configparser
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tmp import TempDir

from fetchd.daemon import doctor
from fetchd.daemon.doctor import Finding, examine
from fetchd.daemon.service import report
from fetchd.daemon.service.ballast import Ballast, fitting
from fetchd.protocol.keys import server_key_file, write_secret

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A healthy state directory."""
    with TempDir() as directory:
        for name in [name for name in os.environ if name.startswith("FETCHD_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("FETCHD_STATE_DIR", str(directory / "state"))
        (directory / "state").mkdir(mode=0o700)
        yield directory / "state"


def of(check: str) -> list[Finding]:
    return [finding for finding in examine(None) if finding.check == check]


def found(check: str) -> Finding:
    (finding,) = of(check)
    return finding


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fetchd.daemon", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_a_healthy_machine(state: Path) -> None:
    findings = list(examine(None))
    assert not [finding for finding in findings if finding.level == "fail"], findings
    assert {finding.check for finding in findings} >= {
        "python", "sqlite", "libzmq", "msgpack", "urllib3", "requests", "config", "certificates",
        "open files", "state", "space", "sockets", "daemon", "database", "inotify", "rename", "leases",
        "landlock", "seccomp", "kernel", "boot id", "umask", "staging",
    }  # fmt: skip
    assert list(state.iterdir()) == [], "it leaves nothing behind"
    done = run()
    assert done.returncode == 0
    assert all(line[:4].strip() in {"ok", "warn", ""} for line in done.stdout.splitlines())


def test_json_and_the_exit_code(state: Path) -> None:
    state.rmdir()
    state.touch()
    done = run("--json")
    assert (done.returncode, done.stderr) == (1, "")
    failed = [finding for finding in json.loads(done.stdout) if finding["level"] == "fail"]
    assert [finding["check"] for finding in failed] == ["state"]
    assert failed[0]["advice"]


def test_a_state_directory_that_is_not_there_yet(state: Path) -> None:
    state.rmdir()
    assert "does not exist yet" in found("state").message
    assert found("rename").level == "ok"
    assert not state.exists()


def test_a_state_directory_open_to_others(state: Path) -> None:
    state.chmod(0o755)
    assert (found("state").level, found("state").advice) == ("warn", f"chmod 700 {state}")


def test_sockets_that_would_be_too_long(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHD_RUNTIME_DIR", "/tmp/" + "x" * 100)
    assert found("sockets").level == "fail"


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [("FETCHD_WORKERS", "none", "config"), ("FETCHD_UNKNOWN", "1", "config"),
     ("FETCHD_CA_BUNDLE", "/nope", "certificates")],
)  # fmt: skip
def test_a_bad_setting(
    state: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, check: str
) -> None:
    monkeypatch.setenv(name, value)
    assert found(check).level == "fail"


def test_too_few_descriptors(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHD_WORKERS", "512")
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 1024))
    assert found("open files").level == "fail"


def test_a_daemon_that_died(state: Path) -> None:
    endpoint = {"pid": 1, "version": "0", "epoch": "e", "control": f"ipc://{state}/none", "events": ""}
    (state / "endpoint.json").write_text(json.dumps(endpoint))
    assert found("daemon").level == "warn"


def test_workspaces_that_lie_about(state: Path) -> None:
    lying = state / ".fetchd" / "i" / "jobs" / "j"
    lying.mkdir(parents=True)
    (lying / "data").write_bytes(b"x" * 3_000_000)
    assert found("staging").message.startswith("1 workspaces with 2.9 MiB")
    assert (lying / "data").exists()


def test_what_is_to_stay_free(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHD_MIN_FREE", str(1 << 50))
    assert (found("space").level, "are to stay free" in found("space").message) == ("fail", True)


def test_whether_the_ballast_is_there(state: Path) -> None:
    assert of("ballast") == [], "no daemon has been here"
    (state / "fetchd.db").touch()
    assert (found("ballast").level, found("ballast").message) == ("warn", "is missing")
    assert Ballast(state / "ballast", fitting(state)).restore()
    assert found("ballast").level == "ok"


def test_a_check_that_goes_wrong_is_a_finding(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_house: doctor.House) -> Iterator[Finding]:
        raise ZeroDivisionError("oops")

    monkeypatch.setitem(doctor.CHECKS, "kernel", broken)
    assert found("kernel") == Finding("kernel", "warn", "could not be checked: ZeroDivisionError: oops")


def test_missing_packages_are_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.FLOORS, "no-such-package-of-fetchd", (1,))
    findings = list(examine(None))
    assert findings[-2].message == "no-such-package-of-fetchd is missing" or findings[-1].level == "fail"
    assert not [finding for finding in findings if finding.check == "state"]


def test_an_old_version_fails(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.FLOORS, "urllib3", (999,))
    assert found("urllib3").level == "fail"
    assert "pip install" in (found("urllib3").advice or "")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.8.0", (2, 8, 0)), ("2.8.0rc1", (2, 8, 0)), ("6.18.44-fc-v657", (6, 18, 44)), ("", ())],
)  # fmt: skip
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert doctor._numbers(text) == numbers


def test_the_floors_are_those_of_the_package() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    required = dict(
        re.split(r"\s*>=\s*", line) for line in parser["options"]["install_requires"].split("\n") if line
    )
    assert {name: doctor._numbers(version) for name, version in required.items()} == doctor.FLOORS


def test_a_database_without_a_backup(state: Path) -> None:
    assert found("database").message == "there is none yet"
    (state / "fetchd.db").touch()
    assert found("database").level == "warn"


def test_repairs_of_the_database(state: Path) -> None:
    """What lies there, and the words of the last repair, whatever else the report has in it."""
    (state / "backups").mkdir()
    (state / "backups" / "fetchd-20200101T000000.000000Z-3.db").touch()
    (state / "damaged" / "20200102T000000.000000Z").mkdir(parents=True)
    (state / "suspect").write_text("a page")
    report.note(state, "database", {"message": "it was damaged"})
    report.note(state, "other", [1])
    messages = [finding.message for finding in of("database")]
    assert messages[0].startswith("1 backups, the newest ")
    assert "a page" in messages[1]
    assert messages[2].endswith("20200102T000000.000000Z")
    assert messages[3:] == ["last repair: it was damaged"]
    (state / "recovery.json").write_text("[" * 100_000)
    assert len(of("database")) == 3


def test_who_may_come_over_tcp(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("tcp").message == "for this machine only: listen is not set"
    config = state / "fetchd.toml"
    config.write_text('listen = "tcp://127.0.0.1:0"')
    monkeypatch.setenv("FETCHD_CONFIG", str(config))
    (state / "authorized_keys").write_text(f"alice {'a' * 40}\n")
    told = of("tcp")
    assert {finding.level for finding in told} == {"ok"}
    assert "reached from this machine" in told[0].message
    assert "made at the first start" in told[1].message
    assert told[2].message == f"{state}/authorized_keys: 1 keys"
    for anywhere in ("tcp://*:7411", "tcp://[::]:7411", "tcp://192.0.2.1:7411"):
        monkeypatch.setenv("FETCHD_LISTEN", anywhere)
        assert of("tcp")[0].message == f"{anywhere} is reached from other machines"
    pair = write_secret(server_key_file(state))
    assert pair.public in of("tcp")[1].message
    server_key_file(state).chmod(0o640)
    (state / "authorized_keys").chmod(0o620)
    told = of("tcp")
    assert [finding.level for finding in told] == ["ok", "fail", "fail"]
    assert all("others may" in finding.message and finding.advice for finding in told[1:])
    assert pair.secret not in run().stdout
