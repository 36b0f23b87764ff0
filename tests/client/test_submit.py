"""From the options of `get` and `add` to the arguments of `Client.submit`, without a daemon."""

import io
from typing import Any

import click
import pytest

from fetchd.client.cli.options import job_options
from fetchd.client.cli.submit import specs
from fetchd.client.specs import new_job

URLS = ("http://h/a",)


@click.command()
@job_options
def probe(**options: Any) -> list[dict[str, Any]]:
    """What would be submitted for one URL."""
    return list(specs(URLS, single=True, **options))


@click.command()
@job_options
def several(**options: Any) -> list[dict[str, Any]]:
    """What would be submitted for two."""
    return list(specs(URLS * 2, single=False, stdin=True, **options))


def asked(*arguments: str, command: click.Command = probe) -> dict[str, Any]:
    """The arguments of the first submit; they are what `new_job` takes."""
    made: list[dict[str, Any]] = command.main(list(arguments), standalone_mode=False)
    new_job(**{**made[0], "netrc": None, "cookie_file": None, "client_certificate": None, "ca": None})
    return made[0]


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--mirror", "http://m/a", "--mirror", "http://n/a"], "mirrors", ("http://m/a", "http://n/a")),
        (["--segments", "auto"], "segments", 0),
        (["--segments", "32"], "segments", 32),
        (["--limit-rate", "500K/s"], "limit_rate", 512_000),
        (["--min-speed", "0"], "min_speed", 0),
        (["--min-speed-time", "1m"], "min_speed_time", 60.0),
        (["--deadline", "2h"], "deadline", 7200.0),
        (["--max-size", "1.5G"], "max_size", 3 << 29),
        (["--connect-timeout", "5"], "connect_timeout", 5.0),
        (["--read-timeout", "1.5"], "read_timeout", 1.5),
        (["-U", "me/1"], "user_agent", "me/1"),
        (["--user", "me:a:b"], "credentials", ("me", "a:b")),
        (["--user", "me:"], "credentials", ("me", "")),
        (["--bearer", "t"], "bearer", "t"),
        (["--netrc"], "netrc", True),
        (["--netrc-file", "x"], "netrc", "x"),
        (["--cookie-file", "x"], "cookie_file", "x"),
        (["--proxy", "socks5h://p:1"], "proxy", "socks5h://p:1"),
        (["--proxy", "none"], "proxy", ""),
        ([], "proxy", None),
        (["--cert", "x"], "client_certificate", "x"),
        (["--ca", "x"], "ca", "x"),
        (["--allow-downgrade"], "downgrade", True),
        (["--if-newer", "--if-exists", "overwrite"], "if_newer", True),
        ([], "keep_time", True),
        (["--no-keep-time"], "keep_time", False),
        (["--checksum", "sha256:@https://h/SUMS"], "checksum", "sha256:@https://h/SUMS"),
        (["--header", "X: y"], "headers", {"X": "y"}),
    ],
)
def test_options(arguments: list[str], name: str, value: object) -> None:
    assert asked(*arguments)[name] == value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--segments", "0"], "neither auto nor 1 to 32"),
        (["--segments", "many"], "neither auto nor 1 to 32"),
        (["--limit-rate", "fast"], "'fast' is not a rate such as 500K, 2M/s"),
        (["--limit-rate", "0"], "would let nothing through"),
        (["--max-size", "500KB"], "'500KB' is not a size such as 4096, 500K"),
        (["--deadline", "0"], "more than 0"),
        (["--deadline", "400d"], "at most 366 days"),
        (["--read-timeout", "soon"], "is not a duration such as"),
        (["--user", "me"], "no terminal"),
        (["--user", "me:x", "--bearer", "t"], "two ways to log in"),
        (["--netrc", "--bearer", "t"], "two ways to log in"),
        (["--if-newer", "--if-exists", "rename"], "--if-newer replaces the file"),
        (["--insecure", "--ca", "x"], "--ca means nothing"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(click.UsageError) as caught:
        asked(*arguments)
    assert words in caught.value.format_message()


@pytest.mark.parametrize(
    "arguments",
    [["-o", "x"], ["--id", "x"], ["--mirror", "http://m/a"], ["--checksum", "md5:0"], ["--bearer", "-"]],
)
def test_what_goes_with_a_single_url(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        asked(*arguments, command=several)


def test_a_list_of_checksums_is_for_many_files() -> None:
    assert asked("--checksum", "sha256:@http://h/S", command=several)["checksum"] == "sha256:@http://h/S"


def test_a_token_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SECRET\nrest"))
    assert asked("--bearer", "-")["bearer"] == "SECRET"


def test_insecure_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("--insecure")["insecure"] is True
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fetchd: WARNING: --insecure")
