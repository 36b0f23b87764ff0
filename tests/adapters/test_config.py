"""The configuration: file and environment, and every mistake told with its place."""

import grp
from pathlib import Path

import msgspec
import pytest

from fetchd.daemon import config as module
from fetchd.daemon.config import Config, ConfigError, ca_bundle, groups, load, modes

NOWHERE = {"XDG_CONFIG_HOME": "/nowhere"}


@pytest.fixture
def file(downloads: Path) -> Path:
    return downloads / "fetchd.toml"


def test_without_anything_the_defaults_hold() -> None:
    assert load(None, NOWHERE) == Config()


def test_the_environment_overrides_the_file(file: Path) -> None:
    file.write_text("workers = 7\nread_timeout = 2\n")
    assert load(file, {}) == Config(workers=7, read_timeout=2.0)
    found = load(file, {"FETCHD_WORKERS": "9", "FETCHD_STATE_DIR": "/x", "PATH": "/bin", "FETCHD": "x"})
    assert found == Config(workers=9, read_timeout=2.0)


def test_where_the_file_is_looked_for(file: Path, downloads: Path) -> None:
    file.write_text("workers = 2")
    assert load(None, {"FETCHD_CONFIG": str(file)}).workers == 2
    (downloads / "fetchd").mkdir()
    (downloads / "fetchd" / "fetchd.toml").write_text("workers = 3")
    assert load(None, {"XDG_CONFIG_HOME": str(downloads)}).workers == 3
    assert load(None, {**NOWHERE, "CONFIGURATION_DIRECTORY": f"{downloads / 'fetchd'}:/x"}).workers == 3
    assert load(None, {**NOWHERE, "CONFIGURATION_DIRECTORY": "/nowhere"}) == Config()
    other = downloads / "other.toml"
    other.write_text("workers = 4")
    assert load(other, {"FETCHD_CONFIG": str(file)}).workers == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wrokers = 5", "wrokers"),
        ("workers = 0", "workers"),
        ("workers = 1000", "workers"),
        ('workers = "5"', "workers"),
        ("workers = 5.5", "workers"),
        ("workers = true", "workers"),
        ("read_timeout = 0", "read_timeout"),
        ("read_timeout = -1", "read_timeout"),
        ("read_timeout = nan", "read_timeout"),
        ("read_timeout = inf", "read_timeout"),
        ("hang_timeout = 0.5", "hang_timeout"),
        ('log_level = "loud"', "log_level"),
        ("[workers]\nx = 1", "workers"),
        ("workers", "Expected"),
    ],
)
def test_mistakes_in_the_file(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(file, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FETCHD_WORKERS", "many"),
        ("FETCHD_WORKERS", "0"),
        ("FETCHD_WORKERS", ""),
        ("FETCHD_READ_TIMEOUT", "nan"),
        ("FETCHD_READ_TIMEOUT", "1e400"),
        ("FETCHD_HANG_TIMEOUT", "0"),
        ("FETCHD_WROKERS", "5"),
        ("FETCHD_LOG_LEVEL", "loud"),
    ],
)
def test_mistakes_in_the_environment(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"FETCHD_|log_level"):
        load(None, {**NOWHERE, name: value})


def test_files_that_cannot_be_read(file: Path, downloads: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(file, {})
    with pytest.raises(ConfigError, match="directory"):
        load(downloads, {})
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="utf-8"):
        load(file, {})


def test_which_certificates_are_trusted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("")
    assert ca_bundle(Config(ca_bundle=str(file)), {"SSL_CERT_FILE": "/x"}) == str(file)
    assert ca_bundle(Config(), {"SSL_CERT_FILE": str(file)}) == str(file)
    with pytest.raises(ConfigError, match="/nowhere"):
        ca_bundle(Config(ca_bundle="/nowhere"), {})
    monkeypatch.chdir(file.parent)
    with pytest.raises(ConfigError, match="absolute"):
        ca_bundle(Config(ca_bundle=file.name), {})
    found = ca_bundle(Config(), {})
    assert found == "" or Path(found).is_file()


def test_every_setting_says_when_it_comes_into_force() -> None:
    assert set(module.IN_FORCE) == {field.name for field in msgspec.structs.fields(Config)}


def test_every_setting_is_in_the_readme() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    missing = [field.name for field in msgspec.structs.fields(Config) if f"`{field.name}`" not in readme]
    assert not missing


def test_who_else_may_use_it() -> None:
    name, gid = next((entry.gr_name, entry.gr_gid) for entry in grp.getgrall() if entry.gr_gid)
    assert groups(Config()) == (None, None)
    assert groups(Config(group=name)) == (gid, None)
    assert groups(Config(admin_group=name)) == (None, gid)
    try:
        usual = grp.getgrnam("fetchd").gr_gid
    except KeyError:
        usual = None
    assert groups(Config(system=True)) == (usual, None)
    assert groups(Config(system=True, group="")) == (None, None)
    for made in (Config(group="no-such-group"), Config(admin_group="no-such-group")):
        with pytest.raises(ConfigError, match="no-such-group"):
            groups(made)


def test_modes_of_files() -> None:
    assert modes(Config()) == (None, None)
    assert modes(Config(system=True)) == (0o640, 0o2750)
    assert modes(Config(file_mode="600", dir_mode="0700", system=True)) == (0o600, 0o700)
    for wrong in ("9", "rw", "0o640", "06400"):
        with pytest.raises(ConfigError):
            load(None, {**NOWHERE, "FETCHD_FILE_MODE": wrong})


def test_roots(file: Path) -> None:
    file.write_text('roots = ["/srv/{user}", "/data"]')
    assert load(file, {}).roots == ("/srv/{user}", "/data")
    assert load(file, {"FETCHD_ROOTS": "/a /b"}).roots == ("/a", "/b")
    file.write_text('roots = ["here"]')
    with pytest.raises(ConfigError):
        load(file, {})
