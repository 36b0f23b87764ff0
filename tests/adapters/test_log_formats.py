"""What the log looks like: text, JSON lines, fields for the journal; what a record is about, and no more."""

import json
import os
import socket
import subprocess
import sys

from support.tmp import TempDir

PROGRAM = """
import os, sys
from fetchd.daemon.service import log
log.JOURNAL = sys.argv[2]
if sys.argv[3:]:
    found = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
log.set_up("info", form=sys.argv[1])
log.logger.warning("bad\\nPRIORITY=0", extra={"job": "j1", "worker": 3, "attempt": 2, "secret": "hunter2"})
"""


def run(*arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True, text=True, timeout=30, check=True, env=env,
    )  # fmt: skip
    assert "hunter2" not in done.stderr
    return done.stderr


def fields(datagram: bytes) -> dict[str, str]:
    """What the journal would read: a name, a length of eight bytes, a value."""
    found = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        length = int.from_bytes(rest[:8], "little")
        found[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        datagram = rest[9 + length :]
    return found


def test_the_journal_gets_fields() -> None:
    with TempDir() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(directory / "journal"))
        journal.settimeout(10)
        assert run("auto", str(directory / "journal"), "stderr is the journal") == ""
        assert fields(journal.recv(10_000)) == {
            "MESSAGE": "bad\nPRIORITY=0", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "fetchd",
            "JOB": "j1", "WORKER": "3", "ATTEMPT": "2",
        }  # fmt: skip


def test_text_where_stderr_is_no_journal_or_there_is_none() -> None:
    assert " WARNING bad" in run("auto", "/nonexistent")
    assert " WARNING bad" in run("journal", "/nonexistent")


def test_one_json_object_a_line() -> None:
    (line,) = run("json", "/nonexistent").splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    about = {"job": "j1", "worker": 3, "attempt": 2}
    assert found == {"level": "warning", "message": "bad\nPRIORITY=0", **about}
