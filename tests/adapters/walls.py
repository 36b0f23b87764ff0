"""What the tests of the sandbox share: what is here, and what comes of deeds."""

import errno
from collections.abc import Callable, Mapping

import pytest

from fetchd.daemon.sandbox import landlock
from fetchd.daemon.sandbox.kernel import LayerError

try:
    VERSION = landlock.version()
except LayerError as error:
    VERSION, WHY = 0, f"landlock: {error}"
else:
    WHY = f"landlock is of version {VERSION}"

needs_landlock = pytest.mark.skipif(VERSION < 1, reason=WHY)
needs_all = pytest.mark.skipif(VERSION < 6, reason=WHY)


def outcome(deed: Callable[[], object]) -> str:
    """`done`, or the name of an error number."""
    try:
        deed()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def outcomes(deeds: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    return {name: outcome(deed) for name, deed in deeds.items()}
