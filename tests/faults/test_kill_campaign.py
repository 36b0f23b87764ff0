"""A short kill campaign: all processes of the daemon die at random moments, and everything holds.

`python -m tests.faults.kill_campaign` is the long one.
"""

import os
import random

from .campaign import run
from .kill_campaign import show

ROUNDS = int(os.environ.get("FETCHD_KILLS", "30"))


def test_kills_at_random_moments() -> None:
    """Guarantees 1, 2 and 4. A failure prints its seed and the stories of the jobs."""
    seed = random.randrange(1 << 32)
    report = run(ROUNDS, seed)
    show(report)
    assert not report.wrong, f"seed {seed}: {report.wrong[:20]}"
    assert sum(report.kills.values()) >= ROUNDS // 2
    assert report.told["submit"] > 0
