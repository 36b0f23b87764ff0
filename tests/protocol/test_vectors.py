"""The golden vectors and the code agree in both directions, and nobody changed either by accident."""

import json
from typing import Any

import msgspec
import pytest

from fetchd.protocol import codec, control, events, job, status
from fetchd.protocol.errors import ProtocolError

from . import make_vectors

EXACT = ("headers", "requests", "replies", "errors", "events")
KINDS: dict[str, type[msgspec.Struct]] = {
    struct.__name__: struct
    for module in (control, events, job, status)
    for struct in vars(module).values()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct is not msgspec.Struct
}


def load(*files: str) -> list[Any]:
    return [
        pytest.param(vector, id=f"{file}: {vector['name']}")
        for file in files
        for vector in json.loads((make_vectors.VECTORS / f"{file}.json").read_text(encoding="utf-8"))
    ]


def test_the_generator_reproduces_the_files() -> None:
    present = {path.name: path.read_text(encoding="utf-8") for path in make_vectors.VECTORS.iterdir()}
    assert present == make_vectors.build(), "the wire changed; see make_vectors.py"


@pytest.mark.parametrize("vector", load(*EXACT))
def test_encoding(vector: dict[str, Any]) -> None:
    message = msgspec.convert(vector["value"], KINDS[vector["kind"]], strict=True)
    assert codec.encode(message).hex() == vector["hex"]


@pytest.mark.parametrize("vector", load(*EXACT, "tolerated"))
def test_decoding(vector: dict[str, Any]) -> None:
    message = codec.decode(bytes.fromhex(vector["hex"]), KINDS[vector["kind"]])
    value = json.loads(json.dumps(msgspec.to_builtins(message)))  # a pair is a list in JSON
    assert value == vector["value"]
    assert repr(value) == repr(vector["value"])  # 5 is not 5.0


@pytest.mark.parametrize("vector", load("refused"))
def test_refusal(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.decode(bytes.fromhex(vector["hex"]), KINDS[vector["kind"]])
    assert caught.value.code == vector["code"]


def test_every_message_has_a_vector() -> None:
    seen = {vector["kind"] for param in load(*EXACT) for vector in param.values}
    nested = {
        "NewJob", "Accepted", "Outcome", "WorkerStatus", "JobSpec", "JobError", "Cleanup", "Slots",
        "PastEvent", "WorkspaceInfo", "Held",
        "WorkerUsage",
    }  # fmt: skip
    assert seen | nested == KINDS.keys() - {"Verb"}  # no message, what five of them have in common


def test_names_are_unique() -> None:
    names = [param.id for param in load(*EXACT, "tolerated", "refused")]
    assert len(names) == len(set(names))
