"""A daemon that is reached over TCP: where it is, and the keys that show who it is and who we are."""

import os
import re
import shlex
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fetchd.protocol import keys
from fetchd.protocol.errors import Code, FetchdError

if TYPE_CHECKING:
    import zmq

TCP = "tcp://"

TRIES = 3
"""Handshakes of a first contact that may fail before the keys are to blame: a daemon may end during one."""

_ENDPOINT = re.compile(r"tcp://(?:\[([0-9A-Za-z:.%_-]+)\]|([^\s:/\[\]*]+)):([0-9]{1,5})\Z")


class Remote:
    """The daemon at `tcp://HOST:PORT` whose public key is `server_key`.

    `key` is the name of a key of this user, else the path of a file with one, which has a slash. Raises
    FetchdError `bad_request` where one of them cannot be used.
    """

    def __init__(self, endpoint: str, server_key: str | None, key: str | os.PathLike[str] | None) -> None:
        found = _ENDPOINT.match(endpoint)
        if found is None or not 0 < int(found[3]) < 1 << 16:
            raise FetchdError(Code.BAD_REQUEST, f"{endpoint!r} is not tcp://HOST:PORT")
        if not server_key:
            raise FetchdError(
                Code.BAD_REQUEST,
                f"{endpoint}: the daemon's public key is needed, with --server-key or FETCHD_SERVER_KEY;"
                " `fetchd keys show` on its machine prints it",
            )
        if not keys.is_key(server_key):
            raise FetchdError(
                Code.BAD_REQUEST,
                f"the server key {server_key!r} is not {keys.KEY_LENGTH} characters of Z85; a shell wants it"
                " in quotes",
            )
        self.endpoint = endpoint
        self._host, self._port = found[1] or found[2], int(found[3])
        self._server_key = server_key
        self._pair = _read(key)

    def addresses(self) -> list[tuple[str, str]]:
        """What may be dialled, and its host alone, for each address of the host. Asks the resolver.

        libzmq would try the first address only, and be silent where there is none. Raises `no_daemon` then.
        """
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise self._nobody(f"the host name {self._host} does not resolve: {why}") from None
        hosts = [socket.getnameinfo(address, socket.NI_NUMERICHOST)[0] for *_, address in found]
        return [
            (f"{TCP}[{host}]:{self._port}" if ":" in host else f"{TCP}{host}:{self._port}", host)
            for host in dict.fromkeys(hosts)
        ]

    def secure(self, sock: "zmq.Socket[Any]", address: str) -> None:
        """Let a socket that is to be connected to an address show our key there, and expect the daemon's."""
        sock.ipv6 = "[" in address
        sock.curve_serverkey = self._server_key.encode()
        sock.curve_publickey = self._pair.public.encode()
        sock.curve_secretkey = self._pair.secret.encode()

    def absent(self) -> FetchdError:
        """Nobody answers."""
        return self._nobody(
            f"no daemon answers at {self.endpoint}; see there whether it runs and is configured to `listen`,"
            " and whether a firewall is in the way"
        )

    def unknown(self) -> FetchdError:
        """The daemon does not know our key."""
        line = shlex.quote(self._pair.public)
        return FetchdError(
            Code.DENIED,
            f"the daemon at {self.endpoint} does not know this key; on its machine:"
            f" fetchd keys authorize NAME {line}",
        )

    def another(self) -> FetchdError:
        """Somebody answers who is not the daemon with this key."""
        return FetchdError(
            Code.DENIED,
            f"who answers at {self.endpoint} is not the daemon with the key {self._server_key};"
            " `fetchd keys show` on its machine prints the right one",
        )

    def _nobody(self, message: str) -> FetchdError:
        return FetchdError(Code.NO_DAEMON, message, elsewhere=True)


class Contact:
    """The tries of one connection to reach a daemon: its addresses in turn, counted by `turn`."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.turn = 0
        self._failed = 0
        self._addresses: list[tuple[str, str]] = []

    def address(self) -> tuple[str, str]:
        """What to dial now, and its host alone."""
        place = self.turn % (len(self._addresses) or 1)
        if place == 0:
            self._addresses = self.remote.addresses()
        return self._addresses[place % len(self._addresses)]

    def ended(self, events: Collection[int], *, met: bool) -> None:
        """A connection has ended so, by what a `Monitor` reports. Raises where trying again would be in vain.

        A daemon that does not know our key says so. Otherwise libzmq only tells a connection that did not
        come about from one that was made and then broken off, as a daemon with another key does, and as
        somebody does who knows no CURVE. Once a daemon was `met`, that may be a restart.
        """
        import zmq

        if zmq.EVENT_HANDSHAKE_FAILED_AUTH in events:
            raise self.remote.unknown()
        if met:
            return
        if zmq.EVENT_CLOSED not in events:
            self._failed += 1
            if self._failed == TRIES:
                raise self.remote.another()
        elif not self._failed and self.turn + 1 >= len(self._addresses):
            raise self.remote.absent()


def is_remote(endpoint: str | None) -> bool:
    """Whether an endpoint is one for `Remote`."""
    return endpoint is not None and endpoint.startswith(TCP)


def key_file(key: str | os.PathLike[str] | None) -> Path:
    """The file that is meant by the name of a key, or by a path, which has a slash."""
    if isinstance(key, str) and "/" not in key:
        return keys.client_key_file(key or keys.DEFAULT_NAME)
    return keys.client_key_file() if key is None else Path(key).expanduser()


def _read(key: str | os.PathLike[str] | None) -> keys.Pair:
    path = key_file(key)
    try:
        return keys.read_secret(path)
    except FileNotFoundError:
        name = f" {key}" if isinstance(key, str) and "/" not in key else ""
        raise FetchdError(
            Code.BAD_REQUEST, f"there is no key {path}; `fetchd keys generate{name}` makes one"
        ) from None
    except OSError as error:
        raise FetchdError(Code.BAD_REQUEST, f"{path}: {error.strerror}") from None
