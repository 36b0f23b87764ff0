"""The package's version and the wire's."""

__version__ = "0.1.0"

PROTOCOL = 1
"""Version of the control and event wire formats (`SPEC.md`); a peer that sends another is refused."""
