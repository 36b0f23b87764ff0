"""Row 6: durable submits, in batches and one at a time, into a daemon that is idle or writes files.

python -m tests.benchmarks.submits [--batches N] [--queued N] [--single N] [--rounds N] [--quick] [--profile]

The only worker holds on to an origin that never answers, so that nothing is fetched. "messages" are encoded
beforehand and say what the daemon takes; "submit_many" is the whole way of a program that uses the client.
aria2's submits are not durable.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import zmq
from tests.support.daemon import DaemonProcess
from tests.support.net import silent_port

from fetchd.client import Client, State
from fetchd.client.specs import new_job
from fetchd.protocol import codec
from fetchd.protocol.control import ReplyHeader, RequestHeader, Submit
from fetchd.protocol.ids import new_request_id
from fetchd.protocol.version import PROTOCOL

from . import profiling, table
from .meter import Cost, metered
from .peers import Aria2, missing
from .stage import MIB, Field, add_profile, daemon, field, options, origin

BATCH = 1000
RATE_GOAL = 15_000
P50_GOAL, P99_GOAL = 0.001, 0.100
WRITERS, WRITE_RATE = 3, 40 * MIB
"""Downloads that write while submits are timed, and how fast each, in bytes a second."""


class Messages:
    """A DEALER that sends submits which were encoded beforehand."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(endpoint)

    def __enter__(self) -> "Messages":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(0)

    def exchange(self, frames: list[bytes]) -> None:
        """Send one and wait for its answer; RuntimeError if it is refused."""
        self._socket.send_multipart(frames)
        header, body = self._socket.recv_multipart()
        if not codec.decode(header, ReplyHeader).ok:
            raise RuntimeError(f"refused: {body!r}")


def encoded(url: str, count: int) -> list[bytes]:
    """A submit of `count` new jobs as frames."""
    header = RequestHeader(v=PROTOCOL, type="submit", req=new_request_id())
    jobs = [new_job(url, directory="/tmp", umask=0o022) for _ in range(count)]
    return [codec.encode(header), codec.encode(Submit(jobs=jobs))]


@contextmanager
def stalled(url: str, workers: int = 1) -> Iterator[tuple[DaemonProcess, Client]]:
    """A daemon of which one worker is busy for ever."""
    env = {"FETCHD_WORKERS": str(workers), "FETCHD_READ_TIMEOUT": "86400", "FETCHD_STOP_GRACE": "0.5"}
    with daemon(env) as process, process.client() as client:
        job = client.submit(url, directory="/tmp", priority=100)
        for event in job.events():
            if event.snapshot is not None and event.snapshot.state is State.RUNNING:
                break
        yield process, client
        client.shutdown(now=True)


def by_messages(process: DaemonProcess, url: str, batches: int, _round: int) -> Cost:
    """Batches, one after the other, without the client's work."""
    requests = [encoded(url, BATCH) for _ in range(batches)]
    with Messages(process.endpoint.control) as messages, metered(process.pid) as meter:
        for request in requests:
            messages.exchange(request)
    return meter.cost


def by_client(process: DaemonProcess, client: Client, url: str, batches: int, _round: int) -> Cost:
    """The same by the client library."""
    with metered(process.pid) as meter:
        client.submit_many({"url": url, "directory": "/tmp"} for _ in range(batches * BATCH))
    return meter.cost


def by_aria2(url: str, count: int, _round: int) -> Cost:
    """One multicall into an aria2 of its own, the first download of which holds up all others."""
    with Aria2("-j1") as peer:
        peer.add([url], Path("/tmp"))
        with metered(peer.process.pid) as meter:
            peer.add([f"{url}/{number}" for number in range(count)], Path("/tmp"))
    return meter.cost


def singles(process: DaemonProcess, url: str, count: int) -> list[float]:
    """Seconds that each of `count` single submits took."""
    requests = [encoded(url, 1) for _ in range(count)]
    with Messages(process.endpoint.control) as messages:
        return [_timed(messages, request) for request in requests]


def _timed(messages: Messages, request: list[bytes]) -> float:
    began = time.perf_counter()
    messages.exchange(request)
    return time.perf_counter() - began


def aria2_singles(url: str, count: int) -> list[float]:
    """The same for calls of aria2's RPC on one connection."""
    took = []
    with Aria2("-j1") as peer:
        for number in range(count):
            began = time.perf_counter()
            peer.add_one(f"{url}/{number}", Path("/tmp"))
            took.append(time.perf_counter() - began)
    return took


def while_writing(url: str, seconds: int, place: Field) -> tuple[list[float], float]:
    """Single submits for as long as three downloads write; how long each took, and the loop's p99."""
    took: list[float] = []
    with origin(WRITE_RATE) as server, stalled(url, workers=1 + WRITERS) as (process, client):
        jobs = []
        for number in range(WRITERS):
            with (server.www / f"w{number}").open("wb") as file:
                file.truncate(seconds * WRITE_RATE)  # holes are as good as bytes to those who fetch them
            jobs.append(client.submit(server.url(f"slow/w{number}"), directory=place.fresh(), priority=99))
        with client.follow(jobs) as follower, Messages(process.endpoint.control) as messages:
            while len(follower.live) == WRITERS:
                took += [_timed(messages, encoded(url, 1)) for _ in range(20)]
                follower.step(time.monotonic())
        return took, client.status().loop_p99


