"""Cookie files: what is read, what is refused, and that no refusal tells a value."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.protocol.cookies import parse
from fetchd.protocol.errors import Code, FetchdError

GOOD = ("a.test", "FALSE", "/", "TRUE", "1999999999", "name", "SECRET")


def line(**changed: str) -> str:
    fields = dict(zip(("domain", "sub", "path", "secure", "expires", "name", "value"), GOOD, strict=True))
    return "\t".join((fields | changed).values())


def test_a_file() -> None:
    text = f"# Netscape HTTP Cookie File\r\n\r\n#HttpOnly_{line(domain='.a.test', sub='true')}\r\n{line()}"
    first, second = parse(text)
    assert first[:-1] == (".a.test", True, "/", True, 1999999999, "name", "SECRET")
    assert (second.domain, second.subdomains, second.line) == ("a.test", False, line())
    assert first.line.startswith("#HttpOnly_.a.test\t")
    assert parse("") == parse("# nothing\n \n") == []


@pytest.mark.parametrize(
    "changed", [{"expires": ""}, {"expires": "0"}, {"name": ""}, {"value": ""}, {"value": "ü"}]
)
def test_what_is_odd_but_right(changed: dict[str, str]) -> None:
    (cookie,) = parse(line(**changed))
    assert cookie.expires in {0, 1999999999}


@pytest.mark.parametrize(
    "text",
    [
        "name=SECRET", '{"name": "SECRET"}', line().replace("\t", " "), line() + "\tSECRET",
        line(domain=""), line(domain="."), line(domain="a b"), line(domain="http://a.test"),
        line(sub="yes"), line(secure="1"), line(path="x"), line(path=""), line(expires="soon"),
        line(expires="-1"), line(expires="1.5"), line(expires="9" * 20), line(expires="٣"),
        line(name="", value=""), line(value="SECRET; Path=/"), line(value="SECRET\0"),
        line(value="SECRET\rx"),
        line(value="SECRET\u20ac"), "#HttpOnly_", "#HttpOnly_a.test",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(FetchdError) as caught:
        parse(f"# comment\n{text}\n")
    assert caught.value.code is Code.INVALID_COOKIES
    assert caught.value.message.startswith("line 2: ")
    assert "SECRET" not in caught.value.message


@given(st.text(alphabet="\t\n\r#ab.TRUEFALS/0\x85\u2028"))
def test_nothing_else_is_raised(text: str) -> None:
    with suppress(FetchdError):
        parse(text)
