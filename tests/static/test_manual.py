"""The manual is what the program says now, is whole, and is good roff."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import msgspec
import pytest

from fetchd.daemon.config import KEYS, RESERVED, Config, load

from . import make_manual as make

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = ("client/man/fetchd.1", "client/man/fetchd.toml.5")

LINTERS = {
    "mandoc": ["mandoc", "-T", "lint", "-W", "warning"],
    "groff": ["groff", "-man", "-ww", "-T", "utf8", "-z"],
}
OF_TESTS = {"FETCHD_FUZZ", "FETCHD_FUZZ_DAMAGE", "FETCHD_SIM"}
INTERNAL = {"FETCHD_AUTHORITIES"}
"""From the daemon to its own children."""


def groff(text: str) -> str:
    """Text in roff as a reader sees it."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    page = f".TH T 1 2026-01-01\n.SH X\n.nh\n.ad l\n.ll 200n\n{text}\n"
    command = ["groff", "-man", "-ww", "-T", "utf8", "-P-c", "-P-b", "-P-u"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_it_is_what_would_be_made_now() -> None:
    old = [path.name for path, text in make.files().items() if path.read_text() != text]
    assert not old, "run: python -m tests.static.make_manual"


def test_every_setting_is_described() -> None:
    """A key says what it is where it is declared, and what its default is where `""` says nothing."""
    names = [field.name for field in msgspec.structs.fields(Config)]
    assert list(KEYS) == names
    silent = [name for name in names if not KEYS[name].text.endswith(".")]
    silent += [name for name in names if make.default(name) in ("`null`", '`""`', "`[]`", "`{}`")]
    assert not silent


def test_every_command_and_option_is_in_it() -> None:
    page = (ROOT / PAGES[0]).read_text()
    missing = []
    for command in make.commands(make.ROOT):
        assert command.command.help, command.command_path
        wanted = {command.command_path: f".SS {command.command_path}"}
        wanted |= {
            f"{command.command_path} {row[0]}": f".TP\n{make.line(row[0])}\n{make.line(row[1])}\n"
            for option in command.command.params
            if isinstance(option, click.Option) and (row := option.get_help_record(command))
        }
        missing += [what for what, words in wanted.items() if words not in page]
    assert not missing


def test_every_variable_is_in_it() -> None:
    page = (ROOT / PAGES[0]).read_text()
    code = "".join(
        path.read_text() for room in ("client", "daemon", "protocol") for path in (ROOT / room).rglob("*.py")
    )
    named = set(re.findall(r"\bFETCHD_[A-Z_]*[A-Z]\b", code)) | {
        f"FETCHD_{name.upper()}" for name in RESERVED
    }
    settings = {f"FETCHD_{name.upper()}" for name in KEYS}
    missing = {name for name in named - OF_TESTS - INTERNAL - settings if f".B {name}\n" not in page}
    assert not missing
    assert not [name for name in KEYS if name in RESERVED]


def blocks(page: str) -> list[str]:
    """What a page shows as it is typed."""
    found = re.findall(r"^\.nf\n(.*?)^\.fi$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found
    return [block.replace("\\-", "-") for block in found]


def test_commands_that_are_shown_are_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the manual and in the README."""
    monkeypatch.chdir(tmp_path)
    Path("urls.txt").touch()
    shown = [*blocks(PAGES[0])[-1].splitlines(), *re.findall(r"^\$ (.*)", README.read_text(), re.MULTILINE)]
    for part in [part for line in shown for part in re.split(r"\||&&|;", line)]:
        program, *words = shlex.split(part, comments=True)
        if program == "fetchd":
            context = make.ROOT
            while isinstance(context.command, click.Group):
                context = make.inner(context, words.pop(0))
            context.command.parse_args(context, words)
            context.close()


def test_configurations_that_are_shown_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "fetchd.toml"
    for block in blocks(PAGES[1]):
        file.write_text(block)
        assert load(file, {}) != Config()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("linter", LINTERS)
def test_it_is_good_roff(page: str, linter: str) -> None:
    if shutil.which(linter) is None:
        pytest.skip(f"{linter} is not installed")
    done = subprocess.run([*LINTERS[linter], page], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        ".TH is no request", "'tis none either", "\\fBa\\e b\\", "-o, --output=NAME --no-start",
        "a ~/b ^c `d 'e' \"f\"",
        "half 1 % … ü", "..", "\\&.", "x` y`",
    ],
)  # fmt: skip
def test_text_stays_what_it_is(text: str) -> None:
    assert text.replace("`", "") in groff(make.line(text)).replace("`", "")


def test_what_is_literal_is_bold() -> None:
    assert make.line("with `a-b`, or --no-x") == "with \\fBa\\-b\\fR, or \\fB\\-\\-no\\-x\\fR"


def test_it_is_installed() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    found = {file: target for target, files in parser["options.data_files"].items() for file in files.split()}
    assert found == {page: f"share/man/man{page[-1]}" for page in PAGES}


def test_units_name_it() -> None:
    """`Documentation=` of a unit is a page that there is."""
    named = {
        name
        for unit in (ROOT / "systemd").iterdir()
        for name in re.findall(r"\bman:([\w.]+\(\d\))", unit.read_text())
    }
    assert named <= {f"{Path(page).stem}({page[-1]})" for page in PAGES}
    assert named
