"""A machine of its own: systemd as process 1 of new namespaces, on an overlay of this machine's files.

What runs inside sees and changes none of the processes, files, cgroups and settings outside: the overlay's
upper layer is in memory, /proc/sys and /sys are read-only, and neither clock nor modules can be touched. It
has no network but its own loopback. Everything ends with process 1, which dies with whoever started it.

The process that makes one needs mount and network namespaces of its own (`unshare --mount --net`).
"""

import os
import pty
import secrets
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from support import processes
from support.tmp import TempDir
from support.volumes import mount_tmpfs
from support.wait import Deadline

SYSTEMD = "/lib/systemd/systemd"
TOOLS = ("unshare", "nsenter", "setpriv", "pivot_root", "systemctl", "journalctl", "useradd")
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--pid", "--mount", "--uts", "--ipc", "--cgroup")
PROBE = """
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
"""
MASKED = (
    "systemd-udevd.service", "systemd-resolved.service", "systemd-timesyncd.service", "timers.target",
    "systemd-networkd.service", "systemd-logind.service", "dbus.service", "dbus.socket",
    "sys-kernel-debug.mount", "dev-hugepages.mount",
)  # fmt: skip
"""What has no business in there."""

DROP_INS = {
    "journald.conf.d/test.conf": "[Journal]\nStorage=volatile\n",
    "system/user-runtime-dir@.service.d/test.conf": "[Service]\nExecStart=\nExecStop=\n"
    "ExecStart=install --directory --mode=700 --owner=%i /run/user/%i\n",
    "system/user@.service.d/test.conf": "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n",
}
"""Below /etc/systemd: a user's manager does without logind."""

BOOT = """
root=$1 console=$2 address=$3
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
touch "$root/dev/console"
mount --bind "$console" "$root/dev/console"
for name in tmp var/tmp run; do mount -t tmpfs -o mode=1777 tmpfs "$root/$name"; done
chmod 755 "$root/run"
cd "$root"
mkdir -p .before
pivot_root . .before
# shared, as whoever makes a container has to leave it: credentials are mounted by a helper of systemd
exec chroot . sh -euc '
    umount -l /.before
    rmdir /.before
    mount --make-rshared /
    exec env -i container=lxc NOTIFY_SOCKET="$1" \\
        setpriv --bounding-set -sys_time,-sys_module,-sys_boot --inh-caps -sys_time,-sys_module,-sys_boot \\
        /lib/systemd/systemd --unit=basic.target --show-status=no
' sh "$address" <dev/console >dev/console 2>&1
"""


