"""seccomp (seccomp(2)): system calls that a process cannot make any more, by a filter in the kernel.

What is refused answers EPERM, so that a library that tries it goes on without; what no library has any
business with ends the process. The filter holds for all threads (TSYNC). It compares numbers and never looks
into memory: a path or an address in a call cannot be judged here; Landlock is for paths.
"""

import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

from .kernel import LayerError, syscall
from .syscalls import AARCH64, X86_64

SET_MODE_FILTER, GET_ACTION_AVAIL, TSYNC = 1, 2, 1
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, EQUAL, GREATER_EQUAL, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16
X32 = 0x40000000

MACHINES = {"x86_64": (0xC000003E, 317, X86_64), "aarch64": (0xC00000B7, 277, AARCH64)}
"""By machine: what the kernel calls it (audit.h), the number of seccomp(2), the table of numbers."""

CLONE_THREAD = 0x00010000
TMPFILE = 0o20000000
"""O_TMPFILE without O_DIRECTORY, of which it is a part."""

FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX = 0x8901, 0x8902, 0x5412, 0x541C
MSG_FASTOPEN = 0x20000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_MM, PR_SET_PTRACER = 1, 4, 35, 0x59616D61
F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY = 8, 10, 15, 1024, 1026
SOCK_TYPE = 0xF

KILLED = ("ptrace", "process_vm_readv", "process_vm_writev", "bpf", "kexec_load", "kexec_file_load")

REFUSED = (
    # other programs and processes
    "execve", "execveat", "fork", "vfork", "setns", "unshare", "pidfd_open", "pidfd_getfd",
    "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "kcmp", "process_madvise",
    "process_mrelease", "move_pages", "migrate_pages", "setpriority", "ioprio_set", "sched_setaffinity",
    "mbind", "set_mempolicy", "setrlimit", "sched_setattr",
    # who we are
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid",
    "setgroups", "personality",
    # what files are, which Landlock does not govern
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr",
    "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr",
    "removexattrat", "utime", "utimes", "futimesat", "utimensat", "link", "linkat", "symlink",
    "symlinkat", "mknod", "mknodat", "truncate", "name_to_handle_at", "open_by_handle_at",
    # it tells what happens in directories that cannot be read
    "inotify_init", "inotify_init1", "inotify_add_watch",
    # file systems and the machine
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "quotactl", "quotactl_fd", "swapon", "swapoff", "reboot",
    "acct", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime",
    "adjtimex", "iopl", "ioperm", "init_module", "finit_module", "delete_module", "lookup_dcookie",
    # large parts of the kernel that a client of the network does not need
    "io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "userfaultfd",
    "perf_event_open", "fanotify_init", "add_key", "request_key", "keyctl", "memfd_create",
    "memfd_secret", "vmsplice", "shmget", "shmat", "semget", "msgget", "mq_open", "mq_unlink",
    # servers, and sockets that are no way to a server of others
    "bind", "listen", "accept", "accept4", "socketpair",
)  # fmt: skip
"""Not `sched_setscheduler`: libzmq aborts where its threads may not be given the class that they have."""

UNKNOWN = ("clone3", "openat2")
"""What they ask for lies in memory. Who gets ENOSYS takes the kernel for an older one, and an older call."""


class Check(NamedTuple):
    """An argument, masked: one of `allowed`, none of `denied`, or with this `bit`; else it is refused."""

    call: str
    argument: int
    allowed: tuple[int, ...] = ()
    mask: int = 0xFFFFFFFF
    bit: int = 0
    denied: tuple[int, ...] = ()


