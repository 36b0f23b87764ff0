"""The deeds of a transfer that is out for mischief, which end its worker or are judged outside it.

Joined to `tries`, and installed as one module.
"""

import contextlib
import errno
import json
import mmap
import os
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from fetchd.daemon.transfer.api import Context, Transfer
from fetchd.protocol.mailbox import (
    Failed,
    Finished,
    Locked,
    NotModified,
    Progressed,
    Restart,
    Stopped,
    Synced,
    Validator,
)  # fmt: skip

from .tries import DEEDS, TRIES, Aim, a_deed, call, kept

# what ends the process (seccomp kills), or is for the supervisor to judge

DEEDS["ptrace"] = lambda aim: call("ptrace", 0x4206, aim.supervisor, 0, 0)  # PTRACE_SEIZE, which stops nobody
DEEDS["process_vm_readv"] = lambda aim: call("process_vm_readv", aim.supervisor, None, 0, None, 0, 0)
DEEDS["process_vm_writev"] = lambda aim: call("process_vm_writev", aim.supervisor, None, 0, None, 0, 0)
DEEDS["bpf"] = lambda _: call("bpf", 0, None, 0)
DEEDS["kexec_load"] = lambda _: call("kexec_load", 0, 0, None, 0)


@a_deed
def keep_a_descriptor(aim: Aim) -> None:
    kept.append(os.open(aim.data, os.O_RDWR))


@a_deed
def keep_a_mapping(aim: Aim) -> None:
    fd = os.open(aim.data, os.O_RDWR)
    os.ftruncate(fd, 5)
    kept.append(mmap.mmap(fd, 5))
    os.close(fd)


@a_deed
def lie_about_the_size(aim: Aim) -> None:
    os.ftruncate(aim.context.sink.fd, 0)


def report(kind: type, aim: Aim, **fields: Any) -> None:
    aim.context._send(kind(**{"job": aim.task.job, "attempt": aim.task.attempt} | fields))


@a_deed
def forge_a_report_of_another_job(aim: Aim) -> None:
    report(Finished, aim, job=aim["other_job"], attempt=1, size=0)


@a_deed
def report_another_attempt(aim: Aim) -> None:
    report(Progressed, aim, attempt=99, bytes=0, total=None, speed=None)


DEEDS["finish_twice"] = lambda aim: [report(Finished, aim, size=0) for _ in range(2)]
DEEDS["stopped_unasked"] = lambda aim: report(Stopped, aim, bytes=0)
DEEDS["not_modified_unasked"] = lambda aim: report(NotModified, aim)
DEEDS["restart_of_another_generation"] = lambda aim: report(Restart, aim, generation=77, why="")
DEEDS["ranges_that_cannot_be"] = lambda aim: report(
    Synced, aim, generation=aim.task.generation, ranges=[(5, 2), (1, 9)]
)
DEEDS["no_such_code"] = lambda aim: report(Failed, aim, code="evil", message="x" * 2000, bytes=0)
DEEDS["respond_twice"] = lambda aim: aim.context.responded(
    status=200, url=aim.task.url, total=5, kept=0, validator=Validator(), disposition=None
)


@a_deed
def warn_without_end(aim: Aim) -> None:
    for number in range(1000):
        aim.context.warn("evil", f"{number}")


def frames(aim: Aim, *sent: bytes) -> None:
    """Let the loop of the worker, which has the socket, send this."""
    aim.worker._say = lambda _report: aim.worker._socket.send_multipart(sent)
    report(Progressed, aim, bytes=0, total=None, speed=None)
    threading.Event().wait()


DEEDS["lock_again"] = lambda aim: aim.context._send(Locked(layers={}))
DEEDS["two_frames"] = lambda aim: frames(aim, b"a", b"b")
DEEDS["no_message"] = lambda aim: frames(aim, b"\xc1 is nothing")
DEEDS["huge_message"] = lambda aim: frames(aim, b"x" * (32 << 20))


@a_deed
def frames_without_end(aim: Aim) -> None:
    """Of a message that always has another one. Not by the library, which would wait for the last."""

    def flood(_report: object) -> None:
        mailbox = connection()
        context = aim.worker._socket.context
        aim.worker._socket.close()
        context.term()  # all that was said before is on its way
        while True:
            mailbox.sendall((b"\1\x64" + b"x" * 100) * 1000)  # more, 100 bytes (ZMTP 3.1, RFC 37)

    aim.worker._say = flood
    report(Progressed, aim, bytes=0, total=None, speed=None)
    threading.Event().wait()


def connection() -> socket.socket:
    """What the library speaks to the supervisor through, held open by another descriptor."""
    for fd in range(256):
        with contextlib.suppress(OSError):
            found = socket.socket(fileno=os.dup(fd))
            if found.family == socket.AF_UNIX and found.getpeername():
                found.setblocking(True)
                return found
            found.close()
    raise AssertionError("there is none")


@a_deed
def close_the_mailbox(aim: Aim) -> None:
    aim.worker._say = lambda _report: aim.worker._socket.close(0)
    report(Progressed, aim, bytes=0, total=None, speed=None)
    threading.Event().wait()


class Naughty(Transfer):
    """Does what the URL says."""

    def run(self, context: Context) -> int:
        parts = urlsplit(context.task.url)
        aim = Aim(context, json.loads(unquote(parts.query)))
        validator = Validator(etag='"mischief"')
        context.responded(
            status=200, url=context.task.url, total=None, kept=0, validator=validator, disposition=None
        )
        context.sink.begin(validator, None, context.task.generation, ())
        content = b"12345"
        if parts.hostname == "tries":
            outcomes = {name: outcome(TRIES[name], aim) for name in aim.aims["tries"]}
            content = json.dumps(outcomes).encode()
        context.sink.stripe(self).write(content)
        if parts.hostname == "deed":
            DEEDS[aim["deed"]](aim)
        return len(content)

    def close(self) -> None:
        pass


def outcome(attempt: Callable[[Aim], object], aim: Aim) -> str:
    """What came of it."""
    try:
        attempt(aim)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"
