"""A daemon on a kernel that lacks a layer of the sandbox: it says so, and starts only if it may."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import kernels
from support.cli import Fetchd
from support.daemon import DaemonProcess, StartError
from support.origin import Origin, Resource

from fetchd.daemon.sandbox import room

LESSER: dict[str, tuple[kernels.Calls, str]] = {
    "landlock": (kernels.NO_LANDLOCK, "unavailable: Function not implemented"),
    "seccomp": (kernels.NO_SECCOMP, "unavailable: Operation not permitted"),
}
if os.geteuid() == 0:  # who has none gives none up
    LESSER["capabilities"] = (kernels.NO_CAPSET, "unavailable: Operation not permitted")

pytestmark = pytest.mark.skipif(bool(lacking := room.missing(room.probe())), reason=str(lacking))


@pytest.mark.parametrize("layer", LESSER)
def test_required(make_daemon: Callable[..., DaemonProcess], layer: str) -> None:
    """It does not start, and says why; the state directory is not even made."""
    refused, why = LESSER[layer]
    daemon = make_daemon({"FETCHD_SANDBOX": "required"}, wrapper=kernels.wrapper(refused))
    with pytest.raises(StartError, match=re.escape(f"sandbox = required, but {layer}: {why}")):
        daemon.start()
    assert "Traceback" not in daemon.log()
    assert not daemon.state.exists()


@pytest.mark.parametrize("layer", LESSER)
def test_best_effort(
    make_daemon: Callable[..., DaemonProcess], origin: Origin, downloads: Path, layer: str
) -> None:
    """Downloads run in what there is of the room; log, status and doctor name the layer that is missing."""
    refused, why = LESSER[layer]
    wrapper = kernels.wrapper(refused)
    daemon = make_daemon({"FETCHD_SANDBOX": "best-effort"}, wrapper=wrapper).start()
    with daemon.client() as client:
        client.submit(origin.add("/f", Resource(size=1000)), directory=downloads).result(timeout=30)
        layers = client.status().sandbox
    assert layers == dict.fromkeys(room.LAYERS, "on") | {layer: why}
    log = [line for line in daemon.log().splitlines() if "sandbox (best-effort)" in line]
    assert len(log) == 1
    assert f"{layer} {why}" in log[0]
    assert "WARN" in log[0].upper()
    fetchd = Fetchd(daemon.env, downloads)
    assert f"{layer}: {why}" in fetchd("daemon", "status").out
    command = [*wrapper, sys.executable, "-m", "fetchd.daemon", "doctor"]
    doctor = subprocess.run(command, env=daemon.env, capture_output=True, text=True, check=False).stdout
    assert re.search(rf"warn\s+{layer}:? +{re.escape(why)}", doctor), doctor
