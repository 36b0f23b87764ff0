"""Who a peer is, and whether it may come in: over ipc by what the kernel says of the other end of its
connection, over TCP by its key. Neither ever counts for the other.

Over ipc that is `localhost:UID:GID:PID`. A private daemon lets in its own user. A shared one lets in root and
the members of its groups, too; admins are its own user, root and the members of `admin_group`. Our own
workers have our uid and are no clients. Members are looked up when a peer connects, by getgrouplist(3), which
may take its time where users are not kept in files. What is asked for is judged anew when the daemon's groups
change; who has subscribed to events stays until they connect again.

Over TCP, where our workers can dial like anybody, libzmq has seen to it that a peer has the secret half of
its key (rfc.zeromq.org/spec/26). Whose it is, is looked up anew at every request.
"""

import ipaddress
import os
import pwd
from collections.abc import Callable, Mapping

import zmq
from msgspec import Struct

from fetchd.daemon.core.rights import may_govern, may_see

MAILBOX, READER, CONTROL, EVENTS = "mailbox", "reader", "control", "events"
"""ZAP domains. `events` is for admins, `events OWNER` for one owner and admins."""

KNOWN = 4096
"""Users and groups whose rights are remembered."""


class Who(Struct, frozen=True):
    """Somebody who may come in; an `Asker` of `core.rights`. `owner`: `uid:1000`, or `key:alice` over TCP."""

    owner: str
    admin: bool


class Access:
    """`is_worker` tells the processes that may not be clients. Groups are numbers; None: there is none."""

    def __init__(self, is_worker: Callable[[int], bool]) -> None:
        self._is_worker = is_worker
        self._me = os.geteuid()
        self._known: dict[tuple[int, int], Who | None] = {}
        self._keys: Mapping[str, Who] = {}
        self.admit(None, None)

    def admit(self, group: int | None, admin_group: int | None) -> None:
        """These groups may come in from now on. Peers that are connected are judged by it as well."""
        self._group, self._admin_group = group, admin_group
        self._known.clear()

    def trust(self, keys: Mapping[str, Who]) -> None:
        """These public keys may come in over TCP from now on, and no others."""
        self._keys = keys

    @property
    def shared(self) -> bool:
        """Whether others than our own user may come in."""
        return self._group is not None or self._admin_group is not None

    def connects(self, domain: str, address: str, key: str = "") -> Who | None:
        """Who wants to connect to the sockets of a domain; None: somebody who may not.

        `key` is the public one that the peer has the secret of, in Z85; '': it came without.
        """
        if key:
            return self._limited(self._keys.get(key) if _is_ip(address) else None, domain)
        peer = _numbers(address)
        if peer is None:
            return None
        uid, gid, pid = peer
        if domain == MAILBOX:
            return self._judge(uid, gid) if uid == self._me else None
        if self._is_worker(pid) or (domain == READER and uid != self._me):
            return None
        self._known.pop((uid, gid), None)
        who = self._judge(uid, gid)
        return who if domain == READER else self._limited(who, domain)

    def sender(self, frame: zmq.Frame) -> Who | None:
        """Who has sent a message; None: somebody who may not come in any more."""
        peer = _numbers(str(frame.get("Peer-Address")))
        return self._keys.get(str(frame.get("User-Id"))) if peer is None else self._judge(*peer[:2])

    @staticmethod
    def _limited(who: Who | None, domain: str) -> Who | None:
        """Somebody, if the sockets of a domain that clients may connect to are for them."""
        if who is None or domain == CONTROL:
            return who
        kind, _, owner = domain.partition(" ")
        allowed = may_see(who, owner) if owner else may_govern(who)
        return who if kind == EVENTS and allowed else None

    def _judge(self, uid: int, gid: int) -> Who | None:
        key = uid, gid
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = self._look(uid, gid)
        return self._known[key]

    def _look(self, uid: int, gid: int) -> Who | None:
        owner = f"uid:{uid}"
        if uid == self._me or (uid == 0 and self.shared):
            return Who(owner, admin=True)
        if not self.shared:
            return None
        groups = _groups(uid, gid)
        admin = self._admin_group in groups
        return Who(owner, admin) if admin or self._group in groups else None


def _numbers(address: str) -> tuple[int, int, int] | None:
    """(uid, gid, pid) of an ipc peer; None for what is none."""
    host, *numbers = address.split(":")
    if host != "localhost" or len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
        return None
    uid, gid, pid = map(int, numbers)
    return uid, gid, pid


def _is_ip(address: str) -> bool:
    """Whether it is a peer's over TCP."""
    try:
        return bool(ipaddress.ip_address(address))
    except ValueError:
        return False


def _groups(uid: int, gid: int) -> frozenset[int]:
    """The groups of a user: the one that the peer had, and those that the system knows."""
    try:
        name = pwd.getpwuid(uid).pw_name
        return frozenset((gid, *os.getgrouplist(name, gid)))
    except (KeyError, OSError):
        return frozenset((gid,))
