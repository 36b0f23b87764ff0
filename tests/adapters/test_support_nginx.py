"""The nginx fixture serves files, over TLS too, and can be stopped and started again."""

import socket
import urllib.request

import pytest
from support.content import Pattern, first_difference, pattern, write_content
from support.nginx import Nginx
from support.tls import Certificates


def read(url: str, **headers: str) -> bytes:
    """The body of a GET."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    with urllib.request.urlopen(request, timeout=10) as response:
        data: bytes = response.read()
    return data


def test_serves_files(nginx: Nginx) -> None:
    write_content(nginx.www / "f", Pattern(300_000, 1))
    assert read(nginx.url("f")) == pattern(300_000, 1)
    assert read(nginx.url("f"), Range="bytes=10-19") == pattern(300_000, 1)[10:20]
    assert read(nginx.url("slow/f"), Range="bytes=0-9") == pattern(10, 1)
    assert len(read(nginx.url("norange/f"), Range="bytes=0-9")) == 300_000
    assert read(nginx.url("gzip/f"), Accept_Encoding="gzip")[:2] == b"\x1f\x8b"


def test_serves_https(nginx: Nginx, https: Certificates) -> None:
    (nginx.www / "f").write_bytes(b"secret")
    for host in ("localhost", "127.0.0.1"):
        with urllib.request.urlopen(
            nginx.url("f", https=True, host=host), timeout=10, context=https.client_context()
        ) as response:
            assert response.read() == b"secret"


def test_stop_and_restart_keep_the_port(nginx: Nginx) -> None:
    (nginx.www / "f").write_bytes(b"x")
    nginx.restart()
    assert read(nginx.url("f")) == b"x"
    nginx.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", nginx.http_port), 10)
    nginx.start()
    assert read(nginx.url("f")) == b"x"


def test_broken_configuration_is_told(nginx_process: Nginx) -> None:
    broken = Nginx(extra="nonsense;")
    try:
        with pytest.raises(RuntimeError, match="nonsense"):
            broken.start()
    finally:
        broken.close()


def test_first_difference(nginx: Nginx) -> None:
    path = nginx.www / "f"
    write_content(path, Pattern(200_000, 1))
    assert first_difference(path, Pattern(200_000, 1)) is None
    assert first_difference(path, Pattern(200_001, 1)) == 200_000
    assert first_difference(path, Pattern(199_999, 1)) == 199_999
    with path.open("r+b") as file:
        file.seek(150_000)
        file.write(bytes([pattern(150_001, 1)[-1] ^ 1]))
    assert first_difference(path, Pattern(200_000, 1)) == 150_000
