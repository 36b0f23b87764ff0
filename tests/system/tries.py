"""What a transfer that is out for mischief tries: with `deeds` it is installed as one plug-in.

`mischief://tries/NAME?JSON` makes every try of `TRIES` that is named under `tries`, and delivers a file with
what came of each: `done`, or the name of an error number. Others (`DEEDS`) are done once and are answered by
the supervisor. The JSON, quoted, says what to aim at.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from typing import Any

from fetchd.daemon.sandbox.kernel import prctl, syscall
from fetchd.daemon.sandbox.syscalls import AARCH64, X86_64
from fetchd.daemon.transfer.api import Context

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
    "read_database": "database", "read_secrets": "secrets", "read_other_job": "other",
    "read_published": "published", "read_private_file": "private",
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
    aim.supervisor, os.SCHED_IDLE, os.sched_param(0)
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

TRIES["mount"] = lambda _: call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
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
        while len(taken) < 1000:
            taken.append(os.dup(0))
    finally:
        for fd in taken:
            os.close(fd)


@a_try
def lock_memory(_: Aim) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(3) != 0:
        _raise(ctypes.get_errno())


def _raise(number: int) -> None:
    raise OSError(number, os.strerror(number))
