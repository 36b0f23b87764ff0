"""Content-Disposition by the test cases of greenbytes.de/tech/tc2231, under their names.

Headers are as http.client gives them: octets as ISO-8859-1. What is compared is the name on disk, or None
where the header says nothing and the URL has to. Where the reference leaves a choice, ours is in a comment.
"""

import pytest

from fetchd.daemon.core.names import from_disposition, sanitise

CASES: list[tuple[str, str, str | None]] = [
    # the disposition type inline
    ("inlonly", "inline", None),
    ("inlonlyquoted", '"inline"', None),
    ("inlwithasciifilename", 'inline; filename="foo.html"', "foo.html"),
    ("inlwithfnattach", 'inline; filename="Not an attachment!"', "Not an attachment!"),
    ("inlwithasciifilenamepdf", 'inline; filename="foo.pdf"', "foo.pdf"),
    # the disposition type attachment
    ("attonly", "attachment", None),
    ("attonlyquoted", '"attachment"', None),
    ("attonlyucase", "ATTACHMENT", None),
    ("attwithasciifilename", 'attachment; filename="foo.html"', "foo.html"),
    ("attwithasciifilename25", 'attachment; filename="0000000000111111111122222"',
     "0000000000111111111122222"),
    ("attwithasciifilename35", 'attachment; filename="00000000001111111111222222222233333"',
     "00000000001111111111222222222233333"),
    ("attwithasciifnescapedchar", 'attachment; filename="f\\oo.html"', "foo.html"),
    # without the quotes would be right too; a quote is no danger on our file systems
    ("attwithasciifnescapedquote", 'attachment; filename="\\"quoting\\" tested.html"',
     '"quoting" tested.html'),
    ("attwithquotedsemicolon", 'attachment; filename="Here\'s a semicolon;.html"',
     "Here's a semicolon;.html"),
    ("attwithfilenameandextparam", 'attachment; foo="bar"; filename="foo.html"', "foo.html"),
    ("attwithfilenameandextparamescaped", 'attachment; foo="\\"\\\\";filename="foo.html"', "foo.html"),
    ("attwithasciifilenameucase", 'attachment; FILENAME="foo.html"', "foo.html"),
    ("attwithasciifilenamenq", "attachment; filename=foo.html", "foo.html"),
    ("attwithtokfncommanq", "attachment; filename=foo,bar.html", None),
    # an error by the grammar; servers that end with a semicolon are too many to be taken at their word
    ("attwithasciifilenamenqs", "attachment; filename=foo.html ;", "foo.html"),
    ("attemptyparam", "attachment; ;filename=foo", None),
    ("attwithasciifilenamenqws", "attachment; filename=foo bar.html", None),
    ("attwithfntokensq", "attachment; filename='foo.bar'", "'foo.bar'"),
    ("attwithisofnplain", 'attachment; filename="foo-\xe4.html"', "foo-ä.html"),
    # the reference would have ISO-8859-1 here ("foo-Ã¤.html") and calls this smart: whoever sends such octets
    # means UTF-8, and browsers see it as we do
    ("attwithutf8fnplain", 'attachment; filename="foo-\xc3\xa4.html"', "foo-ä.html"),
    ("attwithfnrawpctenca", 'attachment; filename="foo-%41.html"', "foo-%41.html"),
    ("attwithfnusingpct", 'attachment; filename="50%.html"', "50%.html"),
    ("attwithfnrawpctencaq", 'attachment; filename="foo-%\\41.html"', "foo-%41.html"),
    # `name` is an extension parameter: any behaviour is acceptable, and RFC 6266 knows no such synonym
    ("attwithnamepct", 'attachment; name="foo-%41.html"', None),
    ("attwithfilenamepctandiso", 'attachment; filename="\xe4-%41.html"', "ä-%41.html"),
    ("attwithfnrawpctenclong", 'attachment; filename="foo-%c3%a4-%e2%82%ac.html"',
     "foo-%c3%a4-%e2%82%ac.html"),
    ("attwithasciifilenamews1", 'attachment; filename ="foo.html"', "foo.html"),
    # "invalid syntax": RFC 6266 section 4.1 has recipients treat the whole value as invalid
    ("attwith2filenames", 'attachment; filename="foo.html"; filename="bar.html"', None),
    ("attfnbrokentoken", "attachment; filename=foo[1](2).html", None),
    ("attfnbrokentokeniso", "attachment; filename=foo-\xe4.html", None),
    ("attfnbrokentokenutf", "attachment; filename=foo-\xc3\xa4.html", None),
    ("attmissingdisposition", "filename=foo.html", None),
    ("attmissingdisposition2", "x=y; filename=foo.html", None),
    ("attmissingdisposition3", '"foo; filename=bar;baz"; filename=qux', None),
    ("attmissingdisposition4", "filename=foo.html, filename=bar.html", None),
    ("emptydisposition", "; filename=foo.html", None),
    ("doublecolon", ": inline; attachment; filename=foo.html", None),
    ("attandinline", "inline; attachment; filename=foo.html", None),
    ("attandinline2", "attachment; inline; filename=foo.html", None),
    ("attbrokenquotedfn", 'attachment; filename="foo.html".txt', None),
    ("attbrokenquotedfn2", 'attachment; filename="bar', None),
    ("attbrokenquotedfn3", 'attachment; filename=foo"bar;baz"qux', None),
    ("attmultinstances", "attachment; filename=foo.html, attachment; filename=bar.html", None),
    ("attmissingdelim", "attachment; foo=foo filename=bar", None),
    ("attmissingdelim2", "attachment; filename=bar foo=foo", None),
    ("attmissingdelim3", "attachment filename=bar", None),
    ("attreversed", "filename=foo.html; attachment", None),
    ("attconfusedparam", "attachment; xfilename=foo.html", None),
    # to ignore it or to drop the path: we drop it, the rest is still the best name there is
    ("attabspath", 'attachment; filename="/foo.html"', "foo.html"),
    # a backslash may stay on Unix: we drop what is before it, the file may go on to where it separates
    ("attabspathwin", 'attachment; filename="\\\\foo.html"', "foo.html"),
    # additional parameters
    ("attcdate", 'attachment; creation-date="Wed, 12 Feb 1997 16:29:51 -0500"', None),
    ("attmdate", 'attachment; modification-date="Wed, 12 Feb 1997 16:29:51 -0500"', None),
    # extensions of the disposition type, to be treated as attachment
    ("dispext", "foobar", None),
    ("dispextbadfn", 'attachment; example="filename=example.txt"', None),
    # extended values
    ("attwithisofn2231iso", "attachment; filename*=iso-8859-1''foo-%E4.html", "foo-ä.html"),
    ("attwithfn2231utf8", "attachment; filename*=UTF-8''foo-%c3%a4-%e2%82%ac.html", "foo-ä-€.html"),
    # undefined: we guess no encoding where none is said
    ("attwithfn2231noc", "attachment; filename*=''foo-%c3%a4-%e2%82%ac.html", None),
    ("attwithfn2231utf8comp", "attachment; filename*=UTF-8''foo-a%cc%88.html", "foo-ä.html"),
    ("attwithfn2231utf8-bad", "attachment; filename*=iso-8859-1''foo-%c3%a4-%e2%82%ac.html", None),
    ("attwithfn2231iso-bad", "attachment; filename*=utf-8''foo-%E4.html", None),
    ("attwithfn2231ws1", "attachment; filename *=UTF-8''foo-%c3%a4.html", None),
    ("attwithfn2231ws2", "attachment; filename*= UTF-8''foo-%c3%a4.html", "foo-ä.html"),
    ("attwithfn2231ws3", "attachment; filename* =UTF-8''foo-%c3%a4.html", "foo-ä.html"),
    ("attwithfn2231quot", "attachment; filename*=\"UTF-8''foo-%c3%a4.html\"", None),
    ("attwithfn2231quot2", 'attachment; filename*="foo%20bar.html"', None),
    ("attwithfn2231singleqmissing", "attachment; filename*=UTF-8'foo-%c3%a4.html", None),
    ("attwithfn2231nbadpct1", "attachment; filename*=UTF-8''foo%", None),
    ("attwithfn2231nbadpct2", "attachment; filename*=UTF-8''f%oo.html", None),
    ("attwithfn2231dpct", "attachment; filename*=UTF-8''A-%2541.html", "A-%41.html"),
    # as in attabspathwin
    ("attwithfn2231abspathdisguised", "attachment; filename*=UTF-8''%5cfoo.html", "foo.html"),
    # continuations: optional, and understood where nothing else names the file
    ("attfncont", 'attachment; filename*0="foo."; filename*1="html"', "foo.html"),
    ("attfncontqs", 'attachment; filename*0="foo"; filename*1="\\b\\a\\r.html"', "foobar.html"),
    ("attfncontenc", "attachment; filename*0*=UTF-8''foo-%c3%a4; filename*1=\".html\"", "foo-ä.html"),
    ("attfncontlz", 'attachment; filename*0="foo"; filename*01="bar"', "foo"),
    ("attfncontnc", 'attachment; filename*0="foo"; filename*2="bar"', "foo"),
    ("attfnconts1", 'attachment; filename*1="foo."; filename*2="html"', None),
    ("attfncontord", 'attachment; filename*1="bar"; filename*0="foo"', "foobar"),
    # both forms
    ("attfnboth", "attachment; filename=\"foo-ae.html\"; filename*=UTF-8''foo-%c3%a4.html", "foo-ä.html"),
    ("attfnboth2", "attachment; filename*=UTF-8''foo-%c3%a4.html; filename=\"foo-ae.html\"", "foo-ä.html"),
    # either one, or none: `filename*` is the only one that RFC 6266 knows
    ("attfnboth3",
     "attachment; filename*0*=ISO-8859-15''euro-sign%3d%a4; filename*=ISO-8859-1''currency-sign%3d%a4",
     "currency-sign=¤"),
    ("attnewandfn", 'attachment; foobar=x; filename="foo.html"', "foo.html"),
    # encoded words (RFC 2047) have no place here
    ("attrfc2047token", "attachment; filename==?ISO-8859-1?Q?foo-=E4.html?=", None),
    # `=?` and `?=` stay; nobody may decode them
    ("attrfc2047quoted", 'attachment; filename="=?ISO-8859-1?Q?foo-=E4.html?="',
     "=?ISO-8859-1?Q?foo-=E4.html?="),
]  # fmt: skip


@pytest.mark.parametrize(("header", "name"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_tc2231(header: str, name: str | None) -> None:
    found = from_disposition(header)
    assert (None if found is None else sanitise(found)) == name


@pytest.mark.parametrize(
    "unit",
    [
        '"',
        "\\",
        '\\"',
        ";",
        "; a=",
        '; a="',
        " ",
        "\t;",
        "=",
        "%",
        "'",
        "''",
        "%41",
        "a",
        ".",
        ". ",
        "\xc3",
        "*",
    ],
)
@pytest.mark.parametrize(
    "start", ["", "attachment; filename=", 'attachment; filename="', "attachment; filename*=UTF-8''"]
)
def test_no_value_costs_more_than_its_length(start: str, unit: str) -> None:
    """At this length anything quadratic would not come back; headers have 8 KiB at most."""
    found = from_disposition(start + unit * (1_000_000 // len(unit)))
    assert found is None or sanitise(found) != ""
