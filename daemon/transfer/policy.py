"""Where a transfer may connect to: checked by name before, and by the one address that is used.

A name says nothing about where it leads, and may lead elsewhere a moment later: so the address is judged that
the socket is going to be connected to, for every hop of a redirect too. `is_global` alone is not enough:
multicast addresses may be, and several kinds of IPv6 addresses stand for an IPv4 one (RFC 6890, RFC 4291
section 2.5.5, RFC 6052, RFC 3056, RFC 4380).
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Network

from .api import TransferError

Address = IPv4Address | IPv6Address

NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
ASSIGNMENTS = IPv4Network("192.0.0.0/24")
SITE_LOCAL = IPv6Network("fec0::/10")
"""Not public either, though some versions of Python say that parts of them are."""
COMPATIBLE = IPv6Network("::/96")


def check_name(rules: Network, host: str, port: int) -> None:
    """`denied` where a rule forbids this host by its name, or the port."""
    if rules.ports is not None and port not in rules.ports:
        raise TransferError(Code.DENIED, f"port {port} is not among allow_ports")
    name = host.lower().rstrip(".")
    if _address(name) is not None:
        return
    if _any(rules.deny_hosts, name):
        raise TransferError(Code.DENIED, f"{host} is among deny_hosts")
    if rules.allow_hosts and not any(map(_network, rules.allow_hosts)) and not _any(rules.allow_hosts, name):
        raise TransferError(Code.DENIED, f"{host} is not among allow_hosts")


def check_address(rules: Network, host: str, address: str) -> None:
    """`denied` where a rule forbids the address that `host` has led to."""
    found = _address(address.partition("%")[0])
    if found is None:
        raise TransferError(Code.DENIED, f"{address} is no internet address")
    all_of_it = meant(found)
    if any(one in network for network in _networks(rules.deny_hosts) for one in all_of_it):
        raise TransferError(Code.DENIED, f"{host} is {address}, which is among deny_hosts")
    # a network that is listed by its numbers is meant; a listed name may lead anywhere
    by_number = any(found in network for network in _networks(rules.allow_hosts))
    if rules.allow_hosts and not by_number and not _any(rules.allow_hosts, host.lower().rstrip(".")):
        raise TransferError(Code.DENIED, f"{host} ({address}) is not among allow_hosts")
    if not rules.allow_private and not by_number and not all(map(is_public, all_of_it)):
        raise TransferError(Code.DENIED, f"{host} is {address}, a private address; allow_private is off")


def meant(address: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 addresses that it stands for."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in NAT64) or (address in COMPATIBLE and int(address) > 1):
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return (address, *(one for one in inner if one is not None))


def is_public(address: Address) -> bool:
    """Whether this is an address of the public internet, as far as it says itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped or address in NAT64[0]:
            return True  # it is what it stands for that counts
        if address in SITE_LOCAL:
            return False
    elif address in ASSIGNMENTS:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        or address.is_link_local or address.is_private
    )  # fmt: skip


def _any(rules: Iterable[str], name: str) -> bool:
    return any(_covers(rule, name) for rule in rules)


def _covers(rule: str, name: str) -> bool:
    """`example.org` is itself alone, `*.example.org` everything beneath it."""
    rule = rule.lower().rstrip(".")
    return name.endswith(rule[1:]) if rule.startswith("*.") else name == rule


@lru_cache(maxsize=256)
def _network(rule: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(rule, strict=False)
    except ValueError:
        return None


def _networks(rules: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    return [network for rule in rules if (network := _network(rule)) is not None]


def _address(text: str) -> Address | None:
    try:
        return ip_address(text.strip("[]"))
    except ValueError:
        return None
