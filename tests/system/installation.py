"""fetchd in an environment of its own, as pip would install it: copied from where it is installed here."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("client", "daemon", "protocol", "systemd")
COMMAND = """#!/opt/fetchd/bin/python
import sys
from fetchd.client.cli.main import main
sys.exit(main())
"""


def python() -> str | None:
    """An interpreter of this version that a locked in service can reach, or None."""
    return shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")


def install(root: Path) -> None:
    """Make the environment /opt/fetchd below `root`."""
    interpreter, home = python(), root / "opt" / "fetchd"
    assert interpreter is not None
    subprocess.run([interpreter, "-m", "venv", "--without-pip", str(home)], check=True)
    (site,) = home.glob("lib/python3.*/site-packages")
    ours = distribution("fetchd")
    for needed in {found.name: found for found in _needed(ours)}.values():
        for file in needed.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(needed.locate_file(file)), target)
    for name in PACKAGES:
        spec = find_spec(f"fetchd.{name}")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        shutil.copytree(spec.submodule_search_locations[0], site / "fetchd" / name)
    about = site / f"fetchd-{ours.version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fetchd\nVersion: {ours.version}\n")
    (about / "entry_points.txt").write_text(ours.read_text("entry_points.txt") or "")
    (home / "bin" / "fetchd").write_text(COMMAND)
    (home / "bin" / "fetchd").chmod(0o755)


def _needed(by: Distribution) -> Iterator[Distribution]:
    """What a distribution requires here, without extras, and what that requires."""
    for line in by.requires or ():
        name = re.match(r"[\w.-]+", line)
        if name is None or "extra ==" in line:
            continue
        try:
            found = distribution(name[0])
        except PackageNotFoundError:
            continue  # for another system or version of Python
        yield found
        yield from _needed(found)
