"""Which transfer handles which URL scheme, in a worker: plug-ins are imported here and nowhere else."""

from importlib import import_module
from operator import attrgetter

from fetchd.protocol.errors import Code

from .api import Transfer, TransferError
from .http import Http
from .schemes import BUILT_IN, plug_ins


class Transfers:
    """The transfers of one worker, made at first use and kept."""

    def __init__(self) -> None:
        self._made: dict[type[Transfer], Transfer] = {}

    def find(self, url: str) -> Transfer:
        """The transfer for a URL, or `unsupported_scheme`."""
        scheme = url.partition(":")[0].lower()
        kind = Http if scheme in ("http", "https") else _load(scheme)
        if kind not in self._made:
            self._made[kind] = _made(scheme, kind)
        return self._made[kind]


def _load(scheme: str) -> type[Transfer]:
    place = BUILT_IN.get(scheme) or plug_ins().get(scheme)
    if place is None:
        raise TransferError(Code.UNSUPPORTED_SCHEME, f"no transfer handles {scheme}: URLs")
    module, _, name = place.partition(":")
    try:
        kind = attrgetter(name)(import_module(module))
    except (Exception, SystemExit) as error:
        raise _broken(scheme, error) from error
    if not (isinstance(kind, type) and issubclass(kind, Transfer)):
        raise TransferError(Code.UNSUPPORTED_SCHEME, f"the plug-in for {scheme}: has no Transfer at {place}")
    return kind


def _made(scheme: str, kind: type[Transfer]) -> Transfer:
    try:
        return kind()
    except (Exception, SystemExit) as error:
        raise _broken(scheme, error) from error


def _broken(scheme: str, error: BaseException) -> TransferError:
    text = f"the plug-in for {scheme}: cannot be loaded: {type(error).__name__}: {error}"
    return TransferError(Code.UNSUPPORTED_SCHEME, text[:500])
