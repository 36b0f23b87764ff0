"""Bytes that a peer may send and that must be understood, or refused with a certain code.

`TOLERATED` is valid in another encoding than ours, or carries fields of a later minor version. `REFUSED` is
what `protocol/vectors/refused.json` holds; bytes too long for a vector stand in `test_codec.py`.
"""

import struct

from msgpack import Timestamp, packb

NAN, INFINITY = float("nan"), float("inf")
REQ = "0" * 32
HEADER = {"v": 1, "type": "hello", "req": REQ}
SPEC = {"url": "https://example.org/a.iso", "directory": "/srv/files"}


def pack(value: object) -> bytes:
    packed: bytes = packb(value, use_bin_type=True)
    return packed


SUBMITTED = {"jobs": [{"spec": SPEC, "id": None}]}


def submit(**fields: object) -> bytes:
    return pack({"jobs": [{"spec": SPEC | fields}]})


def wait(**fields: object) -> bytes:
    return pack({"ids": ["a"], **fields})


def events(**fields: object) -> bytes:
    return pack({"since": 41, **fields})


def cleaned(**fields: object) -> dict[str, object]:
    """A submit as it is understood, with a `cleanup`."""
    return {"jobs": [{"spec": SPEC | {"cleanup": fields}, "id": None}]}


def spelt(**fields: object) -> dict[str, object]:
    """A submit as it is understood, with these fields in its specification."""
    return {"jobs": [{"spec": SPEC | fields, "id": None}]}


IDS_AND = b"\x82\xa3ids\x91\xa1a"
"""The beginning of a map of two pairs, the second of which is missing."""

TOLERATED: list[tuple[str, str, bytes, object]] = [
    ("unknown field in a header", "RequestHeader", pack(HEADER | {"trace": [1, {"deep": None}]}), HEADER),
    ("fields in another order", "RequestHeader", pack(dict(reversed(HEADER.items()))), HEADER),
    (
        "map32, str8, uint64 where shorter ones would do",
        "RequestHeader",
        b"\xdf\0\0\0\x03"
        b"\xd9\x01v\xcf\0\0\0\0\0\0\0\x01"
        b"\xd9\x04type\xda\0\x05hello"
        b"\xd9\x03req\xd9\x20" + REQ.encode(),
        HEADER,
    ),
    ("another version", "RequestHeader", pack(HEADER | {"v": 2}), HEADER | {"v": 2}),
    (
        "unknown field in a request",
        "Hello",
        pack({"client": "x", "locale": "de"}),
        {"client": "x", "host": None},
    ),
    ("unknown field beside a spec", "Submit", pack({"jobs": [{"spec": SPEC, "x": 1}]}), SUBMITTED),
    ("null for an optional field", "Submit", submit(name=None), SUBMITTED),
    (
        "an integer where a float is meant",
        "Wait",
        wait(timeout=5),
        {"ids": ["a"], "since": 0, "timeout": 5.0, "final": False},
    ),
    (
        "float32",
        "Wait",
        IDS_AND + b"\xa7timeout\xca\x3f\0\0\0",
        {"ids": ["a"], "since": 0, "timeout": 0.5, "final": False},
    ),
    (
        "the largest integer",
        "Wait",
        wait(since=2**53 - 1),
        {"ids": ["a"], "since": 2**53 - 1, "timeout": 30.0, "final": False},
    ),
    (
        "int64 for a small number",
        "Wait",
        IDS_AND + b"\xa5since\xd3\0\0\0\0\0\0\0\x07",
        {"ids": ["a"], "since": 7, "timeout": 30.0, "final": False},
    ),
    # Spec 1.1
    (
        "cancel as Spec 1.0 has it",
        "Cancel",
        pack({"ids": ["a"]}),
        {"ids": ["a"], "all": False, "failed": False},
    ),
    (
        "unknown field in a verb",
        "Retry",
        pack({"failed": True, "group": "g"}),
        {"ids": [], "all": False, "failed": True},
    ),
    ("null for a lineage", "Replay", events(lineage=None), {"since": 41, "limit": 1000, "lineage": None}),
    (
        "an integer for an age",
        "Clean",
        pack({"older_than": 60}),
        {"ids": [], "orphans": False, "older_than": 60.0},
    ),
    ("outcomes as Spec 1.0 has them", "Outcomes", pack({"jobs": []}), {"jobs": [], "intent": None}),
    (
        "null for both sides of a cleanup",
        "Submit",
        submit(cleanup={"success": None, "failure": None}),
        cleaned(),
    ),
    ("one side of a cleanup", "Submit", submit(cleanup={"failure": False}), cleaned(failure=False)),
    # Spec 1.2
    ("null lifts a limit", "Limit", pack({"rate": None}), {"rate": None, "ids": [], "host": None}),
    ("integers for times", "Submit", submit(deadline=60), spelt(deadline=60.0)),
    ("null where the daemon decides", "Submit", submit(deadline=None, credentials=None), SUBMITTED),
]

