"""What crosses a socket, and nothing else.

This package imports the standard library, msgpack and msgspec; nothing else of fetchd. `SPEC.md` beside
this file is the normative contract for other languages; the code here follows it.
"""
