"""The pure core: inputs and the time go in, commands come out.

No sockets, files, clocks, randomness or logging in here; see `tests/static` for the rule that keeps it so.
"""
