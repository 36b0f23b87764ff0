"""A locked room for a process that talks to strangers: Landlock, seccomp, limits, capabilities.

`room.enter` and `room.seal` are the whole interface; each layer is a module of its own behind it. It needs
nothing but the standard library and knows nothing of fetchd.
"""