def checks(pid: int) -> tuple[Check, ...]:
    """What depends on arguments: threads but no processes, sockets of the internet, signals to ourselves."""
    return (
        Check("clone", 0, bit=CLONE_THREAD),
        Check("socket", 0, (socket.AF_INET, socket.AF_INET6)),
        Check("socket", 1, (socket.SOCK_STREAM, socket.SOCK_DGRAM), mask=SOCK_TYPE),
        # Landlock governs TCP: neither MPTCP, nor a connection that begins with its data
        Check("socket", 2, (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)),
        Check("sendto", 3, mask=MSG_FASTOPEN, denied=(MSG_FASTOPEN,)),
        Check("sendmsg", 2, mask=MSG_FASTOPEN, denied=(MSG_FASTOPEN,)),
        Check("sendmmsg", 3, mask=MSG_FASTOPEN, denied=(MSG_FASTOPEN,)),
        # nor does it govern files without a name
        Check("open", 1, mask=TMPFILE, denied=(TMPFILE,)),
        Check("openat", 2, mask=TMPFILE, denied=(TMPFILE,)),
        Check("kill", 0, (pid,)),
        Check("tgkill", 0, (pid,)),
        Check("tkill", 0, ()),
        Check("prlimit64", 0, (0, pid)),
        # its first argument may be a thread of ours, or not: the usual class does nobody harm
        Check("sched_setscheduler", 1, (os.SCHED_OTHER,)),
        # it goes on dying with its parent, and being seen
        Check("prctl", 0, denied=(PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_MM, PR_SET_PTRACER)),
        Check("ioctl", 1, denied=(FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX)),
        Check("fcntl", 1, denied=(F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY)),
    )


def available() -> None:
    """`LayerError` where there is no seccomp, or no table for this machine."""
    machine = os.uname().machine
    if machine not in MACHINES:
        raise LayerError(f"no table for {machine}")
    try:
        # the newest that the filter needs: it is there since Linux 4.14
        syscall(MACHINES[machine][1], GET_ACTION_AVAIL, 0, ctypes.byref(ctypes.c_uint32(KILL_PROCESS)))
    except OSError as error:
        raise LayerError(str(error.strerror)) from None


def install() -> None:
    """Put the filter in force for all threads of this process; no_new_privs has to be set."""
    available()
    architecture, number, table = MACHINES[os.uname().machine]
    program = assemble(architecture, table, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    length = len(program) // 8
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", length, ctypes.addressof(buffer)))
    try:
        stuck = syscall(number, SET_MODE_FILTER, TSYNC, described)
    except OSError as error:
        raise LayerError(str(error.strerror)) from None
    if stuck:
        raise LayerError(f"thread {stuck} cannot be held to it")


def assemble(architecture: int, table: dict[str, int], pid: int) -> bytes:
    """The program (classic BPF): a block for each call, which falls through where it is another one."""
    refuse = ERRNO | errno.EPERM
    code = [
        _load(AT_ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        _load(AT_NUMBER),
        (GREATER_EQUAL, 0, 1, X32),
        (RETURN, 0, 0, KILL_PROCESS),
    ]
    for names, verdict in ((KILLED, KILL_PROCESS), (REFUSED, refuse), (UNKNOWN, ERRNO | errno.ENOSYS)):
        for name in names:
            if name in table:
                code += [(EQUAL, 0, 1, table[name]), (RETURN, 0, 0, verdict)]
    for check in checks(pid):
        if check.call in table:
            block = _judge(check, refuse)
            code += [(EQUAL, 0, len(block), table[check.call]), *block]
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *one) for one in code)


def _judge(check: Check, refuse: int) -> list[tuple[int, int, int, int]]:
    """Look at the low 32 bits of an argument; afterwards the number of the call is loaded again."""
    block = [_load(AT_ARGUMENTS + 8 * check.argument), (AND, 0, 0, check.mask)]
    if check.bit:
        block += [(ANY_BIT, 1, 0, check.bit), (RETURN, 0, 0, refuse)]
    elif check.denied:
        block += [one for value in check.denied for one in ((EQUAL, 0, 1, value), (RETURN, 0, 0, refuse))]
    else:
        block += [(EQUAL, len(check.allowed) - at, 0, value) for at, value in enumerate(check.allowed)]
        block.append((RETURN, 0, 0, refuse))
    return [*block, _load(AT_NUMBER)]


def _load(offset: int) -> tuple[int, int, int, int]:
    return (LOAD, 0, 0, offset)
