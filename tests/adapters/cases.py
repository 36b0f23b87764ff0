"""The table of the matrix: what must come of every behaviour, whatever way the bytes take.

A case says which ends are right. `OK` is a finished file that is one of the contents, byte for byte; where
several ends are legitimate all of them are given, and none of them is ever a file of wrong bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.behaviours.coded import bomb, packed
from support.content import Blob, Content, Pattern
from support.exchange import Resource

OK = "Finished"
SMALL = 300_000
BIG = (6 << 20) + 12_345
SEED = 1

Ends = frozenset[str]


@dataclass(frozen=True, eq=False)
class Case:
    """One behaviour with its options.

    `fresh` and `resumed` are the legitimate ends of an attempt that has nothing, or something, to go on from
    (empty: not tried); `many`, if not empty, takes the place of `fresh` where there are several segments.
    `contents` are what may be in the file at the end, the object as it is asked for first, unless said
    otherwise. `checked`: with the checksum of the object. `secret`: without a checksum nobody could tell
    which bytes are right, so those of a failed attempt are not looked at. `warm`: an attempt before it has
    left connections. `times`: with retries, the server behaves after so many visits (0: not tried).
    `tls`: over TLS too, or "only". `fields` are those of `Assign`.
    """

    behaviour: str
    options: Mapping[str, Any]
    fresh: Ends
    resumed: Ends
    many: Ends = frozenset()
    size: int = SMALL
    contents: tuple[Content, ...] = ()
    checked: bool = False
    secret: bool = False
    warm: bool = False
    tls: bool | str = False
    retry_after: float | None = None
    warned: str = ""
    times: int = 2
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def resource(self) -> Resource:
        """The object that is asked for."""
        return Resource(size=self.size, seed=SEED)

    @property
    def name(self) -> str:
        """The behaviour and what is particular about it."""
        told = [f"{key}={str(value)[:24]}" for key, value in self.options.items()]
        marks = ["checked"] * self.checked + ["warm"] * self.warm + ["big"] * (self.size == BIG)
        return " ".join([self.behaviour, *marks, *told])


def ends(text: str) -> Ends:
    """A set of ends from their names, separated by spaces."""
    return frozenset(OK if name == "ok" else name for name in text.split())


def case(behaviour: str, wanted: str, resumed: str | None = None, many: str = "", /, **given: Any) -> Case:
    """A case; `resumed` is as `wanted` unless it is given. What is not a field of `Case` is an option."""
    known = {name: given.pop(name) for name in list(given) if name in _FIELDS}
    again = wanted if resumed is None else resumed
    return Case(behaviour, given.pop("options", given), ends(wanted), ends(again), ends(many), **known)


_FIELDS = frozenset(
    {"contents", "checked", "secret", "warm", "tls", "retry_after", "warned", "times", "fields"}
)


def big(behaviour: str, wanted: str, resumed: str | None = None, many: str = "", /, **given: Any) -> Case:
    """A case with an object that is large enough for segments."""
    made = case(behaviour, wanted, resumed, many, **given)
    return Case(**{**vars(made), "size": BIG})


OBJECT = Pattern(SMALL, SEED)
WATCHED = {"min_speed": 20_000, "min_speed_time": 0.3, "read_timeout": 1.0}
IMPATIENT = {"read_timeout": 0.25}
NEW = Pattern(BIG, 9)
OLD = Pattern(BIG, SEED)
LONGER = Pattern(BIG + 500_000, 9)

HONEST = [
    case("plain", "ok", tls=True),
    big("plain", "ok", tls=True),
    big("plain", "ok", checked=True),
    big("chunked", "ok", tls=True),
    big("until_close", "ok", tls=True),
    big("no_ranges", "ok", tls=True),
    big("paced", "ok", rate=60e6),
    case("wait_first", "ok"),
    big("http10", "ok"),
    case("http10", "ok", length=False),
    case("interim_first", "ok"),
    case("interim_first", "ok", code=100, count=9),
    case("tiny_chunks", "ok", tls=True),
    case("trailers", "ok"),
    case("chunk_extensions", "ok"),
    big("silent_close", "ok", warm=True),
    big("stale_connection", "ok", warm=True, tls=True),
    case("extra_bytes", "ok bad_response", warm=True),
    case("extra_bytes", "ok bad_response", warm=True,
         data=b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"),
]  # fmt: skip

CODED = [
    case("gzip", "ok", contents=(Blob(packed(OBJECT)),)),
    case("gzip_length", "ok", contents=(Blob(packed(OBJECT)),)),
    big("gzip_length", "ok", ranges=True, contents=(Blob(packed(OLD)),)),
    case("gzip_bomb", "ok", contents=(Blob(bomb(64 << 20)),)),
    big("extra_headers", "ok", options={"headers": [("Content-Encoding", "gzip")]}),
    case("extra_headers", "ok bad_response", options={"headers": [("Transfer-Encoding", "identity")]}),
    case("extra_headers", "bad_response", options={"headers": [("Transfer-Encoding", "gzip")]}),
    case("extra_headers", "bad_response", options={"headers": [("Transfer-Encoding", "chunked, gzip")]}),
    *(
        case("announced_digest", "ok", header=header, algorithm=algorithm)
        for header, algorithm in (("Repr-Digest", "sha-256"), ("Digest", "SHA-512"), ("Repr-Digest", "crc"))
    ),
    big("announced_digest", "ok"),
    case("announced_digest", "checksum_mismatch", right=False),
    case("announced_digest", "checksum_mismatch", header="Digest", right=False),
    case("announced_digest", "checksum_mismatch", algorithm="sha-512", right=False),
    big("announced_digest", "checksum_mismatch", right=False),
    case("announced_digest", "ok", right=False, checked=True, warned="digest_differs"),
    case("extra_headers", "ok", options={"headers": [("Repr-Digest", "sha-256=rubbish, ;;=:")]}),
]

RANGES = [
    big("ignore_range", "ok", tls=True),
    big("no_if_range", "ok", tls=True),
    big("blind_206", "ok"),
    *(
        big("refuse_ranges", "ok", f"ok {end}", code=code)
        for code, end in ((403, "forbidden"), (404, "not_found"), (429, "rate_limited"), (503, "unavailable"))
    ),
    *(
        big("refuse_visit", "ok", f"ok {end}", visit=visit, code=code)
        for visit, code, end in (
            (2, 403, "forbidden"), (3, 404, "not_found"), (4, 503, "unavailable"), (2, 429, "rate_limited")
        )
    ),
    big("connection_limit", "ok", "ok unavailable", most=2, tls=True),
    big("connection_limit", "ok", "ok rate_limited", most=1, code=429),
    big("short_206", "ok", tls=True),
    big("short_206", "ok", most=100_000),
    big("long_206", "ok", tls=True),
    big("long_206", "ok", by=3 << 20),
    big("overlong_206", "ok bad_response"),
    big("overlong_206", "ok bad_response", by=2 << 20),
    big("cut_206", "ok", "ok short_body", "ok short_body", tls=True),
    big("other_total", "ok bad_response"),
    big("other_total", "ok bad_response", visit=3),
    big("other_total", "ok bad_response", by=0),
    big("other_total", "ok bad_response", by=-5000),
    big("multipart_206", "ok"),
    big("shifted_206", "ok", by=-500),
    big("shifted_206", "ok", by=500),
    big("shifted_206", "ok", "ok checksum_mismatch", "ok checksum_mismatch",
        by=500, admit=False, checked=True, secret=True),
    big("wrong_range", "ok", content_range=None),
    big("wrong_range", "ok", content_range="bytes 0-9/10"),
    big("wrong_range", "ok", content_range="bytes 5-2/10"),
    big("wrong_range", "ok", content_range="rubbish"),
    big("wrong_range", "ok", content_range=f"bytes 0-{10**30}/{10**31}"),
    case("unasked_206", "bad_response", "ok bad_response", start=5),
    case("unasked_206", "ok bad_response", start=0),
    big("answer_416", "ok"),
    big("answer_416", "ok", total=5),
    big("bare_416", "ok"),
    big("forgets_validators", "ok"),
    big("weak_parts", "ok"),
    big("cut_at", "short_body", "ok short_body", "ok short_body", offset=5 << 20, tls=True),
    big("cut", "short_body", "ok short_body", "ok short_body", after=100_000),
]  # fmt: skip

CHANGING = [
    *(
        made
        for name in ("changed", "changed_blind")
        for made in (
            big(name, "ok", contents=(OLD, NEW), tls=True),
            big(name, "ok", visit=4, contents=(OLD, NEW)),
            big(name, "ok", size=LONGER.size, contents=(OLD, LONGER)),
            big(name, "ok", visit=1, contents=(NEW,)),
            big(name, "ok", visit=1, size=LONGER.size, contents=(LONGER,)),
        )
    ),
    big("ever_new", "ok", contents=tuple(Pattern(BIG, seed) for seed in range(1, 40))),
    big("changed_secretly", "ok checksum_mismatch", visit=2, checked=True, secret=True),
    big("changed_secretly", "checksum_mismatch", visit=1, checked=True, secret=True),
]

BROKEN = [
    case("cut", "short_body", after=1000, tls=True),
    case("cut", "short_body reset", after=1000, reset=True),
    case("cut", "short_body", after=0),
    case("cut_head", "reset", tls=True),
    case("cut_head", "reset", reset=True),
    case("drop", "reset", tls=True),
    case("drop", "reset", reset=True),
    case("head_only", "short_body", tls=True),
    case("head_only", "short_body reset", reset=True),
    case("cut_until_close", "checksum_mismatch", "ok checksum_mismatch short_body",
         after=1000, checked=True, secret=True),
    case("never", "timeout", "", fields=IMPATIENT, tls=True, times=1),
    case("never", "timeout", after=5000, fields=IMPATIENT, tls=True),
    case("rubbish", "bad_response"),
    case("http09", "bad_response"),
    case("dripped_body", "too_slow", "", fields=WATCHED, tls=True, times=0),
    case("dripped_body", "too_slow", after=5000, fields=WATCHED, times=1),
    # a part has a known end, and more than that is not read
    case("endless_body", "file_too_large", "ok file_too_large bad_response",
         fields={"max_size": 1 << 20}, tls=True),
]  # fmt: skip

HEADS = [
    case("endless_headers", "bad_response", tls=True),
    case("endless_interim", "bad_response"),
    case("endless_interim", "bad_response", code=100),
    case("only_interim", "reset bad_response"),
    case("only_interim", "reset bad_response", code=103),
    case("dripped_head", "too_slow timeout bad_response", "", fields=WATCHED, tls=True, times=0),
    case("nul_head", "bad_response"),
    case("rubbish", "bad_response", data=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
    case("rubbish", "bad_response", data=b"ICY 200 OK\r\n\r\n"),
    case("rubbish", "bad_response", data=b"HTTP/1.1 twohundred OK\r\n\r\n"),
    case("rubbish", "bad_response", data=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    case("lying_length", "short_body", by=10),
    case("lying_length", "short_body", "ok short_body", by=1),
    case("lying_length", "ok", "ok bad_response", by=-1, contents=(Pattern(SMALL - 1, SEED), OBJECT)),
    case("lying_length", "checksum_mismatch", "checksum_mismatch bad_response",
         by=-1, checked=True, secret=True),
    *(
        case("raw_length", "bad_response", value=value)
        for value in ("-1", "+5", "0x10", "rubbish", "12, 13", "1_0", "3e5", "1²", "9" * 400, "9" * 5000)
    ),
    case("raw_length", "ok bad_response", value=f"{SMALL}, {SMALL}", contents=(OBJECT,)),
    case("raw_length", "bad_response", value=f"{SMALL}\r\n 7"),
    case("double_length", "bad_response"),
    case("double_length", "ok bad_response", "ok bad_response short_body", by=0),
]  # fmt: skip

_TORN = "bad_response short_body"

CHUNKS = [
    case("bad_chunk", _TORN, after=1000, tls=True),
    *(case("chunk_size", _TORN, text=text) for text in ("0x10", "+5", "-5", " 5", "1_0")),
    case("huge_chunk", _TORN),
    case("huge_chunk", _TORN, size="f" * 16),
    case("huge_chunk", _TORN, size="f" * 400),
    case("huge_chunk", _TORN, size="-1"),
    case("joined_chunks", _TORN, tls=True),
    case("no_last_chunk", "short_body", "ok short_body"),
    case("no_last_chunk", "short_body", cut=1),
    case("endless_extension", _TORN, times=0),
    case("endless_trailers", f"ok {_TORN}", "", fields=WATCHED, times=0),
    case("dripped_trailers", f"ok too_slow timeout {_TORN}", "", fields=WATCHED, times=0),
    case("chunked_with_length", "ok bad_response"),
    case("chunked_with_length", "ok bad_response", by=-5),
]

REDIRECTS = [
    case("redirect_chain", "ok", hops=20),
    case("redirect_chain", "redirect_loop", hops=21),
    big("redirect_chain", "ok", hops=3, code=307),
    case("redirect_loop", "redirect_loop"),
    case("redirect", "redirect_refused", to="ftp://a.test/f"),
    case("redirect", "redirect_refused", to="file:///etc/passwd"),
    case("redirect", "bad_response", to="http://[::1"),
    case("redirect", "bad_response", to="/" + "x" * 60_000),
    case("redirect_bomb", "ok", tls=True),
    big("redirect_hosts", "ok", tls=True),
    case("redirect_plain", "redirect_refused", tls="only"),
    case("redirect_userinfo", "ok redirect_refused bad_response"),
    case("two_locations", "bad_response", first="a", second="b"),
    case("two_locations", "ok", first="a", second="a"),
    big("signed_url", "ok", "ok forbidden", tls=True),
    case("status", "bad_response", code=302),
]

_CODES = {
    "unauthorized": (401,), "forbidden": (403,), "not_found": (404,), "gone": (410,), "rate_limited": (429,),
    "server_error": (408, 425, 500, 502, 504, 520, 524), "unavailable": (503,), "http_error": (402, 418, 451),
    "bad_response": (204, 205, 300, 304, 416), "unauthorized proxy": (407,),
}  # fmt: skip

STATUSES = [
    *(case("status", wanted, code=code) for wanted, codes in _CODES.items() for code in codes),
    *(
        case("busy", "rate_limited" if code == 429 else "unavailable", code=code, **how, retry_after=7.0)
        for code in (429, 503)
        for how in ({}, {"date": True}, {"date": True, "skew": -86_400}, {"date": True, "skew": 5_000_000})
    ),
]

CASES = [
    *HONEST, *CODED, *RANGES, *CHANGING, *BROKEN, *HEADS, *CHUNKS, *REDIRECTS, *STATUSES,
]  # fmt: skip
