"""The client library: `Client`, `Job` and what they raise. Needs only pyzmq, msgpack and msgspec.

Names are loaded on first use, so that importing the package costs nothing to a program that needs one of
them (the command line's help, for one).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fetchd.protocol.errors import Code as Code
    from fetchd.protocol.errors import FetchdError as FetchdError
    from fetchd.protocol.job import Cleanup as Cleanup
    from fetchd.protocol.job import JobSnapshot as JobSnapshot
    from fetchd.protocol.job import State as State

    from .jobs import DownloadError as DownloadError
    from .jobs import Job as Job
    from .jobs import Result as Result
    from .jobs import as_completed as as_completed
    from .link import ClientClosedError as ClientClosedError
    from .replay import EventStream as EventStream
    from .session import Event as Event
    from .specs import JobOptions as JobOptions
    from .sync import Client as Client

_HOMES = {
    "Cleanup": "fetchd.protocol.job",
    "Client": "fetchd.client.sync",
    "ClientClosedError": "fetchd.client.link",
    "Code": "fetchd.protocol.errors",
    "DownloadError": "fetchd.client.jobs",
    "Event": "fetchd.client.session",
    "EventStream": "fetchd.client.replay",
    "FetchdError": "fetchd.protocol.errors",
    "Job": "fetchd.client.jobs",
    "JobOptions": "fetchd.client.specs",
    "JobSnapshot": "fetchd.protocol.job",
    "Result": "fetchd.client.jobs",
    "State": "fetchd.protocol.job",
    "as_completed": "fetchd.client.jobs",
}

__all__ = list(_HOMES)  # one list of names, not two


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
