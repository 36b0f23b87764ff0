"""`fetchd top`: what runs, what waits and what it takes, live."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from fetchd.protocol.control import List, Page
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import State
from fetchd.protocol.status import DaemonStatus, Status

from . import exits
from .board import ACTIVE, MOST, PENDING, Board
from .context import Reach, json_option, reaches_daemon
from .interrupt import Presses, catching
from .layout import NEXT, draw
from .output import json_line, print_json
from .progress import choose

if TYPE_CHECKING:
    from fetchd.client.replay import EventStream
    from fetchd.client.session import Exchange
    from fetchd.client.sync import Client

    from .screen import Screen

PAGE = 200
"""Jobs asked for at once; the answer must fit one message."""

Show = Callable[[Board], None]


@click.command()
@click.option("--once", is_flag=True, help="Print it once, plainly, and end; so it is without a terminal.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=0.5, show_default=True,
              metavar="SECONDS", help="Least time between two views.")  # fmt: skip
@json_option
@reaches_daemon
def top(reach: Reach, once: bool, interval: float, as_json: bool) -> int:
    """Show what runs and what waits, live; q or Ctrl-C leaves.

    With --json one object a line, whenever something has changed; one object with --once.
    """
    drawn = choose("auto", terminal=sys.stdout.isatty(), env=os.environ) == "bar"
    with reach() as client:
        board = Board(client.status())
        if once or not (drawn or as_json):
            with catching() as presses:
                return Top(board, presses).once(client, print_whole if not as_json else print_object)
        if as_json:
            with catching() as presses:
                return Top(board, presses, interval).run(client, print_line)
        from .screen import Screen

        with catching(signal.SIGTERM, signal.SIGTSTP, signal.SIGWINCH) as presses, Screen() as screen:
            code = Top(board, presses, interval, screen).run(client, lambda seen: draw_on(screen, seen))
    if code == -signal.SIGTERM:
        signal.raise_signal(signal.SIGTERM)  # end by it, now that the terminal is as it was
    return code


def print_whole(board: Board) -> None:
    """Print the view for people, as wide as the terminal if there is one, and as long as it is."""
    width = os.get_terminal_size(1).columns if sys.stdout.isatty() else None
    for line in draw(board, time.time(), width or None):
        sys.stdout.write(line.text + "\n")


def print_object(board: Board) -> None:
    """Print it for programs."""
    print_json(board.json(NEXT))


def print_line(board: Board) -> None:
    """Print it for programs that read on."""
    sys.stdout.write(json_line(board.json(NEXT)) + "\n")
    sys.stdout.flush()


def draw_on(screen: "Screen", board: Board) -> None:
    """Draw it on the whole terminal."""
    screen.draw(draw(board, time.time(), *screen.size))


class Top:
    """One run: the stream of events, what is asked beside it, signals and keys."""

    def __init__(
        self, board: Board, presses: Presses, interval: float = 0.0, screen: "Screen | None" = None
    ) -> None:
        self._board = board
        self._presses = presses
        self._interval = interval
        self._screen = screen
        self._news = True
        self._drawn = 0.0
        self._code: int | None = None

    def once(self, client: "Client", show: Show) -> int:
        """Show how things are now; the exit code."""
        with client.events(progress=True, metrics=True) as stream:
            survey = Survey(stream, self._board)
            while self._code is None and (self._board.stale or survey.under_way):
                self._turn(stream, survey, None)
        if self._code is None:
            show(self._board)
        return self._code or exits.OK

    def run(self, client: "Client", show: Show) -> int:
        """Go on until the user leaves; the exit code, or a signal to end by as a negative number."""
        while self._code is None:
            try:
                with client.events(progress=True, metrics=True) as stream:
                    self._watch(stream, show)
            except FetchdError as error:
                if error.code is not Code.HISTORY_GONE:
                    raise
                self._board.stale = True  # the database was replaced: begin anew
        return self._code

    def _watch(self, stream: "EventStream", show: Show) -> None:
        survey = Survey(stream, self._board)
        while self._code is None:
            now = time.monotonic()
            due = self._drawn + self._interval
            complete = not (self._board.connected and (self._board.stale or survey.under_way))
            if self._news and complete and now >= due:
                show(self._board)
                self._drawn, self._news = now, False
            self._turn(stream, survey, due if self._news and complete else None)

    def _turn(self, stream: "EventStream", survey: "Survey", until: float | None) -> None:
        keys = [] if self._screen is None or self._screen.keys is None else [self._screen.keys]
        events = stream.step(until, [self._presses.fd, *keys])
        met = stream.revision is not None
        changed = met and self._board.connection(stream.connected)
        for event in events:
            self._board.hear(event)
        self._news = survey.step() or self._news or changed or bool(events)
        if self._presses.fd in stream.ready:
            self._signalled(self._presses.signals())
        if self._screen is not None and self._screen.keys in stream.ready and "q" in self._screen.typed():
            self._code = exits.OK

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._code = -signal.SIGTERM
        elif signal.SIGINT in numbers:
            self._code = exits.INTERRUPTED
        elif signal.SIGTSTP in numbers and self._screen is not None:
            self._screen.close()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._screen.open()
        self._news, self._drawn = True, 0.0  # the screen may have another size


class Survey:
    """What each life of the daemon is asked, and again when the board is stale: its status and the jobs."""

    def __init__(self, stream: "EventStream", board: Board) -> None:
        self._stream = stream
        self._board = board
        self._status: Exchange[DaemonStatus] | None = None
        self._pages: list[tuple[Exchange[Page], list[State], int]] = []

    @property
    def under_way(self) -> bool:
        return self._status is not None or bool(self._pages)

    def step(self) -> bool:
        """Take what was answered, ask what has to be asked; whether the board is complete by it."""
        waited = self.under_way
        self._take()
        complete = waited and not self.under_way
        if complete:
            self._board.settle()
        elif not waited and self._board.stale and self._stream.connected:
            self._board.begin()
            self._status = self._stream.ask(Status(), DaemonStatus)
            self._ask(ACTIVE, None, 0)
            self._ask(PENDING, None, 0)
        return complete

    def _ask(self, states: list[State], cursor: int | None, known: int) -> None:
        page = self._stream.ask(List(states=states, limit=PAGE, cursor=cursor), Page)
        self._pages.append((page, states, known))

    def _take(self) -> None:
        if self._status is not None and self._status.done:
            self._board.greet(self._status.result())
            self._status = None
        for entry in [entry for entry in self._pages if entry[0].done]:
            self._pages.remove(entry)
            page, states, known = entry
            answer = page.result()
            self._board.know(answer.jobs)
            self._stream.know(answer.jobs)
            known += len(answer.jobs)
            if answer.cursor is not None and (states is ACTIVE or known < MOST):
                self._ask(states, answer.cursor, known)
