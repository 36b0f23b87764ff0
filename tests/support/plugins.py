"""Installed plug-ins: distributions as pip leaves them, in a directory that is put on the path."""

from collections.abc import Mapping
from pathlib import Path

GROUP = "fetchd.transfers"


def install(directory: Path, name: str, entries: Mapping[str, str] | str, source: str = "") -> None:
    """A distribution with one module `name` (its text is `source`) and entry points for transfers."""
    if not isinstance(entries, str):
        entries = f"[{GROUP}]\n" + "".join(f"{scheme} = {place}\n" for scheme, place in entries.items())
    (directory / f"{name}.py").write_text(source)
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


DEMO = '''\
"""A transfer that makes up its bytes: `demo://HOST/NAME` is HOST times NAME."""

from urllib.parse import urlsplit

from fetchd.daemon.transfer.api import Context, Transfer, TransferError
from fetchd.protocol.errors import Code
from fetchd.protocol.mailbox import Validator


class Demo(Transfer):
    def run(self, context: Context) -> int:
        context.check()
        parts = urlsplit(context.task.url)
        if parts.path == "/nothing":
            raise TransferError(Code.NOT_FOUND, "there is nothing")
        content = parts.hostname.encode() * len(parts.path)
        validator, generation = Validator(etag='"demo"'), context.task.generation
        context.responded(
            status=200, url=context.task.url, total=len(content), kept=0, validator=validator,
            disposition=None,
        )
        context.sink.begin(validator, len(content), generation, ())
        context.sink.stripe(self).write(content)
        return len(content)

    def close(self) -> None:
        pass
'''
"""The text of a whole plug-in, entered as `demo = NAME:Demo`."""
