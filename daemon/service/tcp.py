"""Where other machines reach the daemon: TCP ports at which CURVE alone is spoken, all with the same key.

The ports are ours and the doors' to lend, so that a socket can be made anew while its port stays where it is.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import zmq

from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.keys import (
    Pair,
    read_authorized,
    read_secret,
    server_credential,
    server_key_file,
    write_secret,
)

from .doors import Door
from .host import StartError
from .sockets import BACKLOG

ABOVE = 256
"""The ports of events are as far above that of control at most."""

_LISTEN = re.compile(r"tcp://(?:(\*|[0-9.]+)|\[([0-9A-Fa-f:.]+)\]):([0-9]{1,5})")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}")


def parse(listen: str) -> tuple[str, int]:
    """Address and port of `tcp://HOST:PORT`, HOST an address (IPv6 in brackets) or `*`. Raises ValueError."""
    found = _LISTEN.fullmatch(listen)
    if found is None or int(found[3]) > 65535:
        raise ValueError("expected tcp://HOST:PORT, with an address ([::1] in brackets) or * for HOST")
    host = found[2] or found[1].replace("*", str(ipaddress.IPv4Address(0)))
    return str(ipaddress.ip_address(host)), int(found[3])


def server_key(state: Path) -> Pair:
    """The daemon's own key: what systemd hands over, else that of the state directory, made where it lacks.

    Raises FetchdError for a file that others may read or that is no key, and OSError.
    """
    if (handed := server_credential()) is not None:
        return read_secret(handed, shared=True)
    path = server_key_file(state)
    return read_secret(path) if os.path.lexists(path) else write_secret(path)


class Port:
    """A port that listens. OSError where it cannot."""

    def __init__(self, host: str, number: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()
        self.listener = socket.create_server(
            (host, number), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
        self.number: int = self.listener.getsockname()[1]
        self.endpoint = f"tcp://{_bracketed(host)}:{self.number}"

    def at(self, host: str | None) -> str:
        """Its endpoint for a peer who has dialled this host, if that is a plain name or an address."""
        named = None if host is None else _plain(host)
        return self.endpoint if named is None else f"tcp://{named}:{self.number}"

    def close(self) -> None:
        self.listener.close()


class Tcp:
    """All ports of a daemon. Raises `StartError` where it cannot listen at the first, that of control."""

    def __init__(self, listen: str, key: Pair) -> None:
        if not zmq.has("curve"):
            raise StartError("listen: the installed libzmq has no CURVE; install pyzmq's own wheel")
        self._host, self._wanted = parse(listen)
        self._key = key
        try:
            self.control = Port(self._host, self._wanted)
        except OSError as error:
            raise StartError(f"listen = {listen}: {error.strerror}") from None

    @property
    def public_key(self) -> str:
        """What clients need to know us by, in Z85."""
        return self._key.public

    def another(self) -> Port:
        """The next port that is free. FetchdError `busy` where none is."""
        above = range(self.control.number + 1, min(65536, self.control.number + 1 + ABOVE))
        for number in above if self._wanted else (0,):
            try:
                return Port(self._host, number)
            except OSError:
                continue
        raise FetchdError(Code.BUSY, "no port is free for events", retry_after=60.0)

    def bind(self, door: Door, port: Port) -> None:
        """Let those in who come to a port and have a key (CURVE). libzmq goes by the options of the moment,
        so a door may be bound elsewhere before, without."""
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, self._key.secret.encode()),
            (zmq.ZAP_ENFORCE_DOMAIN, 1),
            (zmq.IPV6, 1),
        ):
            door.socket.setsockopt(option, value)
        door.bind(port.listener, port.endpoint)

    def close(self) -> None:
        """Close the port of control; the others belong to who has asked for them."""
        self.control.close()


Found = tuple[Literal["ok", "fail"], str, str | None]


def look(listen: str, state: Path, authorized: Path) -> Iterator[Found]:
    """For the doctor: (how well, message, advice) of where the daemon listens, of its key, and of others'."""
    if not listen:
        yield "ok", "for this machine only: listen is not set", None
        return
    reached = "this machine" if ipaddress.ip_address(parse(listen)[0]).is_loopback else "other machines"
    yield "ok", f"{listen} is reached from {reached}", None
    try:
        known = server_credential() or os.path.lexists(server_key_file(state))
        yield "ok", f"own key: {server_key(state).public if known else 'made at the first start'}", None
    except (FetchdError, OSError) as error:
        yield "fail", str(error), "the daemon does not start with it"
    try:
        yield "ok", f"{authorized}: {len(read_authorized(authorized))} keys", None
    except (FetchdError, OSError) as error:
        yield "fail", str(error), "until it is put right the keys before it are in force, or none"


def _plain(host: str) -> str | None:
    """A host as it stands in an endpoint; None for what is neither a plain name nor an address."""
    if _NAME.fullmatch(host):
        return host
    try:
        address = ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return None if address.scope_id else f"[{address}]"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
