"""A real nginx on loopback, in the foreground, in a directory of its own.

Its listening sockets are made here and inherited by it (the variable NGINX of its binary upgrade), so the
ports are known before it runs, a connection never comes too early, and nothing has to poll for readiness. It
has a master and one worker: without a master, nginx 1.22 dies by SIGSEGV on inherited sockets.
"""

import os
import select
import shutil
import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress

from . import tls
from .net import listen
from .tmp import TempDir
from .wait import Deadline, process_exit

MISSING = "nginx is missing (apt-get install nginx): tests against a real server are left out"

_CONFIG = """\
{user}
daemon off;
worker_processes 1;
pid {base}/nginx.pid;
error_log {base}/error.log notice;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    access_log {base}/access.log;
    client_body_temp_path {base}/tmp;
    proxy_temp_path {base}/tmp;
    fastcgi_temp_path {base}/tmp;
    uwsgi_temp_path {base}/tmp;
    scgi_temp_path {base}/tmp;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    {extra}
    server {{
        listen 127.0.0.1:{http};
        {https}
        server_name localhost;
        root {base}/www;
        location = /ready {{ return 204; }}
        location /slow/ {{ alias {base}/www/; limit_rate {rate}; }}
        location /gzip/ {{ alias {base}/www/; gzip on; gzip_types *; gzip_min_length 1; }}
        location /norange/ {{ alias {base}/www/; max_ranges 0; }}
    }}
}}
"""


def find() -> str | None:
    """The nginx binary; Debian keeps it outside a user's PATH."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Nginx:
    """The server; use `start` and `close`. Files go below `www`.

    `/slow/NAME` is paced at `rate` bytes a second a connection, `/gzip/NAME` compressed for those who accept
    it, `/norange/NAME` without ranges. `https_port` and `certificates` are None where openssl is missing.
    `extra` is text for the http block.
    """

    def __init__(self, rate: int = 1 << 20, extra: str = "") -> None:
        binary = find()
        if binary is None:
            raise FileNotFoundError(MISSING)
        self._binary = binary
        self._rate = rate
        self._extra = extra
        self._temp = TempDir()
        self._base = self._temp.path
        self.www = self._base / "www"
        self.process: subprocess.Popen[bytes] | None = None
        self.http_port = 0
        self.https_port: int | None = None
        self.certificates: tls.Certificates | None = None
        for name in ("www", "tmp", "tls"):
            (self._base / name).mkdir()
        if tls.have_openssl():
            self.certificates = tls.make_certificates(self._base / "tls")

    def url(self, name: str, *, https: bool = False, host: str = "127.0.0.1") -> str:
        """The URL of a file below `www`."""
        port = self.https_port if https else self.http_port
        assert port, tls.MISSING if https else "nginx has not been started"
        return f"{'https' if https else 'http'}://{host}:{port}/{name}"

    def start(self, timeout: float = 10.0) -> "Nginx":
        """Run it and wait until it answers. A second start uses the same ports."""
        assert self.process is None, "nginx runs already"
        listeners = [listen(self.http_port)]
        self.http_port = listeners[0].getsockname()[1]
        if self.certificates is not None:
            listeners.append(listen(self.https_port or 0))
            self.https_port = listeners[1].getsockname()[1]
        try:
            self._spawn(listeners)
        finally:
            for listener in listeners:
                listener.close()
        try:
            self._await_ready(timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """End it: its ports refuse connections from now on."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            process_exit(self.process.pid, timeout)
        except TimeoutError:
            self.process.kill()
            raise
        finally:
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """End it, and all connections with it, and start it again on the same ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it and remove its directory."""
        try:
            self.stop()
        finally:
            self._temp.close()

    def clear(self) -> None:
        """Remove everything below `www`, and run again if a test stopped it."""
        shutil.rmtree(self.www)
        self.www.mkdir()
        if self.process is None:
            self.start()

    def log(self) -> str:
        """Its error log."""
        path = self._base / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _spawn(self, listeners: Iterable[socket.socket]) -> None:
        fds = [listener.fileno() for listener in listeners]
        https = ""
        if self.certificates is not None:
            https = (
                f"listen 127.0.0.1:{self.https_port} ssl; ssl_certificate {self.certificates.certificate}; "
                f"ssl_certificate_key {self.certificates.key};"
            )
        config = self._base / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        text = _CONFIG.format(
            user=user, base=self._base, http=self.http_port, https=https, rate=self._rate, extra=self._extra
        )
        config.write_text(text)
        with (self._base / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [self._binary, "-p", str(self._base), "-c", str(config), "-e", str(self._base / "error.log")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "NGINX": "".join(f"{fd};" for fd in fds)},
                pass_fds=fds, start_new_session=True,
            )  # fmt: skip

    def _await_ready(self, timeout: float) -> None:
        """Ask for /ready. An nginx that dies closes its sockets, and that may be seen before its end is."""
        assert self.process is not None
        deadline = Deadline(timeout)
        pidfd = os.pidfd_open(self.process.pid)
        answer = b""
        try:
            with (
                suppress(ConnectionError),
                socket.create_connection(("127.0.0.1", self.http_port), timeout) as probe,
            ):
                probe.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
                poller = select.poll()
                poller.register(pidfd, select.POLLIN)
                poller.register(probe, select.POLLIN)
                while not (ready := dict(poller.poll(deadline.left("nginx to answer") * 1000))):
                    pass
                if probe.fileno() in ready:
                    answer = probe.recv(4096)
        finally:
            os.close(pidfd)
        if b" 204 " not in answer:
            raise RuntimeError(f"nginx does not run:\n{self._output()}")

    def _output(self) -> str:
        return (self._base / "output").read_text(errors="replace") + self.log()
