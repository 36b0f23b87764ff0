"""From arguments to messages."""

import os
from pathlib import Path
from typing import Any

import click
import pytest

from fetchd.client.cli.submit import place
from fetchd.client.specs import ROOM, JobOptions, absolute, batches, current_umask, name_url, new_job
from fetchd.protocol import codec
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id
from fetchd.protocol.job import JobSpec


def test_defaults() -> None:
    job = new_job("http://h/a")
    assert job.id is not None
    assert is_correlation_id(job.id)
    assert job.spec.directory == str(Path.cwd())
    assert job.spec.umask == current_umask()


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="segmnets"):
        new_job("http://h/a", segmnets=3)  # type: ignore[call-arg]


def test_options_have_the_names_of_the_specification() -> None:
    made_of_others = {"bearer", "netrc", "cookie_file", "id", "keep_partial"}
    assert set(JobOptions.__annotations__) - made_of_others == set(JobSpec.__struct_fields__) - {
        "url",
        "cookies",
    }
    unsaid: Any = dict.fromkeys(JobOptions.__annotations__.keys() - {"directory"})
    nothing = new_job("http://h/a", directory="/d", **unsaid)
    assert nothing.spec == JobSpec(url="http://h/a", directory="/d", umask=current_umask())


def test_plain_options_go_as_they_are() -> None:
    spec = new_job(
        "http://h/a", mirrors=("http://m/a",), segments=4, limit_rate=1024, min_speed=0, min_speed_time=5,
        deadline=60, max_size=0, connect_timeout=1, read_timeout=2, user_agent="me", credentials=("u", "p"),
        insecure=True, downgrade=True, if_newer=True, keep_time=False, bearer=None,
    ).spec  # fmt: skip
    assert (spec.mirrors, spec.segments, spec.limit_rate, spec.min_speed) == (["http://m/a"], 4, 1024, 0)
    assert (spec.min_speed_time, spec.deadline, spec.max_size) == (5.0, 60.0, 0)
    assert (spec.connect_timeout, spec.read_timeout, spec.user_agent) == (1.0, 2.0, "me")
    assert (spec.credentials, spec.headers) == (("u", "p"), {})
    assert (spec.insecure, spec.downgrade, spec.if_newer, spec.keep_time) == (True, True, True, False)


def test_a_bearer_token_is_a_header() -> None:
    assert new_job("http://h/a", bearer="t").spec.headers == {"Authorization": "Bearer t"}


def test_umask_is_read_and_left_alone() -> None:
    before = os.umask(0o027)
    try:
        assert current_umask() == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"id": "a.b"}, Code.INVALID_ID),
        ({"id": ""}, Code.INVALID_ID),
        ({"priority": 101}, Code.BAD_REQUEST),
        ({"labels": {"k": 1}}, Code.BAD_REQUEST),
        ({"name": ""}, Code.BAD_REQUEST),
        ({"directory": "/d/\udcff"}, Code.INVALID_DIRECTORY),
        ({"name": "\udcff"}, Code.BAD_REQUEST),
        ({"segments": 33}, Code.BAD_REQUEST),
        ({"segments": "4"}, Code.BAD_REQUEST),
        ({"limit_rate": 0}, Code.BAD_REQUEST),
        ({"deadline": float("nan")}, Code.BAD_REQUEST),
        ({"mirrors": ["http://m/"] * 32}, Code.BAD_REQUEST),
        ({"credentials": ("a",)}, Code.BAD_REQUEST),
        ({"credentials": ("a", "b"), "bearer": "t"}, Code.BAD_REQUEST),
        ({"headers": {"authorization": "x"}, "bearer": "t"}, Code.BAD_REQUEST),
        ({"cookie_file": "/nonexistent"}, Code.BAD_REQUEST),
        ({"ca": "/nonexistent"}, Code.BAD_REQUEST),
        ({"client_certificate": "/"}, Code.BAD_REQUEST),
        ({"netrc": "/nonexistent"}, Code.BAD_REQUEST),
        ({"mirrors": ["http://m/", ""]}, Code.INVALID_URL),
        ({"bearer": ""}, Code.BAD_REQUEST),
    ],
)
def test_bad_arguments(options: dict[str, object], code: Code) -> None:
    with pytest.raises(FetchdError) as caught:
        new_job("http://h/a", **options)  # type: ignore[arg-type]
    assert caught.value.code is code


def test_an_empty_url_is_called_that() -> None:
    with pytest.raises(FetchdError, match="the URL is empty"):
        new_job("")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("gopher://me:secret@h/a#part", "gopher://h/a"),
        ("me:se@cret@h/a?token=x", "h/a"),
        ("foo", "foo"),
    ],
)
def test_a_refused_job_is_named_by_its_url_without_secrets(url: str, shown: str) -> None:
    jobs = [new_job("http://other/"), new_job(url)]
    error = FetchdError(Code.INVALID_URL, job=jobs[1].id)
    name_url(error, jobs)
    assert error.details["url"] == shown


def test_directories_are_absolute_and_otherwise_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "in")
    monkeypatch.chdir(tmp_path)
    assert absolute("link") == str(tmp_path / "link")
    assert absolute("link/..") == str((tmp_path / "real").resolve())
    assert absolute("/x/y") == "/x/y"


def test_batches_keep_both_limits() -> None:
    small = [new_job("http://h/a", directory="/d") for _ in range(2001)]
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 1]
    large = [new_job("http://h/" + "x" * 60_000, directory="/d") for _ in range(40)]
    cut = list(batches(large))
    assert [job for batch in cut for job in batch] == large
    assert all(sum(len(codec.encode(job)) for job in batch) <= ROOM for batch in cut)
    assert len(cut) == 3
    assert list(batches([])) == []


@pytest.mark.parametrize(
    ("output", "directory", "expected"),
    [
        (None, "/d", (None, "/d")),
        ("a.iso", "/d", ("a.iso", "/d")),
        ("sub/a.iso", "/d", ("a.iso", "/d/sub")),
        ("/x/a.iso", "/d", ("a.iso", "/x")),
    ],
)
def test_output_and_directory(output: str | None, directory: str, expected: tuple[str | None, str]) -> None:
    assert place(output, directory) == expected


@pytest.mark.parametrize("output", ["", ".", "..", "x/"])
def test_output_must_name_a_file(output: str) -> None:
    with pytest.raises(click.UsageError):
        place(output, None)
