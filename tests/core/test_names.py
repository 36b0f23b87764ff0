"""File names: what a server may say, and what comes of it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.daemon.core.names import (
    MAX_BYTES,
    choose,
    from_disposition,
    from_url,
    is_plain,
    numbered,
    sanitise,
)

ATTACKS = [
    ("../../etc/passwd", "passwd"), ("..\\..\\boot.ini", "boot.ini"), ("/etc/cron.d/x", "x"),
    ("a/b\\c", "c"), ("C:\\Users\\x.txt", "x.txt"), ("..", None), (".", None), ("", None), ("...", None),
    (" . . . ", None), ("a/", None), ("/", None), ("\0", None), ("a\0b.txt", "ab.txt"),
    ("a\nb\rc\td\x1b[31m\x7f\x85", "abcd[31m"), (".bashrc", "bashrc"), ("...hidden", "hidden"),
    (". .x", "x"), ("name. . .", "name"), ("  spaced out  ", "spaced out"), ("\u3000wide\u3000", "wide"),
    ("photo\u202egpj.exe", "photogpj.exe"), ("a\u200bb\u2060c\ufeff", "abc"), ("\u2066x\u2069", "x"),
    ("\u3164", None), ("\u2800\u115f", None), ("x\u2028y\u2029z", "xyz"), ("\ue000private", "private"),
    ("con", "_con"), ("CON.txt", "_CON.txt"), ("nul .txt", "_nul .txt"), ("LPT9.tar.gz", "_LPT9.tar.gz"),
    ("console", "console"), ("cafe\u0301", "caf\u00e9"), ("e\u200d\u0301", "\u00e9"), ("\udc80x", "x"),
    ("normal-file_1.0.tar.gz", "normal-file_1.0.tar.gz"), ("日本語.txt", "日本語.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), ATTACKS)
def test_sanitise(text: str, name: str | None) -> None:
    assert sanitise(text) == name


@given(st.text() | st.text(alphabet=". /\\\0conNUL\u200d\u0301e\u202e\u2000x", max_size=12))
def test_what_sanitise_lets_through(text: str) -> None:
    name = sanitise(text)
    if name is None:
        return
    assert is_plain(name)
    assert not name.startswith(".")
    assert name == name.strip()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in name)
    assert unicodedata.is_normalized("NFC", name)
    assert sanitise(name) == name


@given(st.text(alphabet="aé日😀. ", min_size=60, max_size=400))
def test_long_names_are_cut_between_characters(text: str) -> None:
    name = sanitise(text)
    assert name is None or (len(name.encode()) <= MAX_BYTES and sanitise(name) == name)


def test_a_long_name_keeps_its_extension() -> None:
    assert sanitise("é" * 200 + ".tar.gz") == "é" * 126 + ".gz"
    assert sanitise("x" * 300) == "x" * 255
    assert sanitise("x." + "y" * 300) == ("x." + "y" * 300)[:255]
    assert sanitise(". " * 40_000 + "x") == "x"


@given(st.text(alphabet="aé日.", min_size=1, max_size=300), st.integers(1, 99))
def test_numbered_names_are_plain(text: str, number: int) -> None:
    name = sanitise(text)
    if name is not None:
        other = numbered(name, number)
        assert is_plain(other)
        assert other != name
        assert f"({number})" in other


def test_numbered() -> None:
    assert numbered("f.txt", 2) == "f (2).txt"
    assert numbered("f", 2) == "f (2)"
    assert numbered(".profile", 1) == ".profile (1)"


@pytest.mark.parametrize("name", ["a", ".hidden", "a b", "x" * 255, "é" * 127, "-rf", "a\nb"])
def test_a_users_name_may_be_anything_plain(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "x" * 256, "é" * 128, "\udc80"])
def test_what_is_not_one_plain_name(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('attachment; filename="foo.html"', "foo.html"),
        ("attachment; filename=foo.html", "foo.html"),
        ("inline; filename=foo.html", "foo.html"),
        ('attachment; FILENAME="foo.html"', "foo.html"),
        ('attachment; filename = "foo.html"', "foo.html"),
        ('attachment; filename="f\\oo.html"', "foo.html"),
        ('attachment; filename="\\"quoting\\" tested.html"', '"quoting" tested.html'),
        ('attachment; filename="a;b.html"', "a;b.html"),
        ('attachment; foo="filename=evil"; filename="good"', "good"),
        ('attachment; filename="first"; filename="second"', None),
        ("attachment; filename*=UTF-8''foo-%c3%a4.html", "foo-ä.html"),
        ("attachment; filename*=utf-8'en'x%20y", "x y"),
        ("attachment; filename*=iso-8859-1''foo-%E4.html", "foo-ä.html"),
        ("attachment; filename=\"plain\"; filename*=UTF-8''better", "better"),
        ("attachment; filename*=UTF-8''better; filename=\"plain\"", "better"),
        ("attachment; filename=\"plain\"; filename*=UTF-8''%ff", "plain"),
        ("attachment; filename=\"plain\"; filename*=klingon''x", "plain"),
        ("attachment; filename=\"plain\"; filename*=UTF-8''", "plain"),
        ("attachment; filename*=broken", None),
        ("attachment; filename=\"foo-Ã¤.html\"", "foo-ä.html"),
        ('attachment; filename="foo-ä.html"', "foo-ä.html"),
        ('attachment; filename=""', ""),
        ('attachment; filename="unterminated', None),
        ('attachment; filename="', None),
        ("attachment; filename=\"plain\"; filename*0=x; filename*1=y", "plain"),
        ("attachment; filename*0=x; filename*0*=UTF-8''y%20", "y "),
        ("attachment; filename*=UTF-8''it's(1).txt", "it's(1).txt"),
        ("attachment; filename*=UTF-8''a;filename=b", "a"),
        ("attachment; filename*=UTF-8''a,b", None),
        ("\tattachment\t;\tfilename\t=\tx\t", "x"),
        ("attachment", None), ("", None), (";;;=;", None), ("attachment; filename", None), ("=", None),
    ],
)  # fmt: skip
def test_content_disposition(value: str, name: str | None) -> None:
    assert from_disposition(value) == name


@given(st.text(max_size=200) | st.text(alphabet=";=\"\\' filename*UTF-8%", max_size=80))
def test_no_header_is_too_strange(value: str) -> None:
    from_disposition(value)
    from_disposition("attachment; " + value)
    assert is_plain(choose(value, value, "job"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a.test/dir/file.iso?x=/y#z", "file.iso"), ("http://a.test/a%20b", "a b"),
        ("http://a.test/x%2F..%2Fy", "x/../y"), ("http://a.test/dir/", None), ("http://a.test", None),
        ("http://a.test/%ff", "\ufffd"), ("http://[", None), ("", None),
    ],
)  # fmt: skip
def test_from_url(url: str, name: str | None) -> None:
    assert from_url(url) == name


def test_choose_falls_back_to_the_id() -> None:
    assert choose('attachment; filename="../x"', "http://a.test/y", "job") == "x"
    assert choose('attachment; filename=".."', "http://a.test/y", "job") == "y"
    assert choose(None, "http://a.test/%2E%2E", "job") == "job"
    assert choose("garbage", "http://a.test/", "job") == "job"
