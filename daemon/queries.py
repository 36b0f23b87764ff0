"""The core's questions to the store, whose answers come back as inputs. Part of the composition root."""

from collections.abc import Callable
from typing import Any

from fetchd.daemon.core import commands, inputs

from .store.thread import Store

Feed = Callable[[inputs.Input], None]
Failed = Callable[[BaseException], None]
Handlers = dict[type[commands.Command], Callable[[Any], None]]


def loaded(then: Callable[[Any], None], failed: Failed) -> Callable[[Any, BaseException | None], None]:
    """A continuation that hands on the result, or the error to whoever deals with a store in trouble."""

    def done(result: Any, error: BaseException | None) -> None:
        if error is not None:
            failed(error)
        else:
            then(result)

    return done


def store_handlers(store: Store, feed: Feed, failed: Failed, clock: Callable[[], int]) -> Handlers:
    """What carries out the queries for rows; `clock` is the boot-time clock in µs."""

    def window(command: commands.LoadWindow) -> None:
        store.call(
            lambda database: database.window(command.lane, command.after, command.limit),
            loaded(lambda got: feed(inputs.WindowLoaded(command.lane, tuple(got[0]), got[1])), failed),
        )

    def lanes(command: commands.LoadLanes) -> None:
        store.call(
            lambda database: database.lanes(command.limit, command.without),
            loaded(lambda got: feed(inputs.LanesLoaded(tuple(got[0]), got[1])), failed),
        )

    def due(command: commands.LoadDue) -> None:
        store.call(
            lambda database: database.due(command.after, command.limit),
            loaded(lambda got: feed(inputs.DueLoaded(tuple(got[0]), got[1])), failed),
        )

    def overdue(command: commands.LoadOverdue) -> None:
        now = clock()
        store.call(
            lambda database: database.overdue(now, command.limit),
            loaded(lambda got: feed(inputs.Overdue(tuple(got[0]), got[1])) if got[0] else None, failed),
        )

    def chunk(command: commands.LoadChunk) -> None:
        number = command.intent.number
        store.call(
            lambda database: database.chunk(command.intent, command.limit),
            loaded(lambda got: feed(inputs.ChunkLoaded(number, tuple(got[0]), got[1])), failed),
        )

    return {
        commands.LoadWindow: window,
        commands.LoadLanes: lanes,
        commands.LoadDue: due,
        commands.LoadChunk: chunk,
        commands.LoadOverdue: overdue,
    }
