"""The order that correctness rests on: inputs, core, one batch, and only then what the outside may see.

One batch is in flight, the next accumulates; progress and queries wait for neither.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fetchd.daemon.core import inputs
from fetchd.daemon.core.commands import (
    Command,
    Durable,
    Effect,
    Event,
    Forget,
    Log,
    Refuse,
    Reply,
    SaveJob,
    SaveReply,
)
from fetchd.daemon.core.core import Core
from fetchd.daemon.core.job import Job, Moment
from fetchd.daemon.core.view import snapshot
from fetchd.protocol.codec import encode

from .loop import boot_time

logger = logging.getLogger("fetchd")

Entry = tuple[Durable, bytes | None]
Commit = Callable[[list[Entry], Callable[[None, BaseException | None], None]], None]


class Engine:
    """Feeds the core and carries its commands out.

    `failed(error, tokens)` is called when a batch could not be committed, or when the core or an effect has
    raised, with the tokens of the requests whose answers are lost by it. The core is given up then; `revive`
    goes on with one that was loaded anew. Whoever else gives it up calls `abandon`: `lost` gets the tokens.
    """

    def __init__(
        self, core: Core, commit: Commit, failed: Callable[[BaseException, list[object]], None]
    ) -> None:
        self.core = core
        self._commit = commit
        self._failed = failed
        self._tokens: list[object] = []
        self._flying: list[object] = []
        self._current: list[inputs.Input] = []
        self._inputs: list[inputs.Input] = []
        self._batch: list[Entry] = []
        self._effects: list[Callable[[], None]] = []
        self._stamp = 0
        self._in_flight = False
        self._dead = False
        self._turned = 0
        self._handlers: Mapping[type[Command], Callable[[Any], None]] = {}
        self.announce: Callable[[Event, bytes], None] = lambda _event, _body: None
        self.lost: Callable[[object], None] = lambda _token: None

    def wire(self, handlers: Mapping[type[Command], Callable[[Any], None]]) -> None:
        """What carries out each kind of command."""
        self._handlers = handlers

    def start(self) -> None:
        """Let the core take up what was left behind."""
        now = moment()
        self._turned = now.mono
        self._sort(self.core.start(now))

    def feed(self, event: inputs.Input) -> None:
        """An input for this turn; while the core is given up there is nobody to hear it."""
        if not self._dead:
            self._inputs.append(event)

    @property
    def dead(self) -> bool:
        """Whether the core has been given up and nothing is carried out."""
        return self._dead

    def revive(self, core: Core) -> None:
        """Go on with a core that was loaded from the store."""
        self.core = core
        self._dead = self._in_flight = False
        # the stamps of the new core begin anew
        self._stamp = 0
        try:
            self.start()
            self._flush()
        except Exception as error:
            self._broken(error)

    def after(self, action: Callable[[], None], token: object = None) -> None:
        """Do something when everything decided so far is on disk: at once, if it is.

        `token` names the request that is answered by it, to be told if it never comes to that.
        """
        if self._settled():
            action()
        else:
            self._effects.append(action)
            if token is not None:
                self._tokens.append(token)

    def turn(self) -> None:
        """At the end of a loop's turn: decide, and hand the batch over."""
        if not self._dead:
            try:
                self._decide()
            except Exception as error:
                self._broken(error)

    def _decide(self) -> None:
        if not self._inputs and self._due():
            self._inputs.append(inputs.Tick())
        while self._inputs:
            self._take_inputs()
            self._flush()

    def _take_inputs(self) -> None:
        self._current, self._inputs = self._inputs, []
        for event in self._current:
            self._handle(event)
        self._current = []

    def _handle(self, event: inputs.Input) -> None:
        now = moment()
        self._turned = now.mono
        self._sort(self.core.handle(event, now))

    def abandon(self) -> None:
        """Carry nothing out any more: this core and its commands are given up."""
        for token in self._give_up():
            self.lost(token)

    def _give_up(self) -> list[object]:
        """The tokens of all requests that will not be answered."""
        self._dead = True
        asked = [getattr(event, "request", None) for event in (*self._current, *self._inputs)]
        tokens = [*self._flying, *self._tokens, *(request.token for request in asked if request is not None)]
        for pile in (self._current, self._inputs, self._batch, self._effects, self._flying, self._tokens):
            pile.clear()
        return tokens

    def _broken(self, error: Exception) -> None:
        """The core, or what carries its commands out, has a fault: what it believes is not what is."""
        logger.error("a fault in the core, it is given up", exc_info=error)
        self._failed(error, self._give_up())

    def deadline(self) -> int | None:
        """When the core wants to hear of the time."""
        if self._dead:
            return None
        try:
            # what was due at a time that has passed since is still to be done
            return self.core.next_deadline(self._turned)
        except Exception as error:
            self._broken(error)
            return None

    def _due(self) -> bool:
        wanted = self.core.next_deadline(self._turned)
        return wanted is not None and wanted <= boot_time()

    def _sort(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Event):
                body = self._body(command.job)
                self._batch.append((command, body))
                self._effects.append(lambda event=command, body=body: self.announce(event, body))  # type: ignore[misc]
            elif isinstance(command, Durable):
                if isinstance(command, SaveJob | SaveReply | Forget):
                    self._stamp = command.stamp
                self._batch.append((command, None))
            elif isinstance(command, Effect):
                if isinstance(command, Reply | Refuse):
                    self._tokens.append(command.token)
                self._effects.append(lambda command=command: self._handlers[type(command)](command))  # type: ignore[misc]
            elif isinstance(command, Log):
                logger.log(logging.getLevelName(command.level.upper()), "%s", command.message)
            else:
                self._handlers[type(command)](command)

    def _body(self, job: Job) -> bytes:
        """A job as its event tells of it, with what holds it now."""
        now, gates = moment(), self.core.gates
        until, error = gates.opens(job, now.wall - now.mono), gates.error(job)
        return encode(snapshot(job, shown=gates.shown(job), not_before=until, error=error))

    def _settled(self) -> bool:
        return not self._in_flight and not self._batch and not self._effects

    def _flush(self) -> None:
        while not self._in_flight and not self._dead:
            if self._batch:
                batch, self._batch = self._batch, []
                effects, self._effects = self._effects, []
                self._flying, self._tokens = self._tokens, []
                self._in_flight = True
                self._commit(batch, partial(self._committed, self._stamp, effects))
                return
            if not self._effects:
                return
            effects, self._effects = self._effects, []
            self._flying, self._tokens = self._tokens, []
            for effect in effects:
                effect()
            self._flying = []

    def _committed(
        self,
        stamp: int,
        effects: list[Callable[[], None]],
        _none: None,
        error: BaseException | None,
    ) -> None:
        if self._dead:
            return
        self._in_flight = False
        if error is not None:
            self._failed(error, self._give_up())
            return
        try:
            # what the store answered before this commit is older than it, and memory must still know better
            self._take_inputs()
            self._handle(inputs.Committed(stamp))
            for effect in effects:
                effect()
            self._flying = []
            self._flush()
        except Exception as fault:
            self._broken(fault)


def moment() -> Moment:
    """Now."""
    return Moment(boot_time(), time.time_ns() // 1000, random.random())
