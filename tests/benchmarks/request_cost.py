"""What a small request costs: http.client, a urllib3 pool, requests.Session and ours, on one kept connection.

    python tests/benchmarks/request_cost.py [REQUESTS]

Prints µs of CPU (this process; the server is another one) and of wall time for a request of 4 KiB, and how
many times as much as http.client in the same run. The server is nginx.
"""

import http.client
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import requests
import urllib3

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.nginx import Nginx

from fetchd.daemon.transfer.connect import Managers
from fetchd.daemon.transfer.exchange import Exchange
from fetchd.daemon.transfer.registry import Transfers
from fetchd.daemon.worker.attempt import Attempt
from fetchd.protocol.mailbox import Assign, Validator

SIZE = 4096
ROUNDS = 3


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with closing(Nginx().start()) as server:
        (server.www / "small").write_bytes(b"x" * SIZE)
        url = server.url("small")
        port = int(url.split(":")[2].partition("/")[0])
        managers = Managers()
        pool = urllib3.PoolManager()
        session, quiet = requests.Session(), requests.Session()
        quiet.trust_env = False
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def bare() -> int:
            connection.request("GET", "/small")
            return len(connection.getresponse().read())

        exchange = Exchange(_attempt(url), managers)

        def ours() -> int:
            with exchange.ask(url, {}) as answer:
                data = answer.raw.read()
                answer.reusable = True
                return len(data)

        ways: dict[str, Callable[[], int]] = {
            "http.client": bare,
            "urllib3 pool": lambda: len(pool.request("GET", url, retries=False).data),
            "requests.Session": lambda: len(session.get(url).content),
            "  trust_env=False": lambda: len(quiet.get(url).content),
            "fetchd exchange": ours,
        }
        best = {name: min(measured(way, count) for _ in range(ROUNDS)) for name, way in ways.items()}
        for name, (cpu, wall) in best.items():
            print(f"{name:20} {cpu:8.0f} µs cpu {wall:8.0f} µs wall {cpu / best['http.client'][0]:6.2f} x")
        for made in (connection, session, quiet, managers):
            made.close()
        pool.clear()


def measured(way: Callable[[], int], count: int) -> tuple[float, float]:
    """µs of CPU and of wall time for one request."""
    assert way() == SIZE
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        way()
    return (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6


def _attempt(url: str) -> Attempt:
    task = Assign(
        job="job", attempt=1, workspace=tempfile.gettempdir(), url=url, headers={}, checksum=None,
        generation=0, have=[], validator=Validator(), total=None, connect_timeout=5.0, read_timeout=5.0,
    )  # fmt: skip
    return Attempt(task, Transfers(), "", lambda _report: None)


if __name__ == "__main__":
    main()
