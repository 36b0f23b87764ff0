"""Tools for tests: an origin server that lies on demand, a real nginx, real daemons, waits, leak checks.

Nothing here sleeps or polls: every wait ends by a descriptor, a condition or its deadline. Everything that is
started is ended by the one who started it; `leaks` proves it after every test.
"""
