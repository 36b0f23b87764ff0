"""Staging areas: on the destination's mount, locked, private, made on demand and removed when empty."""

import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.tmp import TempDir

from fetchd.daemon.supervise import mounts as module
from fetchd.daemon.supervise.area import HIDDEN, Areas
from fetchd.protocol.errors import Code, FetchdError

from .staged import INSTANCE, no_descriptors

NOBODY = 65534


def refusal(areas: Areas, directory: Path | str) -> str:
    with pytest.raises(FetchdError) as caught:
        areas.for_directory(str(directory))
    assert caught.value.code is Code.DESTINATION
    return caught.value.message


def test_the_state_directory_serves_its_own_mount(areas: Areas, state: Path, downloads: Path) -> None:
    wanted = str(state / HIDDEN / INSTANCE)
    for directory in (downloads, state, downloads / "new" / "deep"):
        assert areas.for_directory(str(directory)) == (str(directory), wanted)
    assert not (downloads / "new").exists()
    for path in (state / HIDDEN, Path(wanted), Path(wanted, "jobs"), Path(wanted, "rooms")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_links_are_resolved_once(areas: Areas, downloads: Path) -> None:
    (downloads / "real").mkdir()
    (downloads / "link").symlink_to("real")
    assert areas.for_directory(str(downloads / "link" / "x"))[0] == str(downloads / "real" / "x")


def test_a_state_directory_behind_a_link_is_known_by_its_mount(downloads: Path, mount: Path) -> None:
    (mount / "state").mkdir(mode=0o700)
    (downloads / "state").symlink_to(mount / "state")
    areas = Areas(downloads / "state", INSTANCE, {})
    try:
        assert areas.default == str(mount / "state" / HIDDEN / INSTANCE)
        assert areas.for_directory(str(mount))[1] == areas.default
        other = areas.for_directory(str(downloads))[1]
        assert other == str(downloads / HIDDEN / INSTANCE)
    finally:
        areas.close()


def test_another_mount_has_an_area_of_its_own(areas: Areas, mount: Path) -> None:
    """Beside the first destination; other destinations on that mount use it too, until it is dropped."""
    wanted = str(mount / HIDDEN / INSTANCE)
    assert areas.for_directory(str(mount)) == (str(mount), wanted)
    (mount / "deeper").mkdir()
    assert areas.for_directory(str(mount / "deeper")) == (str(mount / "deeper"), wanted)
    assert areas.known() == [areas.default, wanted]
    areas.drop_empty(wanted)
    assert sorted(path.name for path in mount.iterdir()) == ["deeper"]
    assert areas.known() == [areas.default]
    assert areas.for_directory(str(mount / "deeper"))[1] == str(mount / "deeper" / HIDDEN / INSTANCE)


@pytest.mark.parametrize("part", ["jobs", "rooms"])
def test_an_area_is_kept_while_something_lies_in_it(areas: Areas, mount: Path, part: str) -> None:
    _, area = areas.for_directory(str(mount))
    (Path(area) / part / "x").mkdir()
    areas.drop_empty(area)
    assert sorted(path.name for path in Path(area).iterdir()) == ["jobs", "lock", "rooms"]
    (Path(area) / part / "x").rmdir()
    areas.drop_empty(area)
    assert list(mount.iterdir()) == []


@pytest.mark.parametrize("gone", [("rooms",), ("rooms", "jobs"), ("rooms", "jobs", "lock")])
def test_what_a_drop_that_failed_has_left_is_dropped(
    areas: Areas, mount: Path, gone: tuple[str, ...]
) -> None:
    """An error between two of its steps must not keep the area there for ever."""
    _, area = areas.for_directory(str(mount))
    for part in gone:
        (Path(area, part).unlink if part == "lock" else Path(area, part).rmdir)()
    areas.drop_empty(area)
    assert list(mount.iterdir()) == []
    assert area not in areas.known()


def test_a_link_in_the_place_of_an_area_is_not_followed_when_it_is_dropped(areas: Areas, mount: Path) -> None:
    _, area = areas.for_directory(str(mount))
    precious = mount / "precious"
    (precious / "rooms").mkdir(parents=True)
    (precious / "lock").touch()
    Path(area).rename(mount / "moved")
    Path(area).symlink_to(precious)
    areas.drop_empty(area)
    assert sorted(path.name for path in precious.iterdir()) == ["lock", "rooms"]


def test_the_default_area_stays(areas: Areas) -> None:
    areas.drop_empty(areas.default)
    assert os.path.isdir(areas.default)


def test_an_area_that_was_dropped_is_made_again(areas: Areas, mount: Path) -> None:
    _, area = areas.for_directory(str(mount))
    areas.drop_empty(area)
    areas.open(area)
    assert sorted(path.name for path in Path(area).iterdir()) == ["jobs", "lock", "rooms"]
    assert area in areas.known()


def test_threads_do_not_get_into_each_others_way(areas: Areas, mount: Path) -> None:
    """One makes workspaces while others ask for directories and drop what is empty."""
    _, area = areas.for_directory(str(mount))
    errors: list[BaseException] = []
    worked: list[int] = []
    stop = threading.Event()

    def repeat(act: object) -> None:
        try:
            while not stop.is_set():
                act()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    def work() -> None:
        # as the crew does it; a spawn that fails is tried again
        room = Path(area, "rooms", f"{threading.get_ident()}")
        with suppress(FileNotFoundError):
            areas.open(area)
            os.makedirs(room)
            areas.open(area)
            assert os.path.exists(f"{area}/lock")
            assert area in areas.known()
            os.makedirs(f"{area}/jobs/{room.name}")
            os.rmdir(f"{area}/jobs/{room.name}")
            room.rmdir()
            worked.append(1)

    acts = [work, work, lambda: areas.drop_empty(area), lambda: areas.for_directory(str(mount)), areas.known]
    threads = [threading.Thread(target=repeat, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    stop.wait(1.0)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert errors == []
    assert worked


def test_a_copy_of_the_state_directory_is_kept_out(areas: Areas, state: Path, mount: Path) -> None:
    """The same instance, run by another process: neither its own area nor one on another mount is touched."""
    _, area = areas.for_directory(str(mount))
    script = (
        "import sys; from pathlib import Path\n"
        "from fetchd.daemon.supervise.area import Areas\n"
        "from fetchd.protocol.errors import FetchdError\n"
        "state, instance, area = sys.argv[1:]\n"
        "try: print(Areas(Path(state), instance, {area: ''}).known())\n"
        "except FetchdError as error: print(error.message)\n"
    )
    run = [sys.executable, "-c", script]
    with TempDir() as copy:
        other = subprocess.run([*run, str(copy), INSTANCE, area], capture_output=True, text=True, check=True)
        same = subprocess.run([*run, str(state), INSTANCE, area], capture_output=True, text=True, check=True)
    assert area not in other.stdout
    assert "in use by another daemon" in same.stdout
    assert sorted(path.name for path in Path(area).iterdir()) == ["jobs", "lock", "rooms"]


def test_areas_of_earlier_lives(state: Path, mount: Path, downloads: Path) -> None:
    """Those that are still there are opened; nothing is made where a mount is missing."""
    first = Areas(state, INSTANCE, {})
    _, area = first.for_directory(str(mount))
    (Path(area) / "jobs" / "left").mkdir()
    first.close()
    gone = downloads / "unplugged" / HIDDEN / INSTANCE
    again = Areas(state, INSTANCE, {area: str(mount), str(gone): ""})
    assert again.known() == [again.default, area]
    assert not (downloads / "unplugged").exists()
    (Path(area) / "jobs" / "left").rmdir()
    again.close()
    assert list(mount.iterdir()) == []


def test_out_of_descriptors_is_no_fault_of_the_destination(areas: Areas, mount: Path) -> None:
    with no_descriptors(), pytest.raises(FetchdError) as caught:
        areas.for_directory(str(mount))
    assert (caught.value.code, caught.value.retry_after) == (Code.BUSY, 1.0)


def test_where_nothing_can_be_put(areas: Areas, downloads: Path) -> None:
    (downloads / "file").touch()
    assert "not a directory" in refusal(areas, downloads / "file")
    assert "not a directory" in refusal(areas, downloads / "file" / "below")
    (downloads / "loop").symlink_to("loop")
    refusal(areas, downloads / "loop" / "x")
    refusal(areas, "/proc/self/nothing/here")


def test_a_path_that_is_not_text_is_refused(areas: Areas, downloads: Path) -> None:
    """It could neither be stored nor sent."""
    os.mkdir(os.fsencode(downloads) + b"/caf\xe9")
    os.symlink(b"caf\xe9", os.fsencode(downloads) + b"/link")
    assert "not UTF-8" in refusal(areas, downloads / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
class TestOthers:
    """A destination that others may write to."""

    def test_their_directory_is_not_used(self, areas: Areas, mount: Path) -> None:
        (mount / HIDDEN).mkdir(mode=0o777)
        os.chown(mount / HIDDEN, NOBODY, NOBODY)
        assert "private" in refusal(areas, mount)

    @pytest.mark.parametrize("at", [HIDDEN, f"{HIDDEN}/{INSTANCE}", f"{HIDDEN}/{INSTANCE}/jobs"])
    def test_their_link_is_not_followed(self, areas: Areas, mount: Path, downloads: Path, at: str) -> None:
        (mount / at).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for parent in (mount / HIDDEN, mount / HIDDEN / INSTANCE):
            if parent.is_dir() and parent != mount / at:
                parent.chmod(0o700)
        (downloads / "elsewhere").mkdir()
        (mount / at).symlink_to(downloads / "elsewhere")
        assert "private" in refusal(areas, mount)
        assert list((downloads / "elsewhere").iterdir()) in ([], [downloads / "elsewhere" / INSTANCE])

    def test_open_to_all_is_not_private(self, areas: Areas, mount: Path) -> None:
        (mount / HIDDEN).mkdir()
        (mount / HIDDEN).chmod(0o777)
        assert "private" in refusal(areas, mount)

    def test_a_directory_of_others(self, downloads: Path) -> None:
        """As another user, by a process: root may write everywhere."""
        downloads.chmod(0o755)
        (downloads / "home").mkdir()
        os.chown(downloads / "home", NOBODY, NOBODY)
        script = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from fetchd.daemon.supervise.area import Areas\n"
            f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            "areas = Areas(Path(sys.argv[1]), 'i', {})\n"
            "try: areas.for_directory(sys.argv[2])\n"
            "except Exception as error: print(type(error).__name__, error.code, error.message)\n"
        )
        command = [sys.executable, "-c", script, str(downloads / "home"), str(downloads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"FetchdError destination {downloads} is not writable\n"


def test_mounts_within_mounts(mount: Path, downloads: Path) -> None:
    """A bind mount is a mount of its own, although it is the same device: a rename into it fails."""
    (downloads / "inner").mkdir()
    done = subprocess.run(["mount", "--bind", str(downloads), str(downloads / "inner")], check=False)
    if done.returncode != 0:
        pytest.skip("no bind mounts here")
    try:
        assert not module.same_mount(str(downloads), str(downloads / "inner"))
        assert module.same_mount(str(downloads), str(downloads / "innermost"))
        assert not module.same_mount(str(downloads), str(mount))
    finally:
        subprocess.run(["umount", str(downloads / "inner")], check=True)
