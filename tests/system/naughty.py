"""A transfer that is out for mischief: installed as a plug-in, it runs in a real worker.

`mischief://tries/NAME?JSON` makes every try of `TRIES` that is named under `tries`, and delivers a file with
what came of each: `done`, or the name of an error number. Others (`DEEDS`) are done once and are answered by
the supervisor. The JSON, quoted, says what to aim at.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from fetchd.daemon.sandbox.kernel import prctl, syscall
from fetchd.daemon.sandbox.syscalls import AARCH64, X86_64
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
)

NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}[os.uname().machine]

TRIES: dict[str, Callable[["Aim"], object]] = {}
DEEDS: dict[str, Callable[["Aim"], object]] = {}
kept: list[Any] = []
"""What is held on to after an attempt is over."""


class Aim:
    """What there is to aim at: paths and numbers of the house, and the attempt itself."""

    def __init__(self, context: Context, aims: dict[str, Any]) -> None:
        self.context: Any = context
        self.task = context.task
        self.aims = aims
        self.supervisor: int = aims["supervisor"]
        self.data = os.path.join(context.task.workspace, "data")

    def __getitem__(self, name: str) -> str:
        return str(self.aims[name])

    @property
    def worker(self) -> Any:
        """The worker's loop, with its mailbox."""
        return self.context._send.__self__


def a_try(function: Callable[[Aim], object]) -> Callable[[Aim], object]:
    TRIES[function.__name__] = function
    return function


def a_deed(function: Callable[[Aim], object]) -> Callable[[Aim], object]:
    DEEDS[function.__name__] = function
    return function


def call(name: str, *arguments: object) -> int:
    """A system call by name; ENOSYS where this machine has none of the name."""
    if name not in NUMBERS:
        raise OSError(errno.ENOSYS, name)
    return syscall(NUMBERS[name], *arguments)


def in_child(start: Callable[[], int]) -> None:
    """Something that makes a process: the child ends at once."""
    pid = start()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(16)


# reading

for name, target in {
    "read_database": "database", "read_secrets": "secrets", "read_other_job": "other", "read_published": "published",
    "read_private_file": "private",
}.items():  # fmt: skip
    TRIES[name] = lambda aim, target=target: read(aim[target])
for name, target in {"list_home": "home", "list_state": "state", "list_other_room": "other_room",
                     "list_destination": "destination", "list_runtime": "runtime"}.items():  # fmt: skip
    TRIES[name] = lambda aim, target=target: os.listdir(aim[target])
for name in ("environ", "mem", "maps"):
    TRIES[f"read_supervisor_{name}"] = lambda aim, name=name: read(f"/proc/{aim.supervisor}/{name}")
TRIES["list_supervisor_fd"] = lambda aim: os.listdir(f"/proc/{aim.supervisor}/fd")
TRIES["link_of_supervisor_fd"] = lambda aim: os.readlink(f"/proc/{aim.supervisor}/fd/0")
TRIES["read_shadow"] = lambda _: read("/etc/shadow")
TRIES["read_own_environ"] = lambda _: read("/proc/self/environ")
TRIES["write_own_memory"] = lambda _: os.close(os.open("/proc/self/mem", os.O_RDWR))
TRIES["list_devices"] = lambda _: os.listdir("/dev")
TRIES["stat_database"] = lambda aim: os.stat(aim["database"])
TRIES["watch_state"] = lambda aim: call(
    "inotify_add_watch", call("inotify_init1", 0), os.fsencode(aim["state"]), 0x100
)

# changing files


@a_try
def write_database(aim: Aim) -> None:
    os.close(os.open(aim["database"], os.O_WRONLY))


@a_try
def write_published(aim: Aim) -> None:
    os.close(os.open(aim["published"], os.O_WRONLY))


