"""Where transfers may connect to: names, ports, and the address that is really used."""

import socket
import threading
from collections.abc import Iterator

import pytest

from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.dial import dial
from fetchd.daemon.transfer.policy import check_address, check_name
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Network

PUBLIC_ONLY = Network(allow_private=False)

PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]

PRIVATE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1",
    "239.1.2.3", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%lo", "fc00::1",
    "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "100::1", "nonsense", "",
]  # fmt: skip


def code(rules: Network, host: str, address: str | None = None, port: int = 80) -> Code | None:
    """What a rule says to a host, or to the address that it leads to."""
    try:
        if address is None:
            check_name(rules, host, port)
        else:
            check_address(rules, host, address)
    except TransferError as error:
        return error.code
    return None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert code(PUBLIC_ONLY, "a.test", address) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_and_what_stands_for_them(address: str) -> None:
    assert code(PUBLIC_ONLY, "a.test", address) is Code.DENIED
    if address not in ("nonsense", ""):
        assert code(Network(), "a.test", address) is None


@pytest.mark.parametrize(
    ("rules", "host", "address", "wanted"),
    [
        (Network(deny_hosts=("a.test",)), "A.test.", None, Code.DENIED),
        (Network(deny_hosts=("a.test",)), "b.a.test", None, None),
        (Network(deny_hosts=("*.a.test",)), "b.a.test", None, Code.DENIED),
        (Network(deny_hosts=("*.a.test",)), "a.test", None, None),
        (Network(deny_hosts=("*.a.test",)), "nota.test", None, None),
        (Network(deny_hosts=("10.0.0.0/8",)), "a.test", "10.1.2.3", Code.DENIED),
        (Network(deny_hosts=("10.0.0.0/8",)), "a.test", "::ffff:10.1.2.3", Code.DENIED),
        (Network(deny_hosts=("10.0.0.0/8",)), "a.test", "64:ff9b::a01:203", Code.DENIED),
        (Network(deny_hosts=("10.0.0.0/8",)), "a.test", "11.1.2.3", None),
        (Network(allow_hosts=("a.test",)), "a.test", None, None),
        (Network(allow_hosts=("a.test",)), "b.test", None, Code.DENIED),
        (Network(allow_hosts=("a.test",)), "a.test", "10.0.0.1", None),
        (Network(allow_hosts=("a.test",)), "10.0.0.1", "10.0.0.1", Code.DENIED),
        (Network(allow_hosts=("10.0.0.0/8",)), "b.test", None, None),
        (Network(allow_hosts=("10.0.0.0/8",)), "b.test", "10.0.0.1", None),
        (Network(allow_hosts=("10.0.0.0/8",)), "b.test", "11.0.0.1", Code.DENIED),
        (Network(allow_private=False, allow_hosts=("10.0.0.0/8",)), "b.test", "10.0.0.1", None),
        (Network(allow_private=False, allow_hosts=("b.test",)), "b.test", "10.0.0.1", Code.DENIED),
        (Network(allow_hosts=("*.test",), deny_hosts=("b.test",)), "b.test", None, Code.DENIED),
    ],
)
def test_rules_for_hosts(rules: Network, host: str, address: str | None, wanted: Code | None) -> None:
    assert code(rules, host, address) is wanted


def test_ports() -> None:
    rules = Network(ports=(80, 443))
    assert code(rules, "a.test") is None
    assert code(rules, "a.test", port=8080) is Code.DENIED
    assert code(rules, "127.0.0.1", port=22) is Code.DENIED


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"]
)
def test_nothing_is_sent_to_a_forbidden_address(server: socket.socket, host: str) -> None:
    """However it is spelt: the resolver has the last word, and its answer is what is judged."""
    port = server.getsockname()[1]
    with pytest.raises(TransferError) as caught:
        dial(host, port, 5, PUBLIC_ONLY, lambda _sock: None)
    assert caught.value.code is Code.DENIED
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()
    dial(host, port, 5, Network(), lambda _sock: None).close()


def test_a_name_that_leads_elsewhere_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the address that is judged is the one that is used, and every connection is judged."""
    with socket.create_server(("127.0.0.2", 0)) as allowed:
        port = allowed.getsockname()[1]
        answers = ["127.0.0.2", "127.0.0.1"]
        asked: list[str] = []

        def resolve(host: str, port: int, **_: object) -> list[object]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[len(asked) - 1], port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        rules = Network(allow_private=False, allow_hosts=("127.0.0.2/32",))
        with dial("rebound.test", port, 5, rules, lambda _sock: None) as sock:
            assert sock.getpeername()[0] == "127.0.0.2"
        assert asked == ["rebound.test"], "asked once: a second answer could be another"
        with pytest.raises(TransferError) as caught:
            dial("rebound.test", port, 5, rules, lambda _sock: None)
        assert caught.value.code is Code.DENIED


def test_a_socket_can_be_shut_while_it_connects() -> None:
    """A stop need not wait for the time-out of a host that does not answer."""
    threads: list[threading.Thread] = []

    def shut_soon(sock: socket.socket) -> None:
        def shut() -> None:
            state = b""
            while state != b"\x02":  # SYN_SENT (tcp(7))
                state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            sock.shutdown(socket.SHUT_RDWR)

        threads.append(threading.Thread(target=shut))
        threads[-1].start()

    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # with a full queue the kernel answers no more: the connection stays half made
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(OSError, match="Errno") as caught:
            dial("127.0.0.1", full.getsockname()[1], 60, Network(), shut_soon)
        assert not isinstance(caught.value, TimeoutError)
        for one in waiting:
            one.close()
    for thread in threads:
        thread.join(10)
