"""The hosts of limits are those of jobs, however they are written."""

import pytest

from fetchd.daemon.router.limits import _lane_host
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.urls import host_key, split_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("Example.org", "http://example.org/f"), ("example.org", "https://example.org/f"),
        ("example.org:80", "http://example.org/f"), ("example.org:443", "https://example.org/f"),
        ("example.org:8080", "http://example.org:8080/f"), ("[::1]:81", "http://[::1]:81/f"),
        ("[::1]", "http://[::1]/f"), ("example.org:21", "ftp://example.org/f"),
        ("example.org:990", "ftps://example.org/f"), ("example.org:2121", "ftp://example.org:2121/f"),
    ],
)  # fmt: skip
def test_a_host_is_that_of_its_jobs(text: str, url: str) -> None:
    assert _lane_host(text) == host_key(split_url(url))


@pytest.mark.parametrize("text", ["http://a", "a/b", "a?b", "a b", "u@a", "a:b", "a:99999", ":80", "/"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(FetchdError) as caught:
        _lane_host(text)
    assert caught.value.code is Code.BAD_REQUEST
