"""A locked room for a process that talks to strangers: limits, capabilities, Landlock, seccomp.

    from sandbox import room

    policy = room.Policy(writable=("/srv/inbox",), readable=("/usr/lib", "/etc/ssl/certs"), ports=(443,))
    layers = room.enter(policy, "best-effort")  # before there are threads
    ...  # what needs more than is left afterwards: a socket with a path, a server, a child
    layers |= room.seal("best-effort")
    print(room.missing(layers) or "every layer holds")

From then on the process reads and writes files below these directories alone, connects by TCP to port 443
alone, and starts no programs, makes no servers and signals nobody; `landlock` says what is left. What is to
be imported later has to be readable. There is no way back: start a process for it.

`room` is the whole interface; each layer is a module of its own behind it. It needs nothing but the standard
library and a Linux on x86-64 or arm64, and knows nothing of the program that it is a part of.
"""
