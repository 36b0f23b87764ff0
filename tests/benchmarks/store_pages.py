"""What pages, windows, chunks and a start cost: `python tests/benchmarks/store_pages.py [ROWS]` (a million).

Half the jobs are queued, the others finished. Times are the best of several calls, in milliseconds.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fetchd.daemon.core.commands import Durable, Event, SaveJob
from fetchd.daemon.core.intents import Intent
from fetchd.daemon.core.job import Job, Lane
from fetchd.daemon.store.database import Database
from fetchd.daemon.store.reader import Question, answer
from fetchd.protocol.control import List
from fetchd.protocol.job import State

WALL = 1_800_000_000_000_000
BATCH = 5000
DONE = (State.COMPLETED, State.COMPLETED, State.COMPLETED, State.FAILED)


def job(seq: int) -> Job:
    """One of many jobs, over a thousand hosts."""
    host = f"host{seq % 1000}.test"
    state = State.QUEUED if seq % 2 else DONE[seq // 2 % 4]
    finished = None if state is State.QUEUED else WALL + seq
    return Job(
        seq=seq, id=f"{seq * 2654435761 % 2**64:016x}", owner="uid:1000", host=host, area="/data/.fetchd/x",
        url=f"https://{host}/some/path/to/a/file-{seq}.flac", directory="/data/music",
        name=f"file-{seq}.flac" if seq % 3 else None, spec_hash=b"h" * 16, created=WALL + seq,
        started=finished, finished=finished, state=state, revision=seq, size=1000,
        labels={"batch": str(seq % 100)},
    )  # fmt: skip


def fill(db: Database, rows: int) -> None:
    """Save them in batches."""
    for start in range(1, rows + 1, BATCH):
        batch: list[tuple[Durable, bytes | None]] = []
        for seq in range(start, min(start + BATCH, rows + 1)):
            one = job(seq)
            batch += [(SaveJob(seq, one), None), (Event(seq, str(one.state), WALL + seq, one), b"\x80")]
        db.apply(batch)
        db.checkpoint()


def best(call: Callable[[], Any], times: int = 5) -> float:
    """The shortest of several calls, in milliseconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found) * 1000


def main() -> None:
    """Fill a database and print a table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        db = Database(Path(directory))
        began = time.perf_counter()
        fill(db, rows)
        print(f"{rows} rows in {time.perf_counter() - began:.1f} s, {db.path.stat().st_size >> 20} MiB")
        reader = sqlite3.connect(f"file:{db.path}?mode=ro", uri=True, isolation_level=None)

        def page(**query: Any) -> float:
            question = Question(token=1, owner="uid:1000", page=List(**query))
            return best(lambda: answer(reader, question))

        lane = Lane("host1.test", "uid:1000", "", "/data/.fetchd/x")
        names = [f"file-{seq}.flac" for seq in range(1, 1000)]
        ids = [job(seq).id for seq in range(1, rows, max(1, rows // 1000))]
        bulk = Intent(number=1, owner="uid:1000", verb="cancel", failed=False, upto=rows, cursor=rows // 2)
        retry = Intent(number=1, owner="uid:1000", verb="retry", failed=True, upto=rows, cursor=rows // 2)
        table = {
            "page of 100": page(),
            "page of 1000": page(limit=1000),
            "page of 100, in the middle": page(cursor=rows // 2),
            "page of 100 failed": page(states=[State.FAILED]),
            "page of 100 running (none)": page(states=[State.RUNNING]),
            "page by a prefix of 3": page(prefix="7f3"),
            "page by a whole ID": page(prefix=job(7).id),
            "page by a label (1 in 100)": page(labels={"batch": "7"}),
            "page by a label (none)": page(labels={"batch": "x"}),
            "page since (none)": page(since=WALL * 2),
            "page of another owner": best(
                lambda: answer(reader, Question(token=1, owner="uid:1", page=List()))
            ),
            "window of 64": best(lambda: db.window(lane, None, 64)),
            "4096 lanes": best(lambda: db.lanes(4096)),
            "1000 by ID": best(lambda: db.by_ids(ids)),
            "1000 names reserved?": best(lambda: db.reserved("/data/music", names)),
            "chunk of 200, any state": best(lambda: db.chunk(bulk, 200)),
            "chunk of 200 failed": best(lambda: db.chunk(retry, 200)),
            "load": best(lambda: db.load("boot", 0, WALL), 3),
        }
        for name, value in table.items():
            print(f"{name:30} {value:9.2f} ms")
        reader.close()
        db.close()


if __name__ == "__main__":
    main()
