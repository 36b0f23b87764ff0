"""Which transfer handles what: built-in ones without any metadata, plug-ins by it, broken ones not at all."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.plugins import DEMO, install

from fetchd.daemon.transfer import schemes
from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.ftp import Ftp
from fetchd.daemon.transfer.http import Http
from fetchd.daemon.transfer.registry import Transfers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path; what it holds is looked for afresh."""
    monkeypatch.syspath_prepend(downloads)
    schemes.plug_ins.cache_clear()
    yield downloads
    schemes.plug_ins.cache_clear()
    for path in downloads.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_built_in_ones() -> None:
    transfers = Transfers()
    assert isinstance(transfers.find("http://a.test/"), Http)
    assert transfers.find("HTTPS://a.test/") is transfers.find("http://a.test/")
    assert isinstance(transfers.find("ftp://a.test/"), Ftp)
    assert transfers.find("ftps://a.test/") is transfers.find("ftp://a.test/")
    for transfer in transfers._made.values():
        transfer.close()


def test_metadata_and_table_agree() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"][schemes.GROUP].strip().splitlines()
    assert dict(line.split(" = ") for line in lines) == schemes.BUILT_IN


def test_a_start_costs_no_look_at_metadata() -> None:
    """Neither in the supervisor nor in a worker that fetches by HTTP."""
    text = (
        "import sys\n"
        "from fetchd.daemon.transfer.schemes import installed_schemes\n"
        "assert 'requests' not in sys.modules and 'importlib.metadata' not in sys.modules\n"
        "from fetchd.daemon.transfer import registry, schemes\n"
        "registry.Transfers().find('http://a.test/').close()\n"
        "assert not schemes.plug_ins.cache_info().misses and 'ftplib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True, cwd=ROOT)


def test_a_plug_in(site: Path) -> None:
    install(site, "demo_transfer", {"demo": "demo_transfer:Demo"}, DEMO)
    assert schemes.installed_schemes() == {"http", "https", "ftp", "ftps", "demo"}
    assert "demo_transfer" not in sys.modules
    assert type(Transfers().find("demo://a/b")).__name__ == "Demo"


@pytest.mark.parametrize(
    ("scheme", "place", "why"),
    [
        ("file", "bad_one:Demo", "never offered"),
        ("https", "bad_one:Demo", "built in"),
        ("ftp", "bad_one:Demo", "built in"),
        ("Demo", "bad_one:Demo", "no URL scheme"),
        ("de mo", "bad_one:Demo", "no URL scheme"),
        ("demo", "bad_one", "not module:class"),
        ("demo", "bad_one:Demo [extra]", "not module:class"),
        ("demo", "bad one:Demo", "not module:class"),
        ("demo", "os:system; x", "not module:class"),
    ],
)
def test_an_entry_that_is_left_out(
    site: Path, caplog: pytest.LogCaptureFixture, scheme: str, place: str, why: str
) -> None:
    install(site, "bad_one", {scheme: place, "good": "bad_one:Demo"}, DEMO)
    with caplog.at_level(logging.WARNING, "fetchd"):
        assert schemes.installed_schemes() - set(schemes.BUILT_IN) == {"good"}
    assert why in caplog.text
    assert schemes.BUILT_IN["https"].startswith("fetchd.")


@pytest.mark.parametrize(
    "text", ["[fetchd.transfers]\nnonsense\n", "[fetchd.transfers]\n= =\n", "[fetchd.transfers"]
)
def test_metadata_that_cannot_be_read_hides_nobody(site: Path, text: str) -> None:
    install(site, "aaa_rubbish", text)
    install(site, "demo_transfer", {"demo": "demo_transfer:Demo"}, DEMO)
    assert "demo" in schemes.installed_schemes()


def test_of_two_the_first_on_the_path_has_it(
    site: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (site / "later").mkdir()
    install(site, "first_one", {"demo": "first_one:Demo"}, DEMO)
    install(site / "later", "second_one", {"demo": "second_one:Demo"}, DEMO)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site / "later")])
    with caplog.at_level(logging.WARNING, "fetchd"):
        assert schemes.plug_ins()["demo"] == "first_one:Demo"
    assert "first_one:Demo has this scheme already" in caplog.text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module_here", "no_such_module_here"),
        ("1 / 0", "division"),
        ("raise SystemExit('I am off')", "I am off"),
        ("", "Demo"),
        ("Demo = 1", "no Transfer"),
        ("class Demo: pass", "no Transfer"),
        (DEMO + "    def __init__(self): raise OSError('not today')\n", "not today"),
        (DEMO.replace("    def close", "    def closed"), "abstract"),
    ],
    ids=[
        "missing module",
        "error",
        "exit",
        "no attribute",
        "no class",
        "no transfer",
        "will not start",
        "incomplete",
    ],
)
def test_a_plug_in_that_cannot_be_loaded(site: Path, source: str, words: str) -> None:
    install(site, "broken_one", {"broken": "broken_one:Demo"}, source)
    with pytest.raises(TransferError, match=words) as caught:
        Transfers().find("broken://a/b")
    assert caught.value.code == "unsupported_scheme"


def test_nobody_handles_it(site: Path) -> None:
    for url in ("gopher://a/b", "file:///etc/passwd", "", "nonsense"):
        with pytest.raises(TransferError) as caught:
            Transfers().find(url)
        assert caught.value.code == "unsupported_scheme"
