"""The helper pool and the children: in order for each key, long work beside short, no orphans."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import processes
from support.wait import Watch, process_exit, read_line, readable

from fetchd.daemon.service import lock as locks
from fetchd.daemon.service.lock import LockedError, StateLock, start_time
from fetchd.daemon.supervise.helpers import LONG, THREADS, Helpers


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    made = Helpers()
    yield made
    made.close()


def take(helpers: Helpers, done: Callable[[], bool]) -> None:
    while not done():
        readable(helpers.wake, 10)
        helpers.take()


def test_calls_of_one_key_run_in_order(helpers: Helpers) -> None:
    """And never at the same time, also where some are long."""
    ran: list[tuple[str, int]] = []
    running: dict[str, int] = {}
    overlaps: list[str] = []
    heard: list[tuple[str, int]] = []

    def work(key: str, number: int) -> None:
        running[key] = running.get(key, 0) + 1
        if running[key] > 1:
            overlaps.append(key)
        ran.append((key, number))
        running[key] -= 1

    for number in range(100):
        for key in ("a", "b", "c"):
            helpers.run(
                key,
                lambda key=key, number=number: work(key, number),  # type: ignore[misc]
                lambda _none, _error, key=key, number=number: heard.append((key, number)),  # type: ignore[misc]
                long=number % 3 == 0,
            )
    assert not helpers.idle()
    take(helpers, helpers.idle)
    for key in ("a", "b", "c"):
        assert [number for k, number in ran if k == key] == list(range(100))
        assert [number for k, number in heard if k == key] == list(range(100))
    assert overlaps == []


def test_errors_are_delivered_and_the_next_call_runs(helpers: Helpers) -> None:
    heard: list[object] = []

    def fail() -> None:
        raise OSError(5, "broken")

    helpers.run("k", fail, lambda _none, error: heard.append(str(error)))
    helpers.run("k", lambda: 7, lambda result, error: heard.append((result, error)))
    take(helpers, lambda: len(heard) == 2)
    assert heard == ["[Errno 5] broken", (7, None)]


def test_a_continuation_that_raises_does_not_hold_up_the_others(helpers: Helpers) -> None:
    heard: list[int] = []
    done = [threading.Event() for _ in range(3)]

    def then(result: int, _error: BaseException | None) -> None:
        heard.append(result)
        raise RuntimeError("a fault of ours")

    for number in range(3):
        helpers.run(f"k{number}", lambda number=number: (done[number].set(), number)[1], then)  # type: ignore[misc, func-returns-value]
    for event in done:
        assert event.wait(10)
    while len(heard) < 3:
        readable(helpers.wake, 10)
        with pytest.raises(RuntimeError):
            helpers.take()
    assert sorted(heard) == [0, 1, 2]
    assert helpers.idle()


def test_long_work_does_not_delay_what_is_short(helpers: Helpers) -> None:
    """Copies of whole films must not keep a worker from starting."""
    gate = threading.Event()
    for number in range(2 * (LONG + THREADS)):
        helpers.run(f"copy {number}", gate.wait, lambda _result, _error: None, long=True)
    started: list[object] = []
    helpers.run("spawn", lambda: "worker", lambda result, _error: started.append(result))
    take(helpers, lambda: bool(started))
    assert started == ["worker"]
    gate.set()
    take(helpers, helpers.idle)


def test_closing_waits_for_what_runs_and_drops_the_rest() -> None:
    helpers = Helpers()
    began, go_on = threading.Event(), threading.Event()
    ran: list[int] = []

    def slow() -> None:
        began.set()
        go_on.wait(10)
        ran.append(0)

    helpers.run("k", slow, lambda _result, _error: None)
    helpers.run("k", lambda: ran.append(1), lambda _result, _error: None)
    assert began.wait(10)
    closing = threading.Thread(target=helpers.close)
    closing.start()
    go_on.set()
    closing.join(10)
    assert ran == [0]


# children

SUPERVISOR = """
import os, sys, signal
from pathlib import Path
from fetchd.daemon.service.lock import StateLock
from fetchd.daemon.supervise.spawn import Spawner
from tests_child import NAME

state = Path(sys.argv[1])
extra = os.open("/dev/zero", os.O_RDONLY)
os.set_inheritable(extra, True)
lock = StateLock(state)
spawner = Spawner(lock, [])
child = spawner.spawn(NAME, lambda parent: (parent, str(lock.workers_file)))
print(os.getpid(), child.server, child.pid, flush=True)
for line in sys.stdin:
    match line.strip():
        case "kill":
            child.kill()
        case "reap":
            print(spawner.healthy(child.server), child.reap(), flush=True)
        case "again":
            child = spawner.spawn(NAME, lambda parent: (parent, str(lock.workers_file)))
            print(os.getpid(), child.server, child.pid, flush=True)
        case "end":
            break
spawner.stop()
"""

CHILD = """
import os, sys
NAME = "tests_child"

def main(parent, lock):
    from pathlib import Path
    from fetchd.daemon.service import child
    child.settle(parent, Path(lock), "fetchd-test")
    mine = sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                  and os.path.exists(f"/proc/self/fd/{fd}"))
    Path(lock).with_name("descriptors").write_text(repr(mine))
    import signal
    while True:
        signal.pause()
