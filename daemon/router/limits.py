"""Requests for limits of speed."""

from fetchd.daemon.core import inputs
from fetchd.daemon.core.job import Job
from fetchd.daemon.core.limits import in_force
from fetchd.protocol import control
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.urls import DEFAULT_PORTS, host_key, split_url

from .control import Caller
from .desk import Desk

_SCHEMES = {str(port): scheme for scheme, port in DEFAULT_PORTS.items()}


class Limits:
    """The handlers. A change is acknowledged when it is on disk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def limit(self, caller: Caller, body: control.Limit) -> None:
        """Set or lift a limit: of jobs, of a host, or of everything."""
        if body.ids and body.host is not None:
            raise FetchdError(Code.BAD_REQUEST, "a limit is for IDs, for a host, or for everything")
        host = None if body.host is None else _lane_host(body.host)

        def known(jobs: dict[str, Job], _paths: dict[str, str]) -> None:
            request = inputs.Request(caller.owner, caller.req, caller.digest, caller, caller.admin)
            self._desk.engine.feed(inputs.Limit(request, body.rate, tuple(body.ids), host, jobs))

        self._desk.look_up(caller, body.ids, [], known)

    def limits(self, caller: Caller, _body: control.Limits) -> None:
        """Which are in force?"""
        answer = in_force(self._desk.core, [])
        self._desk.engine.after(lambda: self._desk.control.reply(caller, answer), caller)


def _lane_host(text: str) -> str:
    """`host` or `host:port` as jobs have it: the port is left out where it is the usual one."""
    try:
        # a lane of any scheme has no port where it is the usual one
        parts = split_url(f"{_SCHEMES.get(text.rpartition(':')[2], 'http')}://{text}")
    except FetchdError:
        raise FetchdError(Code.BAD_REQUEST, f"{text!r} is not a host or host:port") from None
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise FetchdError(Code.BAD_REQUEST, f"{text!r} is not a host or host:port")
    return host_key(parts)
