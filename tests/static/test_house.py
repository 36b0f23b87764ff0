"""House rules that no linter knows: small files, docstrings, no sleeping, nothing of one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE_LINES = 250
LINES = 400
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp/w)(?![\w.-])")
CODE = ("protocol", "client", "daemon", "tests")


def python_files(*folders: str) -> list[Path]:
    """All Python files below these folders."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def tracked() -> list[Path]:
    """All files that git knows or would take in; skips outside a checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def shown(path: Path) -> str:
    """A path as messages show it."""
    return str(path.relative_to(ROOT))


def sleeps(text: str) -> list[int]:
    """Lines that use `time.sleep` under whatever name."""
    tree = ast.parse(text)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [node.lineno for alias in node.names if alias.name == "sleep"]
        elif isinstance(node, ast.Attribute) and node.attr == "sleep" and isinstance(node.value, ast.Name):
            found += [node.lineno] * (node.value.id in names)
    return found


def test_files_are_small() -> None:
    large = []
    for path in python_files(*CODE):
        count = len(path.read_text().splitlines())
        limit = CORE_LINES if path.is_relative_to(ROOT / "daemon" / "core") else LINES
        if count > limit:
            large.append(f"{shown(path)}: {count} lines, at most {limit}")
    assert not large, "\n" + "\n".join(large)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        shown(path) for path in python_files(*CODE) if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_nobody_sleeps() -> None:
    asleep = [f"{shown(path)}:{line}" for path in python_files(*CODE) for line in sleeps(path.read_text())]
    assert not asleep, "wait for a descriptor, a condition or a computed deadline instead"


def test_no_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            lines = enumerate(data.decode(errors="replace").splitlines(), 1)
            found += [f"{shown(path)}:{number}" for number, line in lines if MACHINE_PATH.search(line)]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "import time as t\nt.sleep(1)",
        "from time import sleep",
        "from time import sleep as s",
    ],
)
def test_a_sleep_is_seen(text: str) -> None:
    assert sleeps(text)


def test_other_sleeps_are_let_pass() -> None:
    assert not sleeps("import time, trio\ntrio.sleep(1)\nself.time.sleep\ntime.monotonic()")


@pytest.mark.parametrize("prefix", ["", "'", " ", "cd "])
def test_a_machine_path_is_seen(prefix: str) -> None:
    assert MACHINE_PATH.search(prefix + "/" + "work/main/x")
    assert not MACHINE_PATH.search("a/work/main or ./work or /workspace or /tmp/work")


OWNERS = re.compile(r"\bowner\s*(==|!=)|(==|!=)\s*[\w.]*\bowner\b|\bowner\s+(not\s+)?in\s*[\(\[{]")
RIGHTS = ROOT / "daemon" / "core" / "rights.py"


def test_one_place_compares_owners() -> None:
    """Who may do what is said in `core/rights`, and nowhere else."""
    found = [
        f"{shown(path)}:{number}"
        for path in python_files("daemon")
        if path != RIGHTS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OWNERS.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    ["if job.owner == caller.owner:", "x = a.owner != b", "a == run.owner", "if owner in (None, other):"],
)
def test_a_comparison_of_owners_is_seen(line: str) -> None:
    assert OWNERS.search(line)
