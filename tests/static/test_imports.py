"""The dependency rules of the house, read from the imports of every module."""

from pathlib import Path

import pytest
from support.imports import Rule, Sources

ROOT = Path(__file__).parents[2]

PURE = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses",
    "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "ipaddress", "itertools", "math",
    "numbers", "operator", "re", "string", "textwrap", "types", "typing", "unicodedata", "urllib.parse",
})  # fmt: skip
"""Modules of the standard library that neither look at the machine nor act on it."""

VALUES = frozenset(
    f"fetchd.protocol.{name}"
    for name in (
        "codec",
        "control",
        "cookies",
        "errors",
        "events",
        "ids",
        "job",
        "mailbox",
        "urls",
        "version",
    )
)
"""The value types of the protocol and their (pure) codec: no paths, nothing that looks at the machine."""

SANDBOX = "fetchd.daemon.sandbox"
"""Stands alone, so that others may take it."""

GROUND = "fetchd.daemon.service"
"""The ground floor: what every process needs from the system. It knows none of the other rooms."""

WIRING = frozenset(
    f"fetchd.daemon.{name}"
    for name in (
        "__main__",
        "admission",
        "app",
        "doctor",
        "ground",
        "housekeeping",
        "keeping",
        "queries",
        "recovery",
        "renewal",
        "sources",
    )
)
"""The composition root: the only modules that know every room."""

INNER = frozenset(
    {"fetchd.daemon.router", "fetchd.daemon.events", "fetchd.daemon.store", "fetchd.daemon.supervise"}
)
CORE = "fetchd.daemon.core"


def sibling(name: str, *also: str) -> Rule:
    """The rooms around the core know its inputs and commands and the protocol, not each other."""
    room = f"fetchd.daemon.{name}"
    return Rule(
        f"{name} knows core and protocol, not its siblings",
        (room,),
        ours=frozenset({room, CORE, GROUND, SANDBOX, "fetchd.protocol", *also}),
    )


RULES = [
    Rule(
        "protocol stands alone",
        ("fetchd.protocol",),
        but=("fetchd.protocol.keys",),
        ours=frozenset({"fetchd.protocol"}),
        others=frozenset({"msgpack", "msgspec"}),
    ),
    Rule(
        "keys are made by libzmq",
        ("fetchd.protocol.keys",),
        ours=frozenset({"fetchd.protocol"}),
        others=frozenset({"msgspec", "zmq"}),
    ),
    Rule(
        "the client knows only the protocol",
        ("fetchd.client",),
        ours=frozenset({"fetchd.client", "fetchd.protocol"}),
    ),
    Rule(
        "the thin client works with pyzmq, msgpack and msgspec alone",
        ("fetchd.client",),
        but=("fetchd.client.cli",),
        never=frozenset({"fetchd.client.cli"}),
        others=frozenset({"zmq", "msgpack", "msgspec"}),
    ),
    Rule("the daemon does not know its clients", ("fetchd.daemon",), never=frozenset({"fetchd.client"})),
    Rule(
        "the core is pure",
        (CORE,),
        ours=frozenset({CORE}) | VALUES,
        others=frozenset({"msgspec"}),
        stdlib=PURE,
    ),
    Rule(
        "worker and transfer know the mailbox, not the supervisor's rooms",
        ("fetchd.daemon.worker", "fetchd.daemon.transfer"),
        never=INNER | WIRING | {CORE},
    ),
    sibling("router"),
    sibling("events"),
    sibling("store"),
    sibling("supervise", "fetchd.daemon.worker"),  # it spawns the worker's entry point
    Rule("the sandbox stands alone", (SANDBOX,), ours=frozenset({SANDBOX}), others=frozenset()),
    Rule(
        "service knows no other room",
        (GROUND,),
        ours=frozenset({GROUND, "fetchd.protocol"}),
    ),
    Rule(
        "only the composition root wires",
        ("fetchd.daemon",),
        but=(*WIRING, *INNER),
        never=INNER | WIRING,
    ),
]


