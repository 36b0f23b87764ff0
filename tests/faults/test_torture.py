"""A sample of system calls that kill their process or fail: every job comes to its right end all the same.

The campaign is `python -m tests.faults.torture`; it has a process and mounts of its own.
"""

import pytest
from support import campaign, intercept, volumes


@pytest.mark.parametrize("deeds", ["kill", "EIO,ENOSPC,ENOSPC+"])
def test_a_sample_of_calls(deeds: str) -> None:
    if reason := volumes.why_not(loop=False) or intercept.why_not():
        pytest.skip(reason)
    status, output = campaign.run("torture", "--deeds", deeds, "--runs", "4")
    assert status == 0, output
    assert "4 runs, 0 with faults" in output
