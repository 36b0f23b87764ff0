"""What a daemon stands on: everything that is opened once, before there is a core.

Part of the composition root.
"""

import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from fetchd.protocol.journal import boot_id
from fetchd.protocol.paths import runtime_dir

from .admission import Admission
from .config import Config, room_for_clients
from .events.publisher import Publisher
from .router.access import Access
from .router.control import Control
from .router.desk import Facts
from .router.keyring import Keyring
from .router.loop import Loop, boot_time
from .router.mailbox import Mailboxes
from .router.waits import Waits
from .router.zap import Authorizer
from .sandbox import room
from .service import child, entry, listening
from .service.ballast import Ballast, fitting
from .service.doors import Doors
from .service.floors import too_old
from .service.host import StartError, check_names, open_files, prepare_runtime, raise_open_files
from .service.lock import StateLock
from .service.notify import Notifier
from .service.signals import Signals
from .service.tcp import Tcp, server_key
from .sources import Sources
from .store.reader import Reader
from .store.thread import Store
from .supervise.area import Areas
from .supervise.crew import Crew
from .supervise.helpers import Helpers
from .supervise.roots import Roots
from .supervise.space import Space
from .supervise.spawn import Spawner
from .supervise.workspace import Workspaces

logger = logging.getLogger("fetchd")

PRELOAD = (entry.WORKER, entry.READER, entry.BACKUP, "fetchd.daemon.service.warm")
CHILDREN_DEADLINE = 5.0
SOCKETS = 2048
"""ZeroMQ sockets: one for each worker, three for each owner who listens to events."""


class Ground:
    """One daemon's files, sockets, processes and threads. Made first, closed last."""

    crew: Crew

    def __init__(
        self,
        config: Config,
        state: Path,
        ca_bundle: Callable[[Config], str],
        environment: dict[str, str],
        reread: Callable[[], Config],
        authorized: Path,
    ) -> None:
        self.config = config
        self.reread = reread
        self.authorized = authorized
        self.state = state
        self.ca_bundle = ca_bundle
        self.notifier = Notifier(environment)
        self.environment = environment
        self.epoch = secrets.token_hex(8)
        self.boot = boot_id()
        self.cleanup = contextlib.ExitStack()

    def open(self) -> None:
        """Everything that is opened once, in the order in which the last is closed first."""
        keep = self.cleanup.callback
        if found := list(too_old()):
            raise StartError("; ".join(found))
        check_names(self.state, runtime_dir(self.state))
        raise_open_files()
        self._check_sandbox()
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = StateLock(self.state)
        keep(self.lock.close)
        self.lock.outlive_children(CHILDREN_DEADLINE)
        passed = listening.passed(self.environment)
        runtime = prepare_runtime(self.state, passed)
        control, events = runtime / "control", runtime / "events"
        listening.check(passed, (control, events))
        # glibc would give every thread of a worker an arena of its own
        os.environ["MALLOC_ARENA_MAX"] = "2"
        os.environ[child.AUTHORITIES] = self.ca_bundle(self.config)
        self.spawner = Spawner(self.lock, PRELOAD)
        keep(self.spawner.stop)
        # it imports its modules while we open the database
        self.spawner.start()
        self.ballast = Ballast(self.state / "ballast", fitting(self.state))
        self.store = Store(self.state, self.ballast)
        keep(self.store.close)
        database = self.store.database
        self.areas = Areas(self.state, database.identity("instance").hex(), database.areas())
        keep(self.areas.close)
        self.helpers = Helpers()
        keep(self.helpers.close)
        self.space = Space(
            state=self.state,
            ballast=self.ballast,
            helpers=self.helpers,
            check_mount=self.areas.check,
            min_free=self.config.min_free,
        )
        self.workspaces = Workspaces(self.boot, self.areas.check, self.space.fit)
        self.context: zmq.Context[Any] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, SOCKETS)
        keep(self.context.destroy)
        self.loop = Loop()
        self.waits = Waits(self.loop)
        self.mailboxes = Mailboxes(self.context, self.loop, runtime)
        keep(self.mailboxes.close_all)
        self.access = Access(lambda pid: pid in self.crew.pids().values())
        self.doors = Doors(self.context, self.loop, runtime, room_for_clients(self.config, open_files()))
        keep(self.doors.close)
        self.authorizer = Authorizer(self.context, self.access)
        keep(self.authorizer.close)
        lineage = database.identity("lineage", 8).hex()
        self.tcp, self.keyring = self._listen()
        self.control = Control(
            self.doors, control, self.access, epoch=self.epoch, lineage=lineage,
            passed=passed.get(control), tcp=self.tcp,
        )  # fmt: skip
        keep(self.control.close)
        self.publisher = Publisher(self.doors, events, self.epoch, passed.get(events), self.tcp)
        keep(self.publisher.close)
        self.roots = Roots(self.state, runtime)
        self.admission = Admission(
            access=self.access, runtime=runtime, control=self.control, publisher=self.publisher,
            loop=self.loop, roots=self.roots, keyring=self.keyring, waits=self.waits,
        )  # fmt: skip
        self.admission.admit(self.config)
        self.sources = Sources(
            store=self.store,
            areas=self.areas,
            helpers=self.helpers,
            spawner=self.spawner,
            loop=self.loop,
            lock=self.lock,
            roots=self.roots,
        )
        self.reader = self.sources.reader = Reader(self.context, runtime, self.sources.start_reader)
        keep(self.reader.close)
        self.signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        keep(self.signals.close)
        self.facts = Facts(
            epoch=self.epoch,
            lineage=lineage,
            hash_key=database.hash_key(),
            state_dir=str(self.state),
            started=time.time_ns() // 1000,
            started_mono=boot_time(),
            tcp={"tcp": self.tcp.control.endpoint, "server_key": self.tcp.public_key} if self.tcp else {},
        )

    def _listen(self) -> tuple[Tcp | None, Keyring | None]:
        """Where the daemon is reached over TCP, and who may, if it is to be."""
        if not self.config.listen:
            return None, None
        tcp = Tcp(self.config.listen, server_key(self.state))
        self.cleanup.callback(tcp.close)
        keyring = Keyring(self.authorized, self.access)
        self.cleanup.callback(keyring.close)
        logger.info("listening at %s with the key %s", tcp.control.endpoint, tcp.public_key)
        return tcp, keyring

    def _check_sandbox(self) -> None:
        found = room.probe()
        lacking = room.missing(found)
        if lacking is not None and self.config.sandbox == "required":
            raise StartError(f"sandbox = required, but {lacking}")
        told = ", ".join(f"{layer} {state}" for layer, state in found.items())
        logger.log(
            logging.WARNING if lacking else logging.INFO, "sandbox (%s): %s", self.config.sandbox, told
        )