def why_not() -> str | None:
    """Why there can be no such machine here, or None where there can."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=SEARCH) is None]
    if lacking or not Path(SYSTEMD).exists():
        return f"{', '.join(lacking) or SYSTEMD} is missing (apt-get install systemd util-linux passwd)"
    done = subprocess.run(
        ["unshare", *NAMESPACES, "--net", "--fork", "sh", "-ec", PROBE], capture_output=True, text=True,
        check=False, env={"PATH": SEARCH},
    )  # fmt: skip
    if done.returncode != 0:
        return f"no namespaces, or no mounts in them: {done.stderr.strip()}"
    try:
        _cgroup().rmdir()
    except OSError as error:
        return f"no cgroup2 that can be written: {error}"
    return None


def _cgroup() -> Path:
    """A new group below our own in the hierarchy of cgroup2."""
    ours = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"), None
    )
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    points = [point for _, point, kind, *_ in mounts if kind == "cgroup2"]
    if ours is None or not points:
        raise OSError("none is mounted")
    made = Path(points[0], ours.lstrip("/"), f"fetchd-test-{secrets.token_hex(4)}")
    made.mkdir()
    return made


def _remove(group: Path) -> None:
    """Remove a cgroup and all groups below it, in which nobody is left."""
    for directory, _, _ in os.walk(group, topdown=False):
        Path(directory).rmdir()


class Booted:
    """One machine. `root` is its file system, to be filled before `boot`; `close` leaves nothing of it."""

    def __init__(self) -> None:
        self._end = ExitStack()
        ground = self._end.enter_context(TempDir())
        mount_tmpfs(ground, "2g")
        self._end.callback(subprocess.run, ["umount", "-l", str(ground)], check=True)
        upper, work, self.root = ground / "upper", ground / "work", ground / "root"
        for directory in (upper, work, self.root):
            directory.mkdir()
        layers = f"lowerdir=/,upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(self.root)], check=True)
        self._end.callback(subprocess.run, ["umount", "-l", str(self.root)], check=True)
        self._said: list[bytes] = []
        self.init: int | None = None

    def write(self, path: str, text: str) -> None:
        """Put a file there."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)

    def boot(self, timeout: float = 30.0) -> None:
        """Start process 1 and wait until it says that everything it was to start has started."""
        self.write("/etc/machine-id", secrets.token_hex(16) + "\n")
        for name, text in DROP_INS.items():
            self.write(f"/etc/systemd/{name}", text)
        for name in MASKED:
            unit = self.root / "etc/systemd/system" / name
            unit.unlink(missing_ok=True)
            unit.symlink_to("/dev/null")
        group = _cgroup()
        self._end.callback(_remove, group)
        address = f"fetchd-test-{secrets.token_hex(8)}"
        manager = self._end.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(f"\0{address}")
        console = self._console()
        join = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"'
        command = ["sh", "-euc", join, "sh", str(group), "setpriv", "--pdeathsig", "KILL"]
        command += ["unshare", *NAMESPACES, "--fork", "--kill-child"]
        command += ["sh", "-euc", BOOT, "sh", str(self.root), console, f"@{address}"]
        # its words are kept, too: before there is a console, something may be missing
        with (self.root.parent / "words").open("wb") as words:
            keeper = subprocess.Popen(command, env={"PATH": SEARCH}, start_new_session=True, stderr=words)
        self._end.callback(self._power_off, keeper)
        poller = select.poll()
        for fd in (manager.fileno(), gone := os.pidfd_open(keeper.pid)):
            poller.register(fd, select.POLLIN)
        self._end.callback(os.close, gone)
        deadline, said = Deadline(timeout), b""
        while b"READY=1" not in said:
            ready = {fd for fd, _ in poller.poll(deadline.left("systemd to be ready") * 1000)}
            assert gone not in ready, f"systemd has ended:\n{self.console()}"
            said = manager.recv(4096) if ready else b""
        self.init = psutil.Process(keeper.pid).children()[0].pid

    def _console(self) -> str:
        """A terminal for the machine, by its name; what is said on it is kept."""
        terminal, console = pty.openpty()

        def read() -> None:
            with suppress(OSError):  # EIO: nobody has the console open any more
                while piece := os.read(terminal, 4096):
                    self._said.append(piece)
            os.close(terminal)

        thread = threading.Thread(target=read)
        thread.start()
        self._end.callback(thread.join)
        # open as long as the machine: else it could end before somebody speaks on it
        self._end.callback(os.close, console)
        return os.ttyname(console)

    def _power_off(self, keeper: "subprocess.Popen[bytes]") -> None:
        """Kill process 1: the kernel kills all others of its namespace, and they are gone before it is."""
        processes.kill(processes.descendants(keeper.pid))
        keeper.wait(20)

    def console(self) -> str:
        """What was said on the way to process 1, and on the console."""
        words = (self.root.parent / "words").read_bytes()
        return (words + b"".join(self._said)).decode(errors="replace")

    def command(self, *arguments: str, user: str | None = None) -> list[str]:
        """The command line that runs a command inside, as root or as a user with their groups."""
        inside = ["nsenter", "--target", str(self.init)]
        inside += [*NAMESPACES, "--root", "--wd"]
        if user is not None:
            inside += ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env"]
        return [*inside, "env", f"PATH={SEARCH}", *arguments]

    def run(
        self, *arguments: str, user: str | None = None, code: int | None = 0, timeout: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end; fails where it ends with another exit code (None: any will do)."""
        done = subprocess.run(
            self.command(*arguments, user=user), capture_output=True, text=True, timeout=timeout, check=False,
            env={"PATH": SEARCH}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert code is None or done.returncode == code, said
        return done

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        shown: Sequence[str] = self.run("systemctl", "show", unit, "-p", ",".join(names)).stdout.splitlines()
        return dict(line.partition("=")[::2] for line in shown)

    def close(self) -> None:
        """End everything in it, and take it apart."""
        self._end.close()