def fill(process: DaemonProcess, url: str, jobs: int) -> float:
    """Bring the queue to about so many; jobs taken a second."""
    batches = jobs // BATCH
    began = time.perf_counter()
    with Messages(process.endpoint.control) as messages:
        for number in range(batches):
            messages.exchange(encoded(url, BATCH))
            if number % 100 == 99:
                table.say(f"{(number + 1) * BATCH} queued")
    return batches * BATCH / (time.perf_counter() - began)


def rates(costs: Sequence[Cost], count: int) -> list[float]:
    """Jobs a second in each round."""
    return [count / cost.wall for cost in costs]


def at_least(what: str, values: Sequence[float], goal: float | None = RATE_GOAL) -> table.Row:
    """The row of a rate of ours with an absolute goal."""
    shown = f"{table.per_second(median(values))} ({min(values):,.0f}–{max(values):,.0f})"
    return table.Row(
        what, shown, goal=f"≥ {goal:,}/s" if goal else "", met=median(values) >= goal if goal else None
    )


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--batches", type=int, default=20, help="batches of 1,000 in a round [20]")
    parser.add_argument(
        "--queued", type=int, default=100_000, help="jobs queued for the second part [100000]"
    )
    parser.add_argument("--single", type=int, default=2000, help="single submits [2000]")
    parser.add_argument("--writing", type=int, default=15, help="seconds of writing beside them [15]")
    add_profile(parser)
    chosen: Any = parser.parse_args(arguments)
    if chosen.quick:
        chosen.batches, chosen.queued, chosen.single, chosen.writing = 5, 10_000, 300, 5
    with silent_port() as port, field() as place:
        place.fresh()
        url = f"http://127.0.0.1:{port}/file"
        rows = _profile(chosen, url) if chosen.profile else _rows(chosen, url, place)
        if rows:
            table.show(f"Row 6: durable submits, {chosen.rounds} rounds", rows, place.disk)


def _profile(chosen: Any, url: str) -> list[table.Row]:
    with stalled(url) as (process, client):
        with profiling.profiled(f"row 6, {chosen.batches} prepared messages of 1,000", process.pid):
            by_messages(process, url, chosen.batches, 0)
        with profiling.profiled(f"row 6, {chosen.single} prepared messages of one", process.pid):
            singles(process, url, chosen.single)
        with profiling.profiled(f"row 6, the client: {chosen.batches} × 1,000 by submit_many", os.getpid()):
            by_client(process, client, url, chosen.batches, 0)
    return []


def _rows(chosen: Any, url: str, place: Field) -> list[table.Row]:
    count = chosen.batches * BATCH
    have_aria2 = not missing("aria2c")
    with stalled(url) as (process, client):
        found = table.rounds(
            {
                "messages": partial(by_messages, process, url, chosen.batches),
                "submit_many": partial(by_client, process, client, url, chosen.batches),
                **({"aria2": partial(by_aria2, url, count)} if have_aria2 else {}),
            },
            chosen.rounds,
        )
        alone = singles(process, url, chosen.single)
        filling = fill(process, url, chosen.queued)
        full = table.rounds({"messages": partial(by_messages, process, url, chosen.batches)}, chosen.rounds)
        queued = client.status().counts["queued"]
    rows = [at_least("batches, messages", rates(found["messages"], count))]
    rows.append(at_least("batches, submit_many", rates(found["submit_many"], count)))
    if have_aria2:
        theirs = rates(found["aria2"], count)
        rows.append(
            table.compare(
                "  against aria2's multicall", rates(found["messages"], count), theirs, table.per_second
            )
        )
    rows.append(at_least(f"filling with {chosen.queued:,}, encoding included", [filling], None))
    rows.append(at_least(f"batches at {queued:,} queued", rates(full["messages"], count)))
    rows.append(table.bounded("one at a time, p50", median(alone), table.seconds, P50_GOAL))
    rows.append(table.bounded("one at a time, p99", table.percentile(alone, 0.99), table.seconds))
    if have_aria2:
        calls = aria2_singles(url, min(chosen.single, 500))
        rows.append(
            table.compare("  p50 against aria2's addUri", [median(alone)], [median(calls)], table.seconds)
        )
    took, turn = while_writing(url, chosen.writing, place)
    rows.append(table.bounded(f"while three write, p50 of {len(took)}", median(took), table.seconds))
    rows.append(
        table.bounded("while three write, p99", table.percentile(took, 0.99), table.seconds, P99_GOAL)
    )
    rows.append(table.bounded("  the loop's turn, p99", turn, table.seconds))
    return rows


if __name__ == "__main__":
    main()