TRIES["make_in_destination"] = lambda aim: os.open(aim["destination"] + "/evil", os.O_CREAT | os.O_WRONLY)
TRIES["make_in_room"] = lambda aim: os.open(aim.task.workspace + "/evil", os.O_CREAT | os.O_WRONLY)
TRIES["make_unnamed"] = lambda aim: os.open(aim.task.workspace, os.O_TMPFILE | os.O_WRONLY, 0o600)
TRIES["make_in_shm"] = lambda _: os.open("/dev/shm/evil", os.O_CREAT | os.O_WRONLY)
TRIES["mkdir_in_room"] = lambda aim: os.mkdir(aim.task.workspace + "/evil")
TRIES["mkdir_outside"] = lambda aim: os.mkdir(aim["destination"] + "/evil")
TRIES["mknod_in_room"] = lambda aim: os.mknod(aim.task.workspace + "/evil", stat.S_IFREG | 0o600)
TRIES["mkfifo_in_room"] = lambda aim: os.mkfifo(aim.task.workspace + "/evil")
TRIES["symlink_in_room"] = lambda aim: os.symlink(aim["database"], aim.task.workspace + "/evil")
TRIES["link_in_room"] = lambda aim: os.link(aim.data, aim.task.workspace + "/evil")
TRIES["link_to_destination"] = lambda aim: os.link(aim.data, aim["destination"] + "/evil")
TRIES["rename_in_room"] = lambda aim: os.rename(aim.data, aim.task.workspace + "/evil")
TRIES["rename_to_destination"] = lambda aim: os.rename(aim.data, aim["destination"] + "/evil")
TRIES["unlink_in_room"] = lambda aim: os.unlink(aim.data)
TRIES["unlink_published"] = lambda aim: os.unlink(aim["published"])
TRIES["unlink_database"] = lambda aim: os.unlink(aim["database"])
TRIES["rmdir_workspace"] = lambda aim: os.rename(aim.task.workspace, aim.task.workspace + "x")
TRIES["truncate_database"] = lambda aim: os.truncate(aim["database"], 0)
TRIES["truncate_by_open"] = lambda aim: os.open(aim["database"], os.O_WRONLY | os.O_TRUNC)
TRIES["chmod_published"] = lambda aim: os.chmod(aim["published"], 0o777)
TRIES["chmod_database"] = lambda aim: os.chmod(aim["database"], 0o666)
TRIES["chmod_own_file"] = lambda aim: os.fchmod(aim.context.sink.fd, 0o4777)
TRIES["chown_published"] = lambda aim: os.chown(aim["published"], os.getuid(), os.getgid())
TRIES["utime_published"] = lambda aim: os.utime(aim["published"], (1, 1))
TRIES["xattr_published"] = lambda aim: os.setxattr(aim["published"], "user.evil", b"1")
TRIES["xattr_database"] = lambda aim: os.setxattr(aim["database"], "user.evil", b"1")
TRIES["handle_of_database"] = lambda aim: call(
    "name_to_handle_at", -100, os.fsencode(aim["database"]), None, None, 0
)
TRIES["open_by_handle"] = lambda _: call("open_by_handle_at", -100, None, 0)
TRIES["empty_the_log"] = lambda _: os.ftruncate(2, 0)

# programs and processes

TRIES["run_a_program"] = lambda _: subprocess.run(["/bin/true"], check=True)
TRIES["exec"] = lambda _: os.execv("/nowhere", ["x"])
TRIES["fork"] = lambda _: in_child(os.fork)
TRIES["vfork"] = lambda _: in_child(lambda: call("vfork"))
TRIES["clone"] = lambda _: in_child(lambda: call("clone", signal.SIGCHLD, 0, 0, 0, 0))
TRIES["clone3"] = lambda _: call("clone3", None, 0)
TRIES["setns"] = lambda _: call("setns", 0, 0)
TRIES["unshare"] = lambda _: call("unshare", 0x10000000)
TRIES["pidfd_open"] = lambda aim: os.pidfd_open(aim.supervisor)
TRIES["pidfd_getfd"] = lambda _: call("pidfd_getfd", 0, 0, 0)
TRIES["pidfd_signal"] = lambda _: call("pidfd_send_signal", 0, 0, None, 0)
TRIES["kill_supervisor"] = lambda aim: os.kill(aim.supervisor, 0)
TRIES["kill_own_group"] = lambda _: os.kill(0, 0)
TRIES["kill_everybody"] = lambda _: os.kill(-1, 0)
TRIES["kill_parent"] = lambda _: os.kill(os.getppid(), 0)
TRIES["tgkill_supervisor"] = lambda aim: call("tgkill", aim.supervisor, aim.supervisor, 0)
TRIES["queue_a_signal"] = lambda aim: call("rt_sigqueueinfo", aim.supervisor, 0, None)
TRIES["limit_supervisor"] = lambda aim: resource.prlimit(aim.supervisor, resource.RLIMIT_NOFILE)
TRIES["bind_supervisor_to_a_processor"] = lambda aim: os.sched_setaffinity(aim.supervisor, {0})
TRIES["nice_of_supervisor"] = lambda aim: os.setpriority(os.PRIO_PROCESS, aim.supervisor, 19)
TRIES["scheduling_of_supervisor"] = lambda aim: os.sched_setscheduler(
    aim.supervisor, os.SCHED_OTHER, os.sched_param(0)
)
TRIES["outlive_the_supervisor"] = lambda _: prctl(1, 0)
TRIES["hide_from_the_watch"] = lambda _: prctl(4, 0)
TRIES["raise_own_limits"] = lambda _: resource.setrlimit(
    resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
)


