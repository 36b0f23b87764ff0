"""Checksums as servers announce them and as lists have them."""

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.daemon.transfer.api import TransferError
from fetchd.daemon.transfer.digests import SIZES, announced, basename, listed
from fetchd.protocol.errors import Code


def raw(algorithm: str, content: bytes = b"x") -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


def plain(algorithm: str, content: bytes = b"x") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


S256, S512, S1, M5 = raw("sha256"), raw("sha512"), raw("sha1"), raw("md5")
P256, P512, P1, PM5 = plain("sha256"), plain("sha512"), plain("sha1"), plain("md5")


@pytest.mark.parametrize(
    ("repr_digest", "digest", "found"),
    [
        (None, None, []),
        ("", "", []),
        # RFC 9530
        (f"sha-256=:{S256}:", None, [P256]),
        (f"sha-512=:{S512}:", None, [P512]),
        (f"sha-256=:{S256}:, sha-512=:{S512}:", None, [P512]),
        (f"md5=:{M5}:,sha=:{S1}:", None, [P1]),
        (f"unixsum=:AAA=:, sha-256=:{S256}:", None, [P256]),
        (f"  sha-256=:{S256}:  ", None, [P256]),
        (f"sha-256={S256}", None, []),
        (f"sha-256=:{S256}", None, []),
        (f"sha-256=:{S256[:-1]}:", None, []),
        (f"sha-256=:{S1}:", None, []),
        ("sha-256=:!!!!:", None, []),
        ("sha-256=::", None, []),
        # the strongest one that can be read
        (f"sha-512=:{S256}:, sha-256=:{S256}:", None, [P256]),
        (f"sha-256=:{raw('sha256', b'y')}:, sha-256=:{S256}:", None, [P256]),
        # RFC 3230
        (None, f"SHA-256={S256}", [P256]),
        (None, f"sha-256={S256}", [P256]),
        (None, f"SHA={S1}", [P1]),
        (None, f"MD5={M5},SHA-512={S512}", [P512]),
        (None, f"UNIXsum=30637, MD5={M5}", [PM5]),
        (None, f"SHA-256={hashlib.sha256(b'x').hexdigest()}", []),
        (None, f"sha-256=:{S256}:", []),
        # both
        (f"sha-256=:{S256}:", f"MD5={M5}", [P256, PM5]),
        (f"sha-256=:{S256}:", f"SHA-256={raw('sha256', b'y')}", [P256]),
        ("x" * 8192, "," * 8192, []),
        (",".join(["a=:AAAA:"] * 100 + [f"sha-256=:{S256}:"]), None, []),
    ],
)
def test_what_a_server_announces(repr_digest: str | None, digest: str | None, found: list[str]) -> None:
    assert announced(repr_digest, digest) == found


@given(st.text(max_size=200), st.text("SHAMD5sha-2561=:, ABab+/", max_size=200))
def test_no_header_raises(one: str, other: str) -> None:
    for said in announced(one, other) + announced(other, one):
        algorithm, _, digest = said.partition(":")
        assert len(bytes.fromhex(digest)) == SIZES[algorithm]


A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
BLAKE = hashlib.blake2b(b"a").hexdigest()

