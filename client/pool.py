"""A client's connections: handed out one to a call or stream, kept for the next, closed together.

Each call has sockets of its own while it lasts, so that a client may be used from several threads. Knows
nothing of what is said on them.
"""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import zmq
from msgspec import Struct

from .link import ClientClosedError, Link
from .locate import Finder
from .start import start_daemon
from .stream import Loan, Release

T = TypeVar("T", bound=Struct)
L = TypeVar("L", bound=Loan)


class Pool:
    """The links to the daemon that `finder` finds, or starts if `start` says so and none runs.

    A first call that finds no daemon raises `no_daemon` at once; later ones wait `timeout` seconds for it.
    """

    def __init__(
        self, finder: Finder, *, start: bool, timeout: float, resend_after: float,
        notice: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._finder = finder
        self._start = start
        self._timeout = timeout
        self._resend_after = resend_after
        self._notice = notice
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Condition()
        self._idle: list[Link] = []
        self._calls = 0
        self._loans: set[Loan] = set()
        self._closed = False

    def call(self, request: Struct, reply: type[T]) -> T:
        """Ask and wait for the answer."""
        link = self._borrow(start=True)
        sound = False
        try:
            answer = link.call(request, reply)
            sound = True
            return answer
        finally:
            self._give_back(link, sound=sound)

    def lend(self, make: Callable[[Link, Release], L], *, start: bool = True) -> L:
        """A stream that has a link to itself until it is closed."""
        link = self._borrow(start)
        try:
            loan = make(link, self._returned)
        except BaseException:
            self._give_back(link, sound=False)
            raise
        with self._lock:
            self._calls -= 1  # a loan may lie idle in a suspended generator; `shut` ends it by itself
            self._loans.add(loan)
            closed = self._closed
            self._lock.notify_all()
        if closed:
            loan.close()
        return loan

    def shut(self) -> bool:
        """End all waiting, in whatever thread, and hand out no more; False if that was done before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            loans = set(self._loans)
        os.eventfd_write(self._closing, 1)
        for loan in loans:
            loan.close()
        with self._lock:
            self._lock.wait_for(lambda: self._calls == 0)
        return True

    def dispose(self) -> None:
        """Close all sockets, after `shut` and when no thread can come back with a loan."""
        while self._idle:
            self._idle.pop().close()
        self._context.term()
        os.close(self._closing)

    def refuse_if_closed(self) -> None:
        """Raises ClientClosedError after `shut`."""
        if self._closed:
            raise ClientClosedError("the client is closed")

    def _borrow(self, start: bool) -> Link:
        with self._lock:
            self.refuse_if_closed()
            link = self._idle.pop() if self._idle else None
            self._calls += 1
        link = link or Link(self._context, self._finder, self._closing, self._timeout, self._resend_after)
        try:
            if not link.refresh() and start and self._finder.find() is None:
                self._need_daemon()
            self._finder.met |= self._finder.remote is None  # over TCP it is known when it has greeted
        except BaseException:
            self._give_back(link, sound=False)
            raise
        return link

    def _need_daemon(self) -> None:
        if self._start and self._finder.named is None:
            start_daemon(self._finder.state, self._notice)
        elif not self._finder.met:
            raise self._finder.absent()

    def _give_back(self, link: Link, *, sound: bool) -> None:
        link.rest()
        with self._lock:
            self._calls -= 1
            if sound and not self._closed:
                self._idle.append(link)
            else:
                link.close()
            self._lock.notify_all()

    def _returned(self, loan: Loan, link: Link, sound: bool) -> None:
        with self._lock:
            self._loans.discard(loan)
            self._calls += 1
        self._give_back(link, sound=sound)
