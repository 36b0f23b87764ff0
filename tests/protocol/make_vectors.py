"""Writes the golden vectors: `python -m tests.protocol.make_vectors` at the top of the repository.

Every file in `protocol/vectors/` is an array of objects, described in SPEC.md ("Golden vectors"). The output
is a function of `samples.py`, `sample_jobs.py`, `hostile.py` and the codec alone; `test_vectors.py` compares
it with the files, so that a change of the wire cannot go unseen. Run this only when the wire was meant to
change.
"""

import json
from pathlib import Path

import msgspec

from fetchd.protocol import codec

from . import hostile, samples

VECTORS = Path(__file__).resolve().parent.parent.parent / "protocol" / "vectors"


def messages(entries: list[tuple[str, object]]) -> list[dict[str, object]]:
    """Vectors of messages as this codec encodes them."""
    return [
        {
            "name": name,
            "kind": type(message).__name__,
            "value": msgspec.to_builtins(message),
            "hex": codec.encode(message).hex(),
        }
        for name, message in entries
    ]


def build() -> dict[str, str]:
    """File name to content."""
    files: dict[str, list[dict[str, object]]] = {
        "headers": messages(samples.HEADERS),
        "requests": messages(samples.REQUEST_BODIES),
        "replies": messages(samples.REPLY_BODIES),
        "errors": messages(samples.ERROR_BODIES),
        "events": messages(samples.EVENTS),
        "tolerated": [
            {"name": name, "kind": kind, "value": value, "hex": data.hex()}
            for name, kind, data, value in hostile.TOLERATED
        ],
        "refused": [
            {"name": name, "kind": kind, "hex": data.hex(), "code": code}
            for name, kind, data, code in hostile.REFUSED
        ],
    }
    return {
        f"{name}.json": json.dumps(entries, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
        for name, entries in files.items()
    }


def main() -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, content in build().items():
        (VECTORS / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
