"""Which URL schemes have a transfer: the built-in ones and those of installed plug-ins, by metadata alone.

A plug-in is a distribution with entry points in the group `fetchd.transfers`: the scheme, and `module:class`
of a `Transfer`. Nothing of it is imported here; the worker does that, in its locked room. The supervisor asks
for the schemes only, so this module stays free of anything heavy.
"""

import functools
import logging
import re

GROUP = "fetchd.transfers"
BUILT_IN = {
    "http": "fetchd.daemon.transfer.http:Http",
    "https": "fetchd.daemon.transfer.http:Http",
    "ftp": "fetchd.daemon.transfer.ftp:Ftp",
    "ftps": "fetchd.daemon.transfer.ftp:Ftp",
}
"""Known without a look at any metadata: no plug-in takes their place."""

NEVER = frozenset({"file"})
"""Schemes that would open what the daemon's user can read to whoever may submit."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*+")
_PLACE = re.compile(r"\w++(?:\.\w++)*+:\w++(?:\.\w++)*+", re.ASCII)

logger = logging.getLogger("fetchd")


def installed_schemes() -> frozenset[str]:
    """Every scheme that a worker can be asked for."""
    return frozenset(BUILT_IN) | frozenset(plug_ins())


@functools.cache
def plug_ins() -> dict[str, str]:
    """`module:class` by scheme, as found at the first call; what is wrong is left out and logged.

    Of two distributions with the same scheme the first on `sys.path` has it, as with imports.
    """
    # 25 ms, and most daemons never need it
    from importlib import metadata

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            # one that cannot be read must not hide the others
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            entries = [(entry.name, entry.value) for entry in distribution.entry_points.select(group=GROUP)]
        except Exception as error:
            logger.warning("transfers of a plug-in ignored: %s: %s", type(error).__name__, error)
            continue
        for scheme, place in entries:
            why = _objection(scheme, place, found)
            if why is None:
                found[scheme] = place
            elif BUILT_IN.get(scheme) != place and found.get(scheme) != place:
                logger.warning("transfer %r = %r of a plug-in ignored: %s", scheme, place, why)
    return found


def _objection(scheme: str, place: str, found: dict[str, str]) -> str | None:
    if not _SCHEME.fullmatch(scheme):
        return "that is no URL scheme in lower case"
    if scheme in NEVER:
        return "this scheme is never offered"
    if scheme in BUILT_IN:
        return "this scheme is built in"
    if not _PLACE.fullmatch(place):
        return "that is not module:class"
    if scheme in found:
        return f"{found[scheme]} has this scheme already"
    return None
