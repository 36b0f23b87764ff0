"""Who may use this daemon, and where and how its files are put, as it is configured.

Part of the composition root.
"""

from collections.abc import Callable
from pathlib import Path

from .config import Config, ConfigError, groups, modes
from .events.outlet import Outlet
from .events.publisher import Publisher
from .router.access import Access, Who
from .router.control import Control
from .router.keyring import Keyring
from .router.loop import Loop
from .router.waits import Waits
from .service.sharing import Sharing
from .supervise.modes import BY_UMASK, Modes
from .supervise.roots import Roots


class Admission:
    """Keeps the modes of the public sockets and the rights of peers in step, and those of files."""

    def __init__(
        self,
        *,
        access: Access,
        runtime: Path,
        control: Control,
        publisher: Publisher,
        loop: Loop,
        roots: Roots,
        keyring: Keyring | None,
        waits: Waits,
    ) -> None:
        self._waits = waits
        self._roots = roots
        self.modes = BY_UMASK
        self._access = access
        self._sharing = sharing = Sharing(runtime)
        self._loop = loop
        self._publisher = publisher
        self._keyring = keyring
        if keyring is not None:
            keyring.revoked = self._revoked
        sharing.add(control.path)
        sharing.add(publisher.path)
        publisher.opened, publisher.closed = self._opened, self._closed

    def admit(self, config: Config) -> None:
        """From now on as it is configured here. `ConfigError` where a group is not there, or not ours."""
        group, admins = groups(config)
        shared = self._access.shared
        # closed before it is opened further: nobody comes in between whom the new groups do not have
        self._access.admit(group, admins)
        try:
            self._sharing.share(admins if group is None else group)
        except PermissionError:
            raise ConfigError(
                "group: the sockets can be given only to a group that the daemon is in"
            ) from None
        if shared:
            # others may have lost a group, or a group its members
            self._publisher.renew()
            self._waits.end_all()
        if self._keyring is not None:
            self._keyring.read()
        self._roots.limit(config.roots)
        self.modes = Modes(*modes(config))

    def _revoked(self, lost: frozenset[Who]) -> None:
        """Keys have been revoked: what they listen to ends, and all who wait ask anew, these in vain."""
        self._publisher.drop(lost)
        self._waits.end_all()

    def _opened(self, outlet: Outlet, take: Callable[[], None]) -> None:
        self._loop.add(outlet.socket, take)
        if outlet.path is not None:
            self._sharing.add(outlet.path)

    def _closed(self, outlet: Outlet) -> None:
        self._loop.remove(outlet.socket)
        if outlet.path is not None:
            self._sharing.drop(outlet.path)
