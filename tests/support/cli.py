"""The `fetchd` command as a user runs it: a process of its own, on the state directory of a test's daemon."""

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Any

from .wait import Deadline, process_exit, read_line, readable

COMMAND = (sys.executable, "-c", "import sys; from fetchd.client.cli.main import main; sys.exit(main())")


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    def json(self) -> Any:
        """What it wrote to stdout."""
        return json.loads(self.out)


class Running:
    """A command that goes on. Its stdout is a pipe; its stderr too, or a file where nobody reads along."""

    def __init__(self, arguments: tuple[str, ...], env: Mapping[str, str], cwd: str, quiet: bool) -> None:
        self._unread = ""
        self._file: IO[bytes] | None = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env=env, cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=self._file or subprocess.PIPE, stderr=self._file or subprocess.PIPE,
        )  # fmt: skip

    def line(self, timeout: float = 15.0) -> str:
        """What comes next on stderr: at least a line."""
        assert self.process.stderr is not None
        return read_line(self.process.stderr.fileno(), timeout).decode()

    def until(self, wanted: str, timeout: float = 15.0) -> str:
        """Read stderr until this text has come; what came with it, behind it, is for the next call."""
        deadline = Deadline(timeout)
        while wanted not in self._unread:
            piece = self.line(deadline.left(f"{wanted!r} after {self._unread!r}"))
            assert piece, f"it ended without {wanted!r}: {self._unread}"
            self._unread += piece
        seen, _, self._unread = self._unread.partition(wanted)
        return seen + wanted

    def read(self, timeout: float = 15.0) -> list[Any]:
        """The next JSON lines on stdout, at least one."""
        assert self.process.stdout is not None
        piece = read_line(self.process.stdout.fileno(), timeout)
        assert piece, f"it ended: {self.end()}"
        return [json.loads(line) for line in piece.splitlines()]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.signal(signal.SIGINT)

    def end(self, timeout: float = 30.0) -> Done:
        """Wait for its end."""
        if self._file is not None:
            process_exit(self.process.pid, timeout)
            code = self.process.wait()
            self._file.seek(0)
            return Done(code, self._file.read().decode(), "")
        out, err = self.process.communicate(timeout=timeout)
        return Done(self.process.returncode, out.decode(), err.decode())

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        if self._file is not None:
            self._file.close()


class Fetchd:
    """Runs commands. `env` says which daemon; `cwd` is where files are downloaded to by default."""

    def __init__(self, env: Mapping[str, str], cwd: str | os.PathLike[str]) -> None:
        self.env = dict(env)
        self.cwd = os.fspath(cwd)
        self._begun: list[Running] = []

    def __call__(self, *arguments: str, text: str = "", timeout: float = 60.0) -> Done:
        """Run a command to its end."""
        found = subprocess.run(
            [*COMMAND, *arguments], input=text, capture_output=True, text=True, env=self.env, cwd=self.cwd,
            timeout=timeout, check=False,
        )  # fmt: skip
        return Done(found.returncode, found.stdout, found.stderr)

    def begin(self, *arguments: str, quiet: bool = False) -> Running:
        """Start a command that goes on. `quiet`: its output goes to a file, read at its end."""
        self._begun.append(Running(arguments, self.env, self.cwd, quiet))
        return self._begun[-1]

    def on_terminal(
        self, *arguments: str, react: Callable[[int, bytes], bytes | None] = lambda _pid, _said: None,
        timeout: float = 60.0,
    ) -> Done:  # fmt: skip
        """Run a command with a terminal for everything; `react` is told its process and all it has said
        whenever it says something, and may answer with what is typed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.cwd)
            # a terminal is what is asked for here, also where CI or NO_COLOR would speak against it
            plain = {key: value for key, value in self.env.items() if key not in ("CI", "NO_COLOR")}
            os.execve(COMMAND[0], [*COMMAND, *arguments], {**plain, "TERM": "xterm"})
        deadline, said = Deadline(timeout), b""
        try:
            while True:
                readable(terminal, deadline.left("the command on a terminal"))
                said += os.read(terminal, 1 << 16)
                os.write(terminal, react(pid, said) or b"")
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        except OSError:
            pass  # EIO: nobody has the terminal open any more
        finally:
            os.close(terminal)
            status = os.waitpid(pid, 0)[1]
        return Done(os.waitstatus_to_exitcode(status), said.decode(errors="replace"), "")

    def close(self) -> None:
        """End what goes on."""
        for running in self._begun:
            running.close()
