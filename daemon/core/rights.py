"""Who may do what: the one place that compares owners. Pure; whoever asks has been identified before.

Everybody has their own jobs, and those of others do not exist for them. Admins (the daemon's own user, root,
the members of `admin_group`) see and steer all jobs, and they alone govern what concerns everybody.
"""

from typing import Protocol


class Asker(Protocol):
    """Whoever asks: `owner` is a name such as `uid:1000` or `key:alice`."""

    @property
    def owner(self) -> str: ...

    @property
    def admin(self) -> bool: ...


class Owned(Protocol):
    """What belongs to somebody: a job, a lane, an intent."""

    @property
    def owner(self) -> str: ...


def is_of(thing: Owned, owner: str) -> bool:
    """Whether it is this owner's. About whose things are meant, not about who may do something to them."""
    return thing.owner == owner


def may_see(asker: Asker, owner: str) -> bool:
    """Whether what belongs to this owner exists for whoever asks."""
    return asker.admin or asker.owner == owner


def may_touch(asker: Asker, thing: Owned) -> bool:
    """Whether whoever asks may steer this: what one may see one may steer."""
    return may_see(asker, thing.owner)


def may_govern(asker: Asker) -> bool:
    """Whether whoever asks may decide for everybody: limits of hosts and of everything, reload, stopping the
    daemon, what belongs to no job."""
    return asker.admin


def may_unpark(shared: bool, asker: Asker | None = None) -> bool:
    """Whether a retry may open a parked host, which others' jobs may be waiting for, too."""
    return not shared or (asker is not None and may_govern(asker))


def in_scope(shown: str | None, owner: str | None) -> bool:
    """Whether an owner's jobs and the workers that run them are among those of a `scope`; None: nobody's."""
    return shown is None or shown == owner


def holds(shown: str | None, kind: str, name: str) -> bool:
    """Whether a closed gate is shown to a `scope`: one of a host or a disk tells of others' jobs."""
    return shown is None or kind == "daemon" or (kind == "owner" and shown == name)


def has_key(asker: Asker) -> bool:
    """Whether whoever asks has come in over TCP, by a key, and is no user of this machine."""
    return asker.owner.startswith("key:")


def scope(asker: Asker) -> str | None:
    """The owner whose jobs are shown to whoever asks; None: all jobs are."""
    return None if asker.admin else asker.owner
