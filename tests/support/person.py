"""Another user of the machine: a process with their uid that acts through the real client.

Root is needed to become somebody else. The process imports what it needs before, since the interpreter
may lie where others cannot read.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from .wait import read_line

IS_ROOT = os.geteuid() == 0
NEEDED = "only root can become somebody else"

PROGRAM = """
import encodings.ascii, encodings.idna, json, os, sys, time, urllib.request
import zmq, zmq.utils.monitor
import fetchd.client.background, fetchd.protocol.inotify, fetchd.client.local, fetchd.client.replay
from fetchd.client import Client
from fetchd.protocol.errors import FetchdError

uid, gid, groups, socket = json.loads(sys.argv[1])
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
os.chdir("/")
with Client(socket=socket, timeout=20) as client:
    names = {"client": client, "zmq": zmq, "Client": Client, "socket": socket, "os": os, "time": time}
    print("{}", flush=True)
    for line in sys.stdin:
        names["result"] = None
        try:
            exec(json.loads(line), names)
            answer = {"result": names["result"]}
        except FetchdError as error:
            answer = {
                "code": error.code, "message": error.message, "retry_after": error.retry_after,
                "details": error.details,
            }
        print(json.dumps(answer), flush=True)
"""


class RefusedError(Exception):
    """What this person asked for was refused; `code` says why."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer)
        self.code: str = answer["code"]
        self.message: str = answer["message"]
        self.retry_after: float | None = answer["retry_after"]
        self.details: dict[str, Any] = answer["details"]


class Person:
    """A user with a client for the daemon at a socket. `groups` are their supplementary ones."""

    def __init__(self, socket: str, uid: int, gid: int, groups: Sequence[int] = ()) -> None:
        self.owner = f"uid:{uid}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([uid, gid, list(groups), socket])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._read()

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, code: str, **given: object) -> Any:
        """Run statements that know `client` and what is `given`: what they make `result`, or RefusedError."""
        lines = [f"{name} = {value!r}" for name, value in given.items()]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps("\n".join([*lines, textwrap.dedent(code)])).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def ask(self, expression: str, **given: object) -> Any:
        """The value of an expression."""
        return self.do(f"result = {expression}", **given)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        answer = json.loads(
            read_line(self._process.stdout.fileno(), 40, f"an answer of {self.owner}") or "null"
        )
        assert answer is not None, f"{self.owner} has ended"
        if "code" in answer:
            raise RefusedError(answer)
        return answer.get("result")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
