"""The side of a scripted daemon that is reached over TCP, with CURVE."""

import zmq
from zmq.utils import z85


class Tcp:
    """How a scripted daemon is reached over TCP: at `host`, with its own key, by those whose key it knows."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = f"[{host}]" if ":" in host else host
        self.port = "*"  # the same one again after a restart
        public, secret = zmq.curve_keypair()
        self.public, self.secret = public.decode(), secret
        self.known: set[str] = set()

    def bind(self, sock: "zmq.Socket[bytes]", port: str) -> str:
        """Bind a socket; its port."""
        sock.ipv6 = ":" in self.host
        sock.curve_server, sock.curve_secretkey = True, self.secret
        sock.setsockopt(zmq.ZAP_DOMAIN, b"x")
        sock.bind(f"tcp://{self.host}:{port}")
        bound = sock.last_endpoint
        assert isinstance(bound, bytes)
        return bound.decode().rpartition(":")[2]

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"tcp://{self.host}:{self.port}"

    def judge(self, request: list[bytes]) -> list[bytes]:
        """The answer to a ZAP request (RFC 27)."""
        known = z85.encode(request[6]).decode() in self.known
        return [*request[:2], b"200" if known else b"400", b"", b"", b""]
