"""Disks that are full or gone: a gate holds every job that is staged there, until there is room again."""

from typing import TYPE_CHECKING

from . import inputs
from .job import Moment

if TYPE_CHECKING:
    from .core import Core


def space_found(core: "Core", event: inputs.SpaceFound, now: Moment) -> None:
    """What was found out about the room on a file system."""
