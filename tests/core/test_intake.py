"""Checking a specification: every error code, and what comes out of a good one."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.daemon.core import verbs
from fetchd.daemon.core.intake import ALGORITHMS, FORBIDDEN_HEADERS, Secrets, check, hash_spec
from fetchd.daemon.core.view import snapshot
from fetchd.protocol import urls
from fetchd.protocol.codec import decode, encode
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.job import Cleanup, JobSpec
from fetchd.protocol.mailbox import Options

from .make import SECOND, moment

KEY = b"k" * 16
SHA256 = "ab" * 32


def pem(label: str, body: str = "TUlJQg==") -> str:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


CERTIFICATE = pem("CERTIFICATE")
KEY_PEM = pem("PRIVATE KEY")
COOKIES = "# Netscape HTTP Cookie File\n\n#HttpOnly_.a.test\tTRUE\t/\tTRUE\t0\tsession\tabc\n"


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
        ({"checksum": "blake3:" + "ab" * 64}, Code.INVALID_CHECKSUM),
        ({"checksum": "crc32:@https://a.test/SUMS"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:@"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:@SUMS"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:@ftp://a.test/SUMS"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:@https://u:p@a.test/SUMS"}, Code.INVALID_CHECKSUM),
        ({"checksum": "sha256:@https://a.test/SUMS?token=abc"}, Code.INVALID_CHECKSUM),
        ({"url": "https://a.test/f#sha256=@https://b.test/SUMS"}, Code.INVALID_CHECKSUM),
        ({"mirrors": ["b.test/f"]}, Code.INVALID_URL),
        ({"mirrors": ["ftp://b.test/f"]}, Code.UNSUPPORTED_SCHEME),
        ({"mirrors": ["https://b.test/f", "file:///etc/passwd"]}, Code.UNSUPPORTED_SCHEME),
        ({"mirrors": ["https://a.test/f"]}, Code.BAD_REQUEST),
        ({"mirrors": ["https://b.test/f", "https://b.test/f#again"]}, Code.BAD_REQUEST),
        ({"mirrors": ["https://b.test/" + "x" * 40_000, "https://c.test/" + "x" * 40_000]}, Code.BAD_REQUEST),
        ({"proxy": "proxy.test:3128"}, Code.BAD_REQUEST),
        ({"proxy": "ftp://proxy.test"}, Code.BAD_REQUEST),
        ({"proxy": "http://"}, Code.BAD_REQUEST),
        ({"proxy": "http://proxy.test/path"}, Code.BAD_REQUEST),
        ({"proxy": "http://proxy.test?x=1"}, Code.BAD_REQUEST),
        ({"proxy": "http://u%0d%0a:p@proxy.test"}, Code.BAD_REQUEST),
        ({"user_agent": "a\nb"}, Code.BAD_REQUEST),
        ({"user_agent": " "}, Code.BAD_REQUEST),
        ({"user_agent": "日本"}, Code.BAD_REQUEST),
        ({"credentials": ("a:b", "c")}, Code.BAD_REQUEST),
        ({"credentials": ("a", "b\n")}, Code.BAD_REQUEST),
        ({"credentials": ("a\0", "b")}, Code.BAD_REQUEST),
        ({"credentials": ("a", "b"), "headers": {"authorization": "Bearer x"}}, Code.BAD_REQUEST),
        ({"cookies": "a=b"}, Code.INVALID_COOKIES),
        ({"cookies": "{}"}, Code.INVALID_COOKIES),
        ({"if_newer": True, "if_exists": "rename"}, Code.BAD_REQUEST),
        ({"if_newer": True, "if_exists": "skip"}, Code.BAD_REQUEST),
        ({"insecure": True, "ca": CERTIFICATE}, Code.BAD_REQUEST),
        ({"ca": "/etc/ssl/ca.pem"}, Code.BAD_REQUEST),
        ({"ca": KEY_PEM}, Code.BAD_REQUEST),
        ({"ca": CERTIFICATE.replace("END", "FIN")}, Code.BAD_REQUEST),
        ({"client_certificate": CERTIFICATE}, Code.BAD_REQUEST),
        ({"client_certificate": KEY_PEM}, Code.BAD_REQUEST),
        ({"client_certificate": CERTIFICATE + pem("ENCRYPTED PRIVATE KEY")}, Code.BAD_REQUEST),
        (
            {"client_certificate": CERTIFICATE + pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nabc")},
            Code.BAD_REQUEST,
        ),
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
        ("https://a.test/f?x=1;token=abc;y=2", "https://a.test/f?x=1;token=***;y=2"),
        (
            "https://a.test/f?AWSAccessKeyId=1&Signature=2&Expires=3",
            "https://a.test/f?AWSAccessKeyId=***&Signature=***&Expires=3",
        ),
        (
            "https://a.test/f?Key-Pair-Id=1&Policy=2&key=3&sv=4",
            "https://a.test/f?Key-Pair-Id=***&Policy=***&key=***&sv=4",
        ),
        (
            "https://a.test/f?to%6ben=1&private_token=2&auth[token]=3",
            "https://a.test/f?to%6ben=***&private_token=***&auth[token]=***",
        ),
        ("https://a.test/f?u=https%3A%2F%2Fb.test%2F%3Fsig%3Dabc", "https://a.test/f?u=***"),
        ("https://a.test/f?u=https%3A%2F%2Fme%3Apw%40b.test%2F", "https://a.test/f?u=***"),
    ],
)
def test_secrets_are_split_off(url: str, shown: str) -> None:
    made = check("job", spec(url=url), KEY)
    assert made.url == shown
    assert made.secrets == encode(Secrets(url=url))


@pytest.mark.parametrize(
    "url", ["https://a.test/f?page=2&lang=de&monkey=1&keyboard=us", "https://a.test/f?a=b=c"]
)
def test_plain_parameters_are_shown(url: str) -> None:
    assert check("job", spec(url=url), KEY).secrets is None


@pytest.mark.parametrize(
    "url", ["https://me:pass/word@a.test/f", "https://me:p[w@a.test/", "https://me:pw@a.te℀st/"]
)
def test_a_refusal_quotes_no_password(url: str) -> None:
    with pytest.raises(FetchdError) as caught:
        check("job", spec(url=url), KEY)
    assert caught.value.message == "malformed URL"


def test_many_parameters_of_long_names_are_looked_at_in_time() -> None:
    """No name makes the search for signatures quadratic; it would take minutes."""
    url = "https://a.test/?" + "token" * 12_000 + "&" + "&".join(["x" * 60] * 80)
    assert check("job", spec(url=url), KEY).secrets is None


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


@pytest.mark.parametrize(
    ("asked", "options", "secrets"),
    [
        ({"segments": 4, "max_size": 0}, Options(segments=4, max_size=0), None),
        (
            {"min_speed": 1024, "min_speed_time": 5.0, "connect_timeout": 2.0, "read_timeout": 3.0},
            Options(min_speed=1024, min_speed_time=5.0, connect_timeout=2.0, read_timeout=3.0),
            None,
        ),
        (
            {"user_agent": "me/1", "insecure": True, "downgrade": True, "if_newer": True, "keep_time": False},
            Options(user_agent="me/1", insecure=True, downgrade=True, if_newer=True, keep_time=False),
            None,
        ),
        ({"mirrors": ["http://b.test/f"]}, Options(mirrors=("http://b.test/f",)), None),
        (
            {"mirrors": ["http://b.test/f", "http://u:p@c.test/f?sig=1#x"]},
            Options(mirrors=("http://b.test/f", "http://c.test/f?sig=***")),
            Secrets(mirrors=("http://b.test/f", "http://u:p@c.test/f?sig=1")),
        ),
        ({"proxy": "http://p.test:3128/"}, Options(proxy="http://p.test:3128"), None),
        (
            {"proxy": "SOCKS5H://u:p%40@p.test"},
            Options(proxy="socks5h://p.test"),
            Secrets(proxy="socks5h://u:p%40@p.test"),
        ),
        ({"credentials": ("u", "p:w")}, Options(), Secrets(credentials=("u", "p:w"))),
        ({"credentials": ("ü", "")}, Options(), Secrets(credentials=("ü", ""))),
        ({"cookies": COOKIES}, Options(), Secrets(cookies=COOKIES)),
        ({"ca": "my authority\n" + CERTIFICATE}, Options(), Secrets(ca="my authority\n" + CERTIFICATE)),
        (
            {"client_certificate": CERTIFICATE + pem("EC PRIVATE KEY")},
            Options(),
            Secrets(client_certificate=CERTIFICATE + pem("EC PRIVATE KEY")),
        ),
    ],
)
def test_options_may_be_shown_and_secrets_not(
    asked: dict[str, Any], options: Options, secrets: Secrets | None
) -> None:
    made = check("job", spec(**asked), KEY)
    assert made.options == options
    assert (None if made.secrets is None else decode_secrets(made.secrets)) == secrets


def decode_secrets(data: bytes) -> Secrets:
    return decode(data, Secrets)


def test_a_list_of_checksums() -> None:
    made = check("job", spec(checksum="SHA256:@https://a.test/SUMS#top"), KEY)
    assert (made.checksum, made.secrets) == ("sha256:@https://a.test/SUMS", None)


def test_schemes_are_those_that_are_installed() -> None:
    schemes = frozenset({"http", "ftp"})
    made = check("job", spec(url="ftp://a.test:21/f", mirrors=["http://b.test/f"]), KEY, schemes)
    assert made.host == "a.test"
    with pytest.raises(FetchdError) as caught:
        check("job", spec(), KEY, schemes)
    assert caught.value.code is Code.UNSUPPORTED_SCHEME


EVERYTHING: dict[str, Any] = {
    "mirrors": ["http://u:SECRET@b.test/f?token=SECRET"], "segments": 3, "limit_rate": 1024, "min_speed": 1,
    "min_speed_time": 2.0, "deadline": 60.0, "max_size": 9, "connect_timeout": 1.0, "read_timeout": 1.0,
    "user_agent": "me", "credentials": ("u", "SECRET"), "cookies": COOKIES.replace("abc", "SECRET"),
    "proxy": "http://u:SECRET@p.test", "client_certificate": CERTIFICATE + KEY_PEM, "ca": CERTIFICATE,
    "downgrade": True, "if_newer": True, "keep_time": False,
}  # fmt: skip


def test_what_a_job_keeps_and_shows() -> None:
    now = moment(7)
    intake = check("job", spec(**EVERYTHING), KEY)
    job = verbs._new_job(intake, "uid:1", now)
    assert (job.limit_rate, job.secret, job.options) == (1024, True, intake.options)
    assert (job.deadline - now.wall, job.expires - now.mono) == (60 * SECOND, 60 * SECOND)
    shown = snapshot(job)
    assert b"SECRET" not in encode(shown) + encode(job)
    options = decode(encode(shown), type(shown)).options
    assert options["mirrors"] == ["http://b.test/f?token=***"]
    assert (options["proxy"], options["limit_rate"]) == ("http://p.test", 1024)
    assert options["expires"] == job.deadline
    plain = verbs._new_job(check("job", spec(), KEY), "uid:1", now)
    assert (plain.deadline, plain.expires, plain.limit_rate, plain.secret) == (0, 0, 0, False)
    assert not {"mirrors", "segments", "expires", "limit_rate"} & snapshot(plain).options.keys()


def test_a_hash_covers_every_field() -> None:
    hashes = {hash_spec(spec(**{name: value}), KEY) for name, value in EVERYTHING.items()}
    assert len(hashes | {hash_spec(spec(), KEY), hash_spec(spec(insecure=True), KEY)}) == len(EVERYTHING) + 2
    swapped = [
        hash_spec(spec(mirrors=pair), KEY) for pair in (["http://b", "http://c"], ["http://c", "http://b"])
    ]
    assert swapped[0] != swapped[1]


def test_a_default_that_is_said_is_the_same_as_one_that_is_not() -> None:
    said = {field: getattr(spec(), field) for field in JobSpec.__struct_fields__}
    said |= {"cleanup": {"success": None}, "headers": {}, "labels": {}, "mirrors": [], "url": spec().url}
    assert decode(encode(said), JobSpec).cleanup is not Cleanup()
    assert hash_spec(decode(encode(said), JobSpec), KEY) == hash_spec(spec(), KEY)
    assert hash_spec(decode(encode({**said, "deadline": 60}), JobSpec), KEY) == hash_spec(
        spec(deadline=60.0), KEY
    )


PIECES = st.sampled_from(
    ["http://", "socks5://", "a.test", "u:p@", "@", ":", "/", "?sig=1", "#", "[::1]", "%00", "\t", "\n",
     "TRUE", "sha256:", "ab" * 32, "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", " ", "ü", "日"]
)  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=9).map("".join)
FIELDS = {
    "url": TEXTS, "mirrors": st.lists(TEXTS, max_size=3), "checksum": TEXTS, "proxy": TEXTS, "ca": TEXTS,
    "cookies": TEXTS, "user_agent": TEXTS, "client_certificate": TEXTS,
    "credentials": st.tuples(TEXTS, TEXTS),
}  # fmt: skip


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_whatever_is_asked_for_is_taken_or_refused(fields: dict[str, Any]) -> None:
    with suppress(FetchdError):  # nothing else may be raised
        made = check("job", spec(**fields), KEY)
        for shown in (made.url, *made.options.mirrors, made.options.proxy or made.url):
            assert urls.userinfo(shown) is None
            assert "sig=1" not in shown


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mirrors": ["foo"]}, "a mirror: the URL has no scheme"),
        ({"mirrors": ["gopher://b.test/f"]}, "a mirror: no transfer handles gopher"),
        ({"checksum": "sha256:@ftp://b.test/sums"}, "must be http or https"),
    ],
)
def test_a_refusal_says_which_url_it_means(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(FetchdError, match=words):
        check("job", spec(**fields), KEY)
