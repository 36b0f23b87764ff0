"""Imported last by the fork server: what is in memory now is shared by every child and never collected.

No ZeroMQ context, no thread and no socket may exist when this is imported.
"""

import encodings.ascii
import encodings.idna
import encodings.punycode
import gc
import netrc
import shlex

IMPORTED = (encodings.ascii, encodings.idna, encodings.punycode, netrc, shlex)
"""Modules that `requests` and the resolver import at first use."""

gc.collect()
gc.freeze()
