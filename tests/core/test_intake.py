"""Checking a specification: every error code, and what comes out of a good one."""

from typing import Any

import pytest

from fetchd.daemon.core.intake import ALGORITHMS, FORBIDDEN_HEADERS, Secrets, check, hash_spec
from fetchd.protocol.codec import encode
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import JobSpec

KEY = b"k" * 16
SHA256 = "ab" * 32


def spec(**fields: Any) -> JobSpec:
    return JobSpec(**{"url": "https://a.test/f", "directory": "/data", **fields})


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": "no url"}, Code.INVALID_URL),
        ({"url": "//a.test/f"}, Code.INVALID_URL),
        ({"url": "https:///f"}, Code.INVALID_URL),
        ({"url": "https://a.test:99999/"}, Code.INVALID_URL),
        ({"url": "https://[::1/"}, Code.INVALID_URL),
        ({"url": "gopher://a.test/f"}, Code.UNSUPPORTED_SCHEME),
        ({"url": "file://host/etc/passwd"}, Code.UNSUPPORTED_SCHEME),
        ({"directory": "relative"}, Code.INVALID_DIRECTORY),
        ({"directory": ""}, Code.INVALID_DIRECTORY),
        ({"directory": "/a\0b"}, Code.INVALID_DIRECTORY),
        ({"name": "a/b"}, Code.INVALID_NAME),
        ({"name": ".."}, Code.INVALID_NAME),
        ({"name": "é" * 200}, Code.INVALID_NAME),
        ({"checksum": SHA256}, Code.INVALID_CHECKSUM),
        ({"checksum": "crc32:00000000"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:abcd"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:" + "xy" * 32}, Code.INVALID_CHECKSUM),
        ({"url": "https://a.test/f#sha256=12"}, Code.INVALID_CHECKSUM),
        ({"headers": {"": "x"}}, Code.BAD_REQUEST),
        ({"headers": {"a b": "x"}}, Code.BAD_REQUEST),
        ({"headers": {"X": "a\r\nHost: evil"}}, Code.BAD_REQUEST),
        ({"headers": {"X": "a\0"}}, Code.BAD_REQUEST),
        ({"headers": {"X": "日本"}}, Code.BAD_REQUEST),
    ],
)
def test_what_is_refused(fields: dict[str, Any], code: Code) -> None:
    with pytest.raises(FetchdError) as caught:
        check("job", spec(**fields), KEY)
    assert caught.value.code is code


@pytest.mark.parametrize("job_id", ["", "a.b", "a/b", "ä", "x" * 65, "a\n", "../x"])
def test_ids_that_name_no_job(job_id: str) -> None:
    with pytest.raises(FetchdError) as caught:
        check(job_id, spec(), KEY)
    assert caught.value.code is Code.INVALID_ID


@pytest.mark.parametrize("name", sorted(FORBIDDEN_HEADERS))
def test_headers_that_the_transfer_sets(name: str) -> None:
    with pytest.raises(FetchdError) as caught:
        check("job", spec(headers={name.title(): "x"}), KEY)
    assert caught.value.code is Code.BAD_REQUEST


def test_a_plain_job_has_no_secrets() -> None:
    made = check("job", spec(url="https://A.test:443/f?x=1#part"), KEY)
    assert (made.host, made.secrets, made.checksum, made.directory) == ("a.test", None, None, "/data")
    assert check("job", spec(url="https://a.test/f"), KEY).url == "https://a.test/f"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@a.test/f", "https://a.test/f"),
        ("https://a.test/f?sig=abc&x=1", "https://a.test/f?sig=***&x=1"),
        ("https://u@a.test:8443/?X-Amz-Signature=1", "https://a.test:8443/?X-Amz-Signature=***"),
    ],
)
def test_secrets_are_split_off(url: str, shown: str) -> None:
    made = check("job", spec(url=url), KEY)
    assert made.url == shown
    assert made.secrets == encode(Secrets(url=url))


def test_headers_are_secrets() -> None:
    made = check("job", spec(headers={"Cookie": "a=b"}), KEY)
    assert made.secrets == encode(Secrets(headers={"Cookie": "a=b"}))


@pytest.mark.parametrize(("algorithm", "digits"), ALGORITHMS.items())
def test_checksums(algorithm: str, digits: int) -> None:
    made = check("job", spec(checksum=f" {algorithm.upper()}:{'AB' * (digits // 2)} "), KEY)
    assert made.checksum == f"{algorithm}:{'ab' * (digits // 2)}"
    from_url = check("job", spec(url=f"https://a.test/f#{algorithm}={'ab' * (digits // 2)}&x=1"), KEY)
    assert from_url.checksum == made.checksum


def test_the_asked_checksum_goes_before_the_urls() -> None:
    made = check("job", spec(url="https://a.test/f#md5=" + "0" * 32, checksum="sha256:" + SHA256), KEY)
    assert made.checksum == "sha256:" + SHA256


def test_equal_specifications_have_equal_hashes() -> None:
    one = spec(headers={"A": "1", "B": "2"}, labels={"x": "1", "y": "2"})
    same = spec(headers={"B": "2", "A": "1"}, labels={"y": "2", "x": "1"})
    assert hash_spec(one, KEY) == hash_spec(same, KEY)
    assert hash_spec(one, KEY) != hash_spec(one, b"other key")
    for other in (spec(headers={"A": "1", "B": "3"}), spec(priority=1), spec(url="https://a.test/g"), spec()):
        assert hash_spec(one, KEY) != hash_spec(other, KEY)
