"""The table of behaviours and the decorator that fills it."""

import inspect
from collections.abc import Callable
from typing import Any

from support.exchange import Exchange, Resource

Behaviour = Callable[..., None]

BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    """Enter a function into the table under its own name."""
    if function.__name__ in BEHAVIOURS:
        raise ValueError(f"two behaviours are called {function.__name__}")
    BEHAVIOURS[function.__name__] = function
    return function


def checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, if there is such a behaviour and it takes them: a slip shows in the test itself."""
    if name not in BEHAVIOURS:
        raise ValueError(f"no behaviour {name!r}; there are {', '.join(sorted(BEHAVIOURS))}")
    inspect.signature(BEHAVIOURS[name]).bind(Exchange, Resource, **options)
    return options