LISTS = [
    ("text", f"{B}  other\n{A}  f.iso\n", A),
    ("binary", f"{B} *other\n{A} *f.iso\n", A),
    ("BSD", f"SHA256 (other) = {B}\nSHA256 (f.iso) = {A}\n", A),
    ("BSD with a hyphen", f"SHA-256 (f.iso) = {A}\nSHA-256 (other) = {B}", A),
    ("BSD of several algorithms", f"MD5 (f.iso) = {'0' * 32}\nSHA256 (f.iso) = {A}\nSHA256 (g) = {B}", A),
    ("another algorithm of this length", f"SHA512-256 (f.iso) = {B}\nSHA256 (f.iso) = {A}", A),
    ("one space", f"{B} other\n{A} f.iso\n", A),
    ("a tabulator", f"{B}\tother\n{A}\tf.iso\n", A),
    ("bare", A, A),
    ("bare with a line end", f"\n{A}\r\n", A),
    ("capitals", f"{A.upper()}  f.iso\n{B}  other\n", A),
    ("CRLF", f"{B}  other\r\n{A}  f.iso\r\n", A),
    ("comments", f"# hashes\n\n{B}  other\n{A}  f.iso\n-----\n", A),
    ("a signed list", f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{A}  f.iso\n{B}  g\n", A),
    ("in a directory", f"{B}  ./other\n{A}  ./x/f.iso\n", A),
    ("twice the same", f"{A}  f.iso\n{A}  ./f.iso\n{B}  other\n", A),
    ("one of another name", f"{A}  file.tmp\n", A),
    ("one, with others of other lengths", f"{'0' * 32}  f.iso\n{A}  file.tmp\n{'0' * 128}  f.iso\n", A),
    ("a name in parentheses", f"SHA256 (f.iso) = {A}\nSHA256 (f.iso (1)) = {B}", A),
]
NONE = [
    ("empty", ""),
    ("a page", "<html><body>404</body></html>"),
    ("other names", f"{A}  one\n{B}  other\n"),
    ("several bare ones", f"{A}\n{B}\n"),
    ("several of one name", f"{A}  x/f.iso\n{B}  y/f.iso\n"),
    ("too short", f"{A[:-1]}  f.iso\n"),
    ("too long", f"{A}0  f.iso\n"),
    ("another algorithm", f"{'0' * 128}  f.iso\n"),
    ("another algorithm, BSD", f"BLAKE2s (f.iso) = {A}\n"),
    ("no hex", f"{'g' * 64}  f.iso\n"),
    ("a part of the name", f"{A}  f.iso.sig\n{B}  a-f.iso\n"),
]


@pytest.mark.parametrize(("text", "digest"), [row[1:] for row in LISTS], ids=[row[0] for row in LISTS])
def test_a_list(text: str, digest: str) -> None:
    assert listed(text, "sha256", ["f.iso"]) == f"sha256:{digest}"


@pytest.mark.parametrize("text", [row[1] for row in NONE], ids=[row[0] for row in NONE])
def test_a_list_without_it(text: str) -> None:
    with pytest.raises(TransferError) as caught:
        listed(text, "sha256", ["f.iso"])
    assert caught.value.code is Code.INVALID_CHECKSUM


def test_the_first_name_counts() -> None:
    text = f"{A}  mirror-name\n{B}  f.iso\n"
    assert listed(text, "sha256", ["f.iso", "mirror-name"]) == f"sha256:{B}"
    assert listed(text, "sha256", ["gone", "mirror-name"]) == f"sha256:{A}"


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\\nb", "a\rb", "with space", "*star", "é"])
def test_names_as_sha256sum_writes_them(name: str) -> None:
    r"""A name with a backslash or a line end is escaped, and the line begins with a backslash."""
    written = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if written != name else ""
    for kind in "  ", " *":
        text = f"{mark}{A}{kind}{written}\n{B}{kind}other\n"
        assert listed(text, "sha256", [name]) == f"sha256:{A}"


@pytest.mark.parametrize("algorithm", sorted(set(SIZES) - {"blake3"}))
def test_every_algorithm(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"a").hexdigest()
    other = hashlib.new(algorithm, b"b").hexdigest()
    assert listed(f"{other}  g\n{digest}  f\n", algorithm, ["f"]) == f"{algorithm}:{digest}"
    tagged = algorithm.upper().replace("BLAKE2B", "BLAKE2b")
    assert listed(f"{tagged} (g) = {other}\n{tagged} (f) = {digest}\n", algorithm, ["f"]).endswith(digest)


@given(st.text(max_size=300))
def test_no_list_raises_anything_else(text: str) -> None:
    with suppress(TransferError):
        assert len(listed(text, "md5", ["f"])) == 4 + 32


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.test/x/f.iso", "f.iso"),
        ("https://a.test/x/f.iso?token=1/2#sha256=3", "f.iso"),
        ("https://a.test/a%20b%C3%A9.iso", "a bé.iso"),
        ("https://a.test/x/", ""),
        ("https://a.test", ""),
        ("ftp://a.test/pub/f.iso", "f.iso"),
        ("http://[::1", ""),
    ],
)
def test_the_name_of_a_url(url: str, name: str) -> None:
    assert basename(url) == name
