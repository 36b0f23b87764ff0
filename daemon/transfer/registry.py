"""Which transfer handles which URL scheme."""

from fetchd.protocol.errors import Code

from .api import Transfer, TransferError
from .http import Http

SCHEMES: dict[str, type[Transfer]] = {"http": Http, "https": Http}


class Transfers:
    """The transfers of one worker, made at first use and kept."""

    def __init__(self) -> None:
        self._made: dict[type[Transfer], Transfer] = {}

    def find(self, url: str) -> Transfer:
        """The transfer for a URL, or `unsupported_scheme`."""
        scheme = url.partition(":")[0].lower()
        kind = SCHEMES.get(scheme)
        if kind is None:
            raise TransferError(Code.UNSUPPORTED_SCHEME, f"no transfer handles {scheme}: URLs")
        if kind not in self._made:
            self._made[kind] = kind()
        return self._made[kind]
