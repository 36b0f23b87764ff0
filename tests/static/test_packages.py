"""setup.cfg says the truth: its list of packages, its entry points, its package data."""

import configparser
import importlib
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def config() -> configparser.ConfigParser:
    """setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    """The lines of a multi-line value."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_packages_are_the_folders_with_code() -> None:
    found = {
        ".".join(["fetchd", *path.parent.relative_to(ROOT).parts])
        for room in ("protocol", "client", "daemon", "systemd")
        for path in (ROOT / room).rglob("*.py")
    }
    assert set(lines(config()["options"]["packages"])) == found


def test_every_package_has_an_init() -> None:
    """Without it mypy and importlib take the folder for a namespace."""
    missing = [
        package
        for package in lines(config()["options"]["packages"])
        if not (ROOT.joinpath(*package.split(".")[1:]) / "__init__.py").exists()
    ]
    assert not missing


def test_the_namespace_has_no_init() -> None:
    """It would shadow the installation in a checkout."""
    assert not list(ROOT.glob("*.py"))
    assert not list((ROOT / ".dev" / "fetchd").glob("*.py"))


def test_entry_points_import() -> None:
    for line in lines(config()["options.entry_points"]["console_scripts"]):
        module, _, name = line.partition("=")[2].strip().partition(":")
        assert callable(getattr(importlib.import_module(module), name)), line


def test_the_daemon_can_be_run_as_a_module() -> None:
    assert importlib.util.find_spec("fetchd.daemon.__main__") is not None


def test_package_data_exists() -> None:
    for package, patterns in config()["options.package_data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns.replace(",", "\n").split():
            assert list(folder.glob(pattern)), f"{package}: {pattern}"