REFUSED: list[tuple[str, str, bytes, str]] = [
    # not a message at all
    ("nothing", "RequestHeader", b"", "bad_request"),
    ("a byte that MessagePack never uses", "RequestHeader", b"\xc1", "bad_request"),
    ("bytes after the value", "RequestHeader", pack(HEADER) + b"\xc0", "bad_request"),
    ("cut short", "RequestHeader", pack(HEADER)[:-1], "bad_request"),
    ("JSON", "RequestHeader", b'{"v":1,"type":"hello"}', "bad_request"),
    ("a string of 4 GiB announced", "Hello", b"\x81\xa6client\xdb\xff\xff\xff\xff", "bad_request"),
    ("an array of 4 Gi items announced", "Get", b"\x81\xa3ids\xdd\xff\xff\xff\xff", "bad_request"),
    ("a map of 4 Gi pairs announced", "Hello", b"\xdf\xff\xff\xff\xff", "bad_request"),
    ("binary of 4 GiB announced", "Hello", b"\x81\xa6client\xc6\xff\xff\xff\xff", "bad_request"),
    ("2,000 arrays in each other", "Get", b"\x91" * 2000 + b"\xc0", "bad_request"),
    ("extension type 5", "Hello", b"\x81\xa6client\xd4\x05a", "bad_request"),
    ("a timestamp in an unknown field", "Hello", pack({"x": Timestamp(1)}), "bad_request"),
    (
        "a timestamp with 2^32 - 1 nanoseconds",
        "Hello",
        b"\x81\xa1x\xc7\x0c\xff" + b"\xff" * 12,
        "bad_request",
    ),
    ("binary for a string", "Hello", pack({"client": b"x"}), "bad_request"),
    ("binary in an unknown field", "Hello", pack({"x": b"y"}), "bad_request"),
    ("invalid UTF-8", "Hello", b"\x81\xa6client\xa1\xff", "bad_request"),
    ("a surrogate in UTF-8", "Hello", b"\x81\xa6client\xa3\xed\xa0\x80", "bad_request"),
    ("the same key twice", "Hello", b"\x82\xa6client\xa1a\xa6client\xa1b", "bad_request"),
    ("the same unknown key twice", "Hello", b"\x82\xa1x\x01\xa1x\x01", "bad_request"),
    ("an integer key", "Hello", pack({1: 2}), "bad_request"),
    ("a binary key", "Hello", pack({b"client": "x"}), "bad_request"),
    ("nil as a key", "Hello", b"\x81\xc0\x01", "bad_request"),
    ("an array as a key", "Hello", b"\x81\x91\x01\x01", "bad_request"),
    ("2^53 in an unknown field", "Hello", pack({"x": 2**53}), "bad_request"),
    ("-2^53 in an unknown field", "Hello", pack({"x": [-(2**53)]}), "bad_request"),
    ("2^64 - 1", "Hello", b"\x81\xa1x\xcf" + b"\xff" * 8, "bad_request"),
    ("infinity in an unknown field", "Hello", pack({"x": {"y": INFINITY}}), "bad_request"),
    # a value of the wrong shape
    ("an array for a header", "RequestHeader", pack([1, "hello", REQ]), "bad_request"),
    ("nil for a header", "RequestHeader", b"\xc0", "bad_request"),
    ("a header without req", "RequestHeader", pack({"v": 1, "type": "hello"}), "bad_request"),
    ("a version that is a float", "RequestHeader", pack(HEADER | {"v": 1.0}), "bad_request"),
    ("a version that is a boolean", "RequestHeader", pack(HEADER | {"v": True}), "bad_request"),
    ("a version that is a string", "RequestHeader", pack(HEADER | {"v": "1"}), "bad_request"),
    ("req in capitals", "RequestHeader", pack(HEADER | {"req": "A" * 32}), "bad_request"),
    ("req too short", "RequestHeader", pack(HEADER | {"req": "0" * 31}), "bad_request"),
    ("req with a newline after it", "RequestHeader", pack(HEADER | {"req": REQ + "\n"}), "bad_request"),
    ("a type of 65 characters", "RequestHeader", pack(HEADER | {"type": "x" * 65}), "bad_request"),
    ("nil for a body", "Hello", b"\xc0", "bad_request"),
    ("get without ids", "Get", pack({}), "bad_request"),
    ("get with no ids", "Get", pack({"ids": []}), "bad_request"),
    ("get with an empty id", "Get", pack({"ids": [""]}), "bad_request"),
    ("get with an id of 65 characters", "Get", pack({"ids": ["x" * 65]}), "bad_request"),
    ("get with a string for ids", "Get", pack({"ids": "a"}), "bad_request"),
    ("list of 0", "List", pack({"limit": 0}), "bad_request"),
    ("list of 1001", "List", pack({"limit": 1001}), "bad_request"),
    ("list by an unknown state", "List", pack({"states": ["sleeping"]}), "bad_request"),
    ("wait for not a number", "Wait", wait(timeout=NAN), "bad_request"),
    ("wait for ever", "Wait", wait(timeout=INFINITY), "bad_request"),
    ("wait for -1 s", "Wait", wait(timeout=-1.0), "bad_request"),
    ("wait for 31 s", "Wait", wait(timeout=31), "bad_request"),
    ("wait for true", "Wait", wait(timeout=True), "bad_request"),
    ("wait since -1", "Wait", wait(since=-1), "bad_request"),
    ("wait since 1.0", "Wait", wait(since=1.0), "bad_request"),
    ("wait since 2^53", "Wait", wait(since=2**53), "bad_request"),
    ("wait since true", "Wait", wait(since=True), "bad_request"),
    ("wait since NaN", "Wait", wait(since=NAN), "bad_request"),
    ("now is 1", "Shutdown", pack({"now": 1}), "bad_request"),
    ("cancel with null for ids", "Cancel", pack({"ids": None}), "bad_request"),
    ("cancel with an empty id", "Cancel", pack({"ids": [""]}), "bad_request"),
    ("pause with an id of 65 characters", "Pause", pack({"ids": ["x" * 65]}), "bad_request"),
    ("resume with 1001 ids", "Resume", pack({"ids": ["x"] * 1001}), "bad_request"),
    ("retry with a string for ids", "Retry", pack({"ids": "a"}), "bad_request"),
    ("all is 1", "Pause", pack({"all": 1}), "bad_request"),
    ("all is null", "Remove", pack({"all": None}), "bad_request"),
    ("failed is a string", "Remove", pack({"failed": "true"}), "bad_request"),
    ("events without since", "Replay", pack({}), "bad_request"),
    ("events since null", "Replay", events(since=None), "bad_request"),
    ("events since -1", "Replay", events(since=-1), "bad_request"),
    ("events since 41.0", "Replay", events(since=41.0), "bad_request"),
    ("events since 2^53", "Replay", events(since=2**53), "bad_request"),
    ("0 events", "Replay", events(limit=0), "bad_request"),
    ("1001 events", "Replay", events(limit=1001), "bad_request"),
    ("a lineage of 65 characters", "Replay", events(lineage="a" * 65), "bad_request"),
    ("a lineage that is a number", "Replay", events(lineage=7), "bad_request"),
    ("clean what is -1 s old", "Clean", pack({"older_than": -1}), "bad_request"),
    ("clean what is not a number old", "Clean", pack({"older_than": NAN}), "bad_request"),
    ("clean what is true old", "Clean", pack({"older_than": True}), "bad_request"),
    ("clean with null for orphans", "Clean", pack({"orphans": None}), "bad_request"),
    ("clean with 1001 ids", "Clean", pack({"ids": ["x"] * 1001}), "bad_request"),
    ("nil for reload", "Reload", b"\xc0", "bad_request"),
    ("limit without a rate", "Limit", pack({}), "bad_request"),
    ("limit to 0", "Limit", pack({"rate": 0}), "bad_request"),
    ("limit to 1.0", "Limit", pack({"rate": 1.0}), "bad_request"),
    ("limit to true", "Limit", pack({"rate": True}), "bad_request"),
    ("limit to 2^53", "Limit", pack({"rate": 2**53}), "bad_request"),
    ("limit an empty host", "Limit", pack({"rate": 1, "host": ""}), "bad_request"),
    ("limit with null for ids", "Limit", pack({"rate": 1, "ids": None}), "bad_request"),
    # a job specification
    ("submit nothing", "Submit", pack({"jobs": []}), "bad_request"),
    ("a spec without directory", "Submit", pack({"jobs": [{"spec": {"url": "x"}}]}), "bad_request"),
    ("an empty URL", "Submit", submit(url=""), "bad_request"),
    ("an unknown field in a spec", "Submit", submit(torrent=True), "unsupported_field"),
    ("32 mirrors", "Submit", submit(mirrors=[f"http://m{n}/" for n in range(32)]), "bad_request"),
    ("an empty mirror", "Submit", submit(mirrors=[""]), "bad_request"),
    ("33 segments", "Submit", submit(segments=33), "bad_request"),
    ("-1 segments", "Submit", submit(segments=-1), "bad_request"),
    ("a limit of 0", "Submit", submit(limit_rate=0), "bad_request"),
    ("a limit of 1.5", "Submit", submit(limit_rate=1.5), "bad_request"),
    ("a deadline of 0", "Submit", submit(deadline=0), "bad_request"),
    ("a deadline that never comes", "Submit", submit(deadline=INFINITY), "bad_request"),
    ("a deadline in two years", "Submit", submit(deadline=2 * 366 * 86400), "bad_request"),
    ("a timeout of -1 s", "Submit", submit(read_timeout=-1), "bad_request"),
    ("a maximum of -1", "Submit", submit(max_size=-1), "bad_request"),
    ("an empty user agent", "Submit", submit(user_agent=""), "bad_request"),
    ("credentials without a password", "Submit", submit(credentials=["user"]), "bad_request"),
    ("credentials of three parts", "Submit", submit(credentials=["a", "b", "c"]), "bad_request"),
    ("credentials in a string", "Submit", submit(credentials="user:password"), "bad_request"),
    ("null for cookies", "Submit", submit(cookies=None), "bad_request"),
    ("an empty proxy", "Submit", submit(proxy=""), "bad_request"),
    ("insecure is 1", "Submit", submit(insecure=1), "bad_request"),
    ("null for keep_time", "Submit", submit(keep_time=None), "bad_request"),
    (
        "an unknown policy named as a hint",
        "Submit",
        submit(if_exists="Object contains unknown field"),
        "bad_request",
    ),
    ("a priority of 101", "Submit", submit(priority=101), "bad_request"),
    ("a priority of -101", "Submit", submit(priority=-101), "bad_request"),
    ("a priority of true", "Submit", submit(priority=True), "bad_request"),
    ("-1 retries", "Submit", submit(retries=-1), "bad_request"),
    ("1.5 retries", "Submit", submit(retries=1.5), "bad_request"),
    ("a umask of 512", "Submit", submit(umask=512), "bad_request"),
    ("a header that is not a string", "Submit", submit(headers={"A": 1}), "bad_request"),
    ("65 headers", "Submit", submit(headers={f"h{n}": "" for n in range(65)}), "bad_request"),
    ("33 labels", "Submit", submit(labels={f"l{n}": "" for n in range(33)}), "bad_request"),
    ("labels in an array", "Submit", submit(labels=["a"]), "bad_request"),
    ("null for cleanup", "Submit", submit(cleanup=None), "bad_request"),
    ("true for cleanup", "Submit", submit(cleanup=True), "bad_request"),
    ("success is 1", "Submit", submit(cleanup={"success": 1}), "bad_request"),
    ("an unknown field in a cleanup", "Submit", submit(cleanup={"cancel": True}), "unsupported_field"),
]

