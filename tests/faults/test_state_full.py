"""The state directory's file system is full: everything waits, what users ask for is still written.

A ballast is given up for what has to be written to come to rest. It is made again when there is room.
"""

from pathlib import Path

from support.content import sha256_file, sha256_of
from support.daemon import DaemonProcess
from support.mounts import fill, mounted_at
from support.origin import Origin, Resource
from support.wait import exists, vanished

from fetchd.protocol.job import Reason, State

MIB = 1 << 20


def test_a_full_state_directory(make_daemon: type[DaemonProcess], origin: Origin, downloads: Path) -> None:
    daemon = make_daemon({"FETCHD_BACKUP_INTERVAL": "0"})
    daemon.state.mkdir(mode=0o700)
    with mounted_at(daemon.state, "size=16m,mode=700"):
        daemon.start()
        ballast = daemon.state / "ballast"
        exists(ballast)
        gate = origin.gate()
        with daemon.client() as client:
            url = origin.add("/held", Resource(size=1000, seed=1), "stall", times=1, gate=gate)
            client.submit(url, directory=downloads, id="held")
            gate.wait_arrived()
            filler = fill(daemon.state)
            number = 0
            while ballast.exists():
                # each takes some room in the write-ahead log
                url = origin.add(f"/f{number}", Resource(size=1000, seed=number))
                client.submit(url, directory=downloads, id=f"f{number}", priority=-1, labels={"x": "y" * 250})
                number += 1
                assert number < 2000
            vanished(ballast)
            (told,) = client.status().held
            assert (told.kind, told.reason) == ("daemon", Reason.DISK)
            late = client.submit(origin.add("/late", Resource(size=1000)), directory=downloads, id="late")
            assert (late.snapshot().state, late.snapshot().reason) == (State.PAUSED, Reason.DISK)
            assert late.cancel()
            gate.open()
            filler.unlink()
            exists(ballast, timeout=60)
            for n in range(number):
                path = client.get(f"f{n}").result(timeout=60).path
                assert sha256_file(path) == sha256_of(1000, n)
            client.get("held").result(timeout=60)
            assert late.snapshot().state is State.CANCELLED
        assert daemon.terminate() == 0