@pytest.fixture(scope="module")
def sources() -> Sources:
    """All modules of the working tree."""
    return Sources.of(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_holds(sources: Sources, rule: Rule) -> None:
    assert not (broken := sources.violations([rule])), "\n" + "\n".join(broken)


def test_every_module_is_governed(sources: Sources) -> None:
    assert not [name for name in sources.texts if not any(rule.governs(name) for rule in RULES)]


BAD = [
    ("fetchd.protocol.x", "import zmq"),
    ("fetchd.protocol.x", "from fetchd.daemon import core"),
    ("fetchd.protocol.keys", "from fetchd.client import Client"),
    ("fetchd.client.x", "from fetchd.daemon.core import job"),
    ("fetchd.client.x", "import click"),
    ("fetchd.client.x", "def f():\n    from .cli import main"),
    ("fetchd.client.cli.x", "import fetchd.daemon"),
    ("fetchd.daemon.config", "from fetchd.client import Client"),
    ("fetchd.daemon.core.x", "import time"),
    ("fetchd.daemon.core.x", "from os import path"),
    ("fetchd.daemon.core.x", "import logging, zmq"),
    ("fetchd.daemon.core.x", "import urllib.request"),
    ("fetchd.daemon.core.x", "from ..store import sqlite"),
    ("fetchd.daemon.core.x", "from fetchd.protocol import paths"),
    ("fetchd.daemon.worker.x", "from ..core import job"),
    ("fetchd.daemon.transfer.x", "from fetchd.daemon import supervise"),
    ("fetchd.daemon.router.x", "from ..store.port import Store"),
    ("fetchd.daemon.store.x", "import fetchd.daemon.events.publisher"),
    (
        "fetchd.daemon.events.x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import supervise",
    ),
    ("fetchd.daemon.supervise.x", "from fetchd.daemon.router import loop"),
    ("fetchd.daemon.supervise.x", "from ..app import main"),
    ("fetchd.daemon.config", "from .store import port"),
    ("fetchd.daemon.service.x", "from ..router import loop"),
    ("fetchd.daemon.service.x", "from ..core import job"),
    ("fetchd.daemon.worker.x", "from fetchd.daemon.store import reader"),
]
GOOD = [
    ("fetchd.protocol.x", "import os, msgpack\nfrom .ids import CORRELATION_ID"),
    ("fetchd.client.x", "import zmq\nfrom fetchd.protocol import codec"),
    ("fetchd.client.cli.x", "import click\nfrom .. import session"),
    ("fetchd.daemon.core.x", "from collections.abc import Mapping\nfrom fetchd.protocol.job import State"),
    (
        "fetchd.daemon.core.x",
        "from fetchd.protocol import job\nfrom .inputs import Submitted\nfrom . import retry",
    ),
    (
        "fetchd.daemon.worker.x",
        "import zmq\nfrom fetchd.protocol import mailbox\nfrom ..transfer import http",
    ),
    ("fetchd.daemon.router.x", "import zmq\nfrom ..core.inputs import Submitted"),
    ("fetchd.daemon.app", "from .store import port\nfrom .router import loop\nfrom .supervise import spawn"),
    ("fetchd.daemon.__main__", "from .app import main"),
]
ROOMS = dict.fromkeys(
    (
        "fetchd.protocol.codec", "fetchd.protocol.job", "fetchd.protocol.mailbox", "fetchd.client.session",
        "fetchd.client.cli.main", "fetchd.daemon.core.retry", "fetchd.daemon.store.port", "fetchd.daemon.app",
        "fetchd.daemon.events.publisher", "fetchd.daemon.router.loop", "fetchd.daemon.supervise.spawn",
        "fetchd.daemon.transfer.http",
    ),
    "",
)  # fmt: skip


@pytest.mark.parametrize(("module", "text"), BAD)
def test_checker_sees_a_bad_import(module: str, text: str) -> None:
    assert Sources({**ROOMS, module: text}).violations(RULES)


@pytest.mark.parametrize(("module", "text"), GOOD)
def test_checker_lets_a_good_import_pass(module: str, text: str) -> None:
    assert Sources({**ROOMS, module: text}).violations(RULES) == []


def test_relative_imports_of_a_package_itself() -> None:
    sources = Sources({"fetchd.daemon.core": "from . import retry\nfrom ..store import port", **ROOMS},
                      frozenset({"fetchd.daemon.core"}))  # fmt: skip
    names = [found.name for found in sources.imports("fetchd.daemon.core")]
    assert names == ["fetchd.daemon.core.retry", "fetchd.daemon.store.port"]