"""


class Family:
    """A supervisor with one child, in processes of their own."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        (directory / "tests_child.py").write_text(CHILD)
        path = os.pathsep.join([str(directory), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(self.state)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self.pid, self.server, self.child = map(int, self.hear().split())

    def hear(self) -> str:
        assert self.process.stdout is not None
        return read_line(self.process.stdout.fileno(), 20).decode().strip()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        processes.await_end({self.server, self.child}, 5)


@pytest.fixture
def family(downloads: Path) -> Iterator[Family]:
    made = Family(downloads)
    yield made
    made.close()


def settled(family: Family) -> str:
    path = family.state / "descriptors"
    with Watch(family.state) as watch:
        watch.until(lambda: path.exists() and path.read_text() != "", 10)
    return path.read_text()


def test_children_die_with_their_supervisor(family: Family) -> None:
    os.kill(family.pid, signal.SIGKILL)
    process_exit(family.server, 5)
    process_exit(family.child, 5)


def test_children_die_with_the_fork_server_and_another_one_is_started(family: Family) -> None:
    """And the child that died with the old one is told apart from one that died by itself."""
    os.kill(family.server, signal.SIGKILL)
    process_exit(family.child, 5)
    first = family.child
    family.tell("reap")
    assert family.hear().split()[0] == "False"
    family.tell("again")
    _, server, child = map(int, family.hear().split())
    assert server != family.server
    assert child != first
    family.server, family.child = server, child
    family.tell("kill")
    process_exit(child, 5)
    family.tell("reap")
    assert family.hear() == "True signal SIGKILL"


def test_a_supervisor_that_is_terminated_by_a_terminal(family: Family) -> None:
    """The children leave it to the supervisor when they end."""
    settled(family)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(family.child, number)
    family.tell("kill")
    process_exit(family.child, 5)
    family.tell("reap")
    assert family.hear() == "True signal SIGKILL"


def test_a_child_has_no_descriptor_but_its_lock(family: Family) -> None:
    assert settled(family) == repr([str(family.state / "workers.lock")])


def test_a_starting_daemon_waits_until_all_children_are_gone(family: Family) -> None:
    """It ends those that an earlier one has recorded; the state is its own only then."""
    settled(family)
    with pytest.raises(LockedError, match="another daemon"):
        StateLock(family.state)
    # a supervisor that is gone without its children: they are stopped, and have not noticed
    os.kill(family.server, signal.SIGSTOP)
    os.kill(family.child, signal.SIGSTOP)
    family.process.kill()
    family.process.wait()
    lock = StateLock(family.state)
    lock.outlive_children(10)
    assert not processes.is_alive(family.child)
    assert not lock.pids_file.exists()
    lock.close()


ENDED = """
import multiprocessing
from fetchd.daemon.supervise.spawn import Child
process = multiprocessing.get_context("forkserver").Process(target=int)
process.start()
process.join()
child = Child(process, 0)
child.kill()
print(child.reap())
"""


def test_a_child_that_has_ended_before_it_was_looked_at() -> None:
    """A short task of a helper is done by then: that is no fault."""
    command = [sys.executable, "-c", ENDED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("exit status 0\n", "")


def test_children_that_cannot_be_ended(downloads: Path) -> None:
    lock = StateLock(downloads)
    script = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH); print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(lock.workers_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        read_line(process.stdout.fileno(), 10)
        with pytest.raises(LockedError, match="still running"):
            lock.outlive_children(0.2)
        assert process.stdin is not None
        process.stdin.close()
    lock.close()


@pytest.mark.parametrize(
    "record",
    [
        "0 0",
        "0 {mine}",
        "{gone} 0",
        "{me} 1",
        "-1 1",
        "\u00b2 \u00b2",
        "x y",
        "{me}",
        "",
        "9" * 30 + " 1",
        "1 0",
    ],
)
def test_recorded_numbers_that_name_nobody(downloads: Path, record: str) -> None:
    """In a process group of its own: 0 is not a process but all of one's own group."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    text = record.format(me="{me}", mine=start_time(os.getpid()), gone=gone.pid)
    (downloads / "workers.pids").write_text(text + "\n")
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fetchd.daemon.service.lock import StateLock\n"
        "state = Path(sys.argv[1]); pids = state / 'workers.pids'\n"
        "pids.write_text(pids.read_text().replace('{me}', str(os.getpid())))\n"
        "lock = StateLock(state); lock.outlive_children(5); print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(downloads)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.stdout == "alive\n", done.stderr


def test_a_child_that_is_gone_before_it_could_be_recorded(downloads: Path) -> None:
    """Its number may be somebody else's by the time that it is looked at."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = StateLock(downloads)
    lock.record(gone.pid)
    lock.record(os.getpid())
    assert lock.pids_file.read_text() == f"{os.getpid()} {start_time(os.getpid())}\n"
    lock.close()


def test_start_times() -> None:
    assert start_time(os.getpid()) > 0
    assert start_time(2**22 + 1) == 0
    assert locks.start_time(os.getppid()) > 0
