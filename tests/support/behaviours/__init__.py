"""How the origin may answer: a table of names, one small function each.

To add one, write `def name(exchange, resource, *, option=default)` under `@behaviour` in the module it fits,
with a docstring that says what goes over the wire. Its keyword-only parameters are the options of
`Origin.add`.
"""

from . import (
    basic,
    broken,
    changing,
    chunks,
    coded,
    connections,
    heads,
    lying,
    parts,
    ranges,
    redirects,
    status,
)
from .table import BEHAVIOURS, checked

__all__ = [
    "BEHAVIOURS",
    "basic",
    "broken",
    "changing",
    "checked",
    "chunks",
    "coded",
    "connections",
    "heads",
    "lying",
    "parts",
    "ranges",
    "redirects",
    "status",
]
