"""Files and variables of this machine: what of them is sent, and what is said where they are no good."""

import os
from pathlib import Path

import pytest

from fetchd.client import local
from fetchd.client.specs import new_job
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSpec

URL = "https://a.test/f"
NETRC = "machine a.test login me password SECRET\nmachine other.test login you password pw\n"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxies, and a home of its own."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in {"NETRC", "REQUEST_METHOD"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def spec(url: str = URL, **options: object) -> JobSpec:
    return new_job(url, directory="/d", **options).spec  # type: ignore[arg-type]


def refusal(**options: object) -> FetchdError:
    with pytest.raises(FetchdError) as caught:
        spec(**options)
    return caught.value


def test_contents_are_sent_and_no_paths(tmp_path: Path) -> None:
    for name in ("ca", "client_certificate"):
        (tmp_path / name).write_text(f"PEM of {name}")
    made = spec(ca=tmp_path / "ca", client_certificate="~/client_certificate")
    assert (made.ca, made.client_certificate) == ("PEM of ca", "PEM of client_certificate")


def test_files_that_are_no_good(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (local.LARGEST + 1))
    for name, why in (
        ("binary", "UTF-8"),
        ("large", "more than"),
        ("none", "No such file"),
        ("", "directory"),
    ):
        error = refusal(ca=tmp_path / name)
        assert error.code is Code.BAD_REQUEST
        assert str(tmp_path / name) in error.message
        assert why in error.message


def test_cookies_that_are_expired_or_comments_stay_here(tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    fields = "a.test\tFALSE\t/\tTRUE\t{}\t{}\tv"
    kept = [fields.format(0, "session"), "#HttpOnly_" + fields.format(2000, "later")]
    file.write_text("\r\n".join(["# a comment", "", *kept, fields.format(1000, "expired")]))
    assert local.cookies_of(file, now=1000) == "".join(f"{line}\n" for line in kept)
    assert spec(cookie_file=file).cookies == f"{kept[0]}\n"


def test_bad_cookies_name_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "cookies.txt"
    file.write_text("# c\na=SECRET\n")
    error = refusal(cookie_file=file)
    assert error.code is Code.INVALID_COOKIES
    assert f"{file}: line 2" in error.message
    assert "SECRET" not in error.message


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://a.test/f", ("me", "SECRET")),
        ("https://A.TEST:8443/f", ("me", "SECRET")),
        ("https://b.test/f", None),
        ("https://someone:else@a.test/f", None),
    ],
)
def test_netrc(tmp_path: Path, url: str, found: tuple[str, str] | None) -> None:
    file = private(tmp_path / "mine", NETRC)
    assert spec(url, netrc=file).credentials == found


def test_netrc_has_a_default_and_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private(tmp_path / ".netrc", "default login any password SECRET\n")
    assert spec(netrc=True).credentials == ("any", "SECRET")
    assert spec(netrc=False).credentials is None
    monkeypatch.setenv("NETRC", str(private(tmp_path / "mine", NETRC)))
    assert spec(netrc=True).credentials == ("me", "SECRET")


def test_what_is_said_goes_before_netrc(tmp_path: Path) -> None:
    file = private(tmp_path / "mine", NETRC)
    assert spec(netrc=file, credentials=("u", "p")).credentials == ("u", "p")
    assert spec(netrc=file, bearer="t").credentials is None
    assert spec(netrc=file, headers={"AUTHORIZATION": "x"}).credentials is None


def test_netrc_files_that_are_no_good(tmp_path: Path) -> None:
    assert "No such file" in refusal(netrc=True).message
    file = private(tmp_path / "mine", "machine a.test\nlogin me passwrd SECRET\n")
    error = refusal(netrc=file)
    assert (error.code, "line 2" in error.message) == (Code.BAD_REQUEST, True)
    assert "SECRET" not in error.message
    assert "passwrd" not in error.message
    private(file, NETRC).chmod(0o640)
    assert "chmod 600" in refusal(netrc=file).message


@pytest.mark.parametrize(
    ("env", "url", "proxy"),
    [
        ({}, URL, None),
        ({"https_proxy": "http://p.test:3128"}, URL, "http://p.test:3128"),
        ({"HTTPS_PROXY": "http://p.test:3128"}, URL, "http://p.test:3128"),
        ({"https_proxy": "p.test:3128"}, URL, "http://p.test:3128"),
        ({"http_proxy": "http://p.test"}, URL, None),
        ({"http_proxy": "http://p.test"}, "http://a.test/", "http://p.test"),
        ({"HTTP_PROXY": "http://p.test", "REQUEST_METHOD": "GET"}, "http://a.test/", None),
        ({"all_proxy": "socks5h://p.test"}, URL, "socks5h://p.test"),
        ({"ALL_PROXY": "socks5h://p.test", "https_proxy": "http://q.test"}, URL, "http://q.test"),
        ({"all_proxy": "http://p.test"}, "ftp://a.test/f", None),
        ({"all_proxy": "http://p.test", "no_proxy": "a.test"}, URL, None),
        ({"all_proxy": "http://p.test", "NO_PROXY": ".test"}, "https://u:p@a.test:8443/f", None),
        ({"all_proxy": "http://p.test", "no_proxy": "b.test, c.test"}, URL, "http://p.test"),
        ({"all_proxy": "http://p.test", "no_proxy": "*"}, URL, None),
        ({"https_proxy": ""}, URL, None),
    ],
)
def test_the_environments_proxy(
    env: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert spec(url).proxy == proxy


def test_a_proxy_that_is_said_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://p.test")
    assert spec(proxy="").proxy is None
    assert spec(proxy="socks5://q.test").proxy == "socks5://q.test"
    assert spec(proxy="q.test:1").proxy == "http://q.test:1"
