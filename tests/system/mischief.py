"""Lets a transfer that is out for mischief try its worst in a real worker, and prints what came of each try.

python -m tests.system.mischief           what came of it
python -m tests.system.mischief document  the table as `daemon/sandbox/MISCHIEF.md` has it
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from support.daemon import DaemonProcess
from support.look import until
from support.origin import Origin, Resource
from support.plugins import install
from support.tmp import TempDir

from fetchd.client import Client
from fetchd.protocol.job import JobSnapshot, State
from fetchd.protocol.paths import runtime_dir

from .rows import NOT_GOVERNED, ROWS, Row

PARTS = ("tries.py", "deeds.py")


def source() -> str:
    """The plug-in, as one module."""
    here = Path(__file__).parent
    text = "\n".join((here / part).read_text() for part in PARTS)
    return re.sub(r"^from \.tries import .*$", "", text, flags=re.MULTILINE)


class House:
    """A daemon with the plug-in, things to aim at in it, and a job of somebody else that runs meanwhile."""

    def __init__(
        self, directory: Path, origin: Origin, env: dict[str, str], wrapper: Sequence[str] = ()
    ) -> None:
        site, self.destination, private = directory / "site", directory / "downloads", directory / "private"
        for made in (site, self.destination):
            made.mkdir()
        private.write_text("private")
        install(site, "naughty", {"mischief": "naughty:Naughty"}, source())
        self.daemon = DaemonProcess(
            {"PYTHONPATH": str(site), "FETCHD_WORKERS": "16", "FETCHD_HANG_TIMEOUT": "3"} | env,
            wrapper=wrapper,
        )
        self.private = private
        self.origin = origin
        self.number = 0

    def start(self) -> None:
        """Run the daemon, deliver a file, and let another job hang in mid-transfer."""
        self.daemon.start()
        self.client = Client(socket=self.daemon.endpoint.control)
        first = self.origin.add("/published", Resource(size=1000))
        published = self.client.submit(first, directory=self.destination).result(timeout=30)
        self.gate = self.origin.gate()
        url = self.origin.add("/other", Resource(size=100_000), "hold", after=1000, gate=self.gate)
        self.other = self.client.submit(url, directory=self.destination)
        until(self.other, lambda s: s.bytes >= 1000, 30)
        (other,) = self.daemon.state.glob(f".fetchd/*/rooms/*/{self.other.id}")
        self.aims: dict[str, object] = {
            "supervisor": self.daemon.pid,
            "home": str(Path.home()),
            "state": str(self.daemon.state),
            "database": str(self.daemon.state / "fetchd.db"),
            "secrets": str(self.daemon.state / "secrets.db"),
            "other": str(other / "data"),
            "other_room": str(other.parent),
            "other_job": self.other.id,
            "published": str(published.path),
            "destination": str(self.destination),
            "private": str(self.private),
            "runtime": str(runtime_dir(self.daemon.state)),
            "control": self.daemon.endpoint.control.removeprefix("ipc://"),
            "port": self.origin.port,
        }

    def close(self) -> None:
        """Let the other job come to its end, whatever was done: it and the delivered file are untouched."""
        self.gate.open()
        self.untouched = self.other.result(timeout=30).size == 100_000
        self.client.close()
        self.daemon.close()

    def _submit(self, host: str, **aims: object) -> object:
        self.number += 1
        query = quote(json.dumps({**self.aims, **aims}), safe="")
        return f"mischief://{host}/{self.number}?{query}"

    def tries(self, names: Sequence[str]) -> dict[str, str]:
        """What came of these tries, made one after the other in one worker."""
        url = str(self._submit("tries", tries=list(names)))
        result = self.client.submit(url, directory=self.destination).result(timeout=60)
        found: dict[str, str] = json.loads(result.path.read_bytes())
        result.path.unlink()
        return found

    def deed(self, name: str) -> str:
        """How the job ends whose worker does this: its state, or the code and message of its first error."""
        # what the worker of the deed before has still to say, and is killed for, is not for this one
        self.tries([])
        job = self.client.submit(str(self._submit("deed", deed=name)), directory=self.destination)
        seen: JobSnapshot = until(job, lambda s: s.error is not None or s.state is State.COMPLETED, 60)
        if seen.error is None:
            return "done"
        if seen.state is not State.FAILED:
            job.cancel()
        return f"{seen.error.code}: {seen.error.message}"


@contextmanager
def house(env: dict[str, str] | None = None, wrapper: Sequence[str] = ()) -> Iterator[House]:
    """A house that is built, and pulled down afterwards."""
    with ExitStack() as stack:
        directory = stack.enter_context(TempDir())
        origin = Origin()
        stack.callback(origin.close)
        made = House(directory, origin, dict(env or {}), wrapper)
        stack.callback(made.daemon.close)
        made.start()
        stack.callback(made.close)
        yield made


def rows() -> list[Row]:
    """The rows that are tried, as far as this machine has such a call."""
    return [row for row in ROWS if row.machine in ("", os.uname().machine)]


def document() -> str:
    """The table, as it is asserted."""
    lines = [
        "# What a worker that has been taken over can do",
        "",
        "Made by `python -m tests.system.mischief document`. `tests/system/test_mischief.py` lets a transfer",
        "try all of it in a real worker of a real daemon, and holds every row. The answer is what the",
        "attacker gets. Of the layers of the room those are named whose absence changes the answer, in the",
        "whole room or in one that lacks others already; they were found by taking them out, as root",
        "(`python -m tests.system.layers`). Where there are several, one stands behind the other.",
        "A daemon of a user who is not root has no capabilities to take from its workers: there the others",
        "stand alone.",
        "",
    ]
    for title, layer in (("Stopped", False), ("Not governed", True)):
        lines += [f"## {title}", "", "| tried | answer | by | |", "|---|---|---|---|"]
        lines += [
            f"| {row.text} | {row.answer} | {row.layer} | {row.note} |"
            for row in ROWS
            if (row.layer == NOT_GOVERNED) is layer
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Try everything, and print what came of it."""
    wrong = 0
    with house() as made:
        found = made.tries([row.name for row in rows() if not row.deed])
        for row in rows():
            came = made.deed(row.name) if row.deed else found[row.name]
            wrong += not row.fits(came)
            print(f"{'' if row.fits(came) else '!! '}{row.text:60} {came[:70]:70} {row.layer}")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["document"]:
        print(document(), end="")
    else:
        sys.exit(main())