@a_try
def signals_by_fcntl(aim: Aim) -> None:
    fcntl.fcntl(aim.context.sink.fd, fcntl.F_SETOWN, aim.supervisor)


@a_try
def signals_by_ioctl(aim: Aim) -> None:
    with socket.socket() as one:
        fcntl.ioctl(one, 0x8901, aim.supervisor.to_bytes(4, "little"))  # FIOSETOWN


@a_try
def lease_on_own_file(aim: Aim) -> None:
    fcntl.fcntl(aim.context.sink.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)


# sockets

for family in ("AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_VSOCK"):
    TRIES[f"socket_{family}"] = lambda _, family=family: socket.socket(getattr(socket, family)).close()


def tcp(port: int, *, protocol: int = 0, fast: bool = False) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as one:
        if fast:
            one.sendto(b"GET", socket.MSG_FASTOPEN, ("127.0.0.1", port))
        else:
            one.connect(("127.0.0.1", port))


TRIES["raw_socket"] = lambda _: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
TRIES["ping_socket"] = lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)
TRIES["mptcp_socket"] = lambda aim: tcp(aim.aims["port"], protocol=262)
TRIES["tcp_fast_open"] = lambda aim: tcp(aim.aims["port"], fast=True)
TRIES["socket_pair"] = lambda _: socket.socketpair()


@a_try
def bind_tcp(_: Aim) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


@a_try
def listen_unbound(_: Aim) -> None:
    with socket.socket() as one:
        one.listen()


@a_try
def turn_the_mailbox(aim: Aim) -> None:
    """The one socket with a path that is left: to the control socket with it."""
    for fd in range(3, 256):
        try:
            one = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with one:
            if one.family == socket.AF_UNIX:
                one.connect(aim["control"])
                return
    raise OSError(errno.ENOTSOCK, "no socket with a path")


@a_try
def udp_send(_: Aim) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", 9))


@a_try
def tcp_connect(aim: Aim) -> None:
    tcp(aim.aims["port"])


# the kernel

TRIES["mount"] = lambda _: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
TRIES["new_mount_api"] = lambda _: call("fsopen", b"tmpfs", 0)
TRIES["chroot"] = lambda _: os.chroot("/")
TRIES["pivot_root"] = lambda _: call("pivot_root", b"/", b"/")
for name in (
    "io_uring_setup", "userfaultfd", "perf_event_open", "keyctl", "memfd_create", "shmget", "mq_open",
    "add_key", "fanotify_init", "init_module", "reboot", "swapon", "settimeofday", "sethostname", "syslog",
    "setuid", "setgroups", "process_madvise", "kcmp",
):  # fmt: skip
    TRIES[name] = lambda _, name=name: call(name, 0, 0, 0, 0, 0, 0)
TRIES["personality"] = lambda _: call("personality", 0xFFFFFFFF)

# taking too much


@a_try
def memory_without_end(_: Aim) -> None:
    try:
        mmap.mmap(-1, 2 << 30).close()
    except MemoryError:
        raise OSError(errno.ENOMEM, "memory") from None


@a_try
def descriptors_without_end(_: Aim) -> None:
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(0))
    finally:
        for fd in taken:
            os.close(fd)


TRIES["larger_than_max_size"] = lambda aim: os.pwrite(aim.context.sink.fd, b"x", 1 << 40)
TRIES["more_than_the_disk"] = lambda aim: os.posix_fallocate(aim.context.sink.fd, 0, 1 << 60)
TRIES["lock_memory"] = lambda _: (lambda libc: libc.mlockall(3) and _raise(ctypes.get_errno()))(
    ctypes.CDLL(None, use_errno=True)
)


def _raise(number: int) -> None:
    raise OSError(number, os.strerror(number))


# what ends the process (seccomp kills), or is for the supervisor to judge

DEEDS["ptrace"] = lambda aim: call("ptrace", 16, aim.supervisor, 0, 0)
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
def close_the_mailbox(aim: Aim) -> None:
    aim.worker._say = lambda _report: aim.worker._socket.close(0)
    report(Progressed, aim, bytes=0, total=None, speed=None)
    threading.Event().wait()


@a_deed
def say_nothing(aim: Aim) -> None:
    aim.worker._say = lambda _report: None
    threading.Event().wait()


@a_deed
def spin(_: Aim) -> None:
    while True:
        pass


@a_deed
def endless_frames(aim: Aim) -> None:
    """One message that never ends, written past the library, straight into the mailbox's socket."""
    import gc

    gc.disable()
    for fd in range(3, 256):
        try:
            one = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if one.family != socket.AF_UNIX:
            one.close()
            continue
        one.setblocking(True)
        piece = b"\x03" + (60_000).to_bytes(8, "big") + bytes(60_000)
        while True:
            one.sendall(piece)


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