DEEP = 100_000
BOMBS: list[tuple[str, bytes]] = [
    ("100,000 arrays in each other", b"\x91" * DEEP + b"\xc0"),
    ("100,000 maps in each other", b"\x81\xa1a" * DEEP + b"\xc0"),
    ("a frame of array heads only", b"\x91" * (1 << 20)),
    ("the deepest arrays that unpack", b"\x91" * 1023 + b"\xc0"),
    ("arrays that each announce the whole frame", b"\xdd\x00\x0f\xff\x00" * 200_000),
    ("1,000 such, with items enough", b"\xdd\x00\x0f\x00\x00" * 1000 + b"\0" * 1_000_000),
    ("a million empty maps", b"\xdd" + struct.pack(">I", 1_048_570) + b"\x80" * 1_048_570),
    ("a million empty arrays", b"\xdd" + struct.pack(">I", 1_048_570) + b"\x90" * 1_048_570),
    ("349,000 maps of one pair", b"\xdd" + struct.pack(">I", 349_000) + b"\x81\xa0\xc0" * 349_000),
    ("a million nils", b"\xdd" + struct.pack(">I", 1_048_570) + b"\xc0" * 1_048_570),
    (
        "a map of 200,000 keys",
        b"\xdf" + struct.pack(">I", 200_000) + b"".join(b"\xa3%03x\xc0" % (n % 4096) for n in range(200_000)),
    ),
    (
        "a string of a megabyte as a key",
        b"\x81\xdb" + struct.pack(">I", 1_048_000) + b"a" * 1_048_000 + b"\xc0",
    ),
    ("a policy of a megabyte", pack({"jobs": [{"spec": SPEC | {"if_exists": "x" * 1_048_000}}]})),
    ("an unknown field with a name of a megabyte", pack({"jobs": [{"spec": SPEC | {"x" * 1_048_000: 1}}]})),
    (
        "1,000 arrays in each other, each as long as allowed",
        b"\xdd\x00\x00\x08\x00" * 1000 + b"\0" * 1_000_000,
    ),
    ("ids of a megabyte", pack({"ids": ["x" * 1_048_000]})),
]
"""Frames within the size limit that would cost much if they were believed."""
