"""Four power cuts: nothing acknowledged is lost, nothing wrong is under a final name, nothing is left.

The campaign is `python -m tests.faults.power_cut`; it has a process and mounts of its own.
"""

import pytest
from support import campaign, intercept, volumes


@pytest.fixture(autouse=True)
def here() -> None:
    """Skips where there are no loop devices, or system calls cannot be intercepted."""
    if reason := volumes.why_not(loop=True) or intercept.why_not():
        pytest.skip(reason)


def test_what_was_said_is_on_the_disk_after_a_power_cut() -> None:
    status, output = campaign.run("power_cut", "--cuts", "4")
    assert status == 0, output
    assert "4 cuts" in output


def test_the_campaign_notices_a_database_that_is_not_synced() -> None:
    status, output = campaign.run("power_cut", "--cuts", "1", "--without", "fdatasync:fetchd.db")
    assert status == 1, output
    assert "was acknowledged and is gone" in output
