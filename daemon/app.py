"""The composition root: everything is made and wired here, and nowhere else.

The order at start: lock the state directory, end what an earlier daemon left, open the store, bring
workspaces home, bind, fork server, READY. At the end the same backwards.
"""

import contextlib
import logging
import os
import resource
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.settings import Settings as CoreSettings
from fetchd.protocol.control import Reloaded
from fetchd.protocol.journal import boot_id
from fetchd.protocol.paths import Endpoint
from fetchd.protocol.version import __version__

from .admission import Admission
from .config import IN_FORCE, Config, ConfigError, check_limits, core_settings, network
from .events.publisher import Publisher
from .queries import Handlers, loaded, store_handlers
from .renewal import Renewal
from .router.access import Access
from .router.control import Control
from .router.desk import Facts, Outside
from .router.engine import Engine
from .router.loop import Loop, boot_time
from .router.mailbox import Mailboxes
from .router.requests import Requests
from .router.waits import Waits
from .router.zap import Authorizer
from .sandbox import room
from .service import entry
from .service.host import StartError, prepare_runtime, raise_open_files, write_endpoint
from .service.lock import StateLock
from .service.notify import Notifier
from .service.signals import Signals
from .sources import Sources, bring_home
from .store.database import Database
from .store.reader import Reader
from .store.thread import Store
from .supervise.area import Areas
from .supervise.crew import Crew
from .supervise.crew import Settings as CrewSettings
from .supervise.delivery import Delivery
from .supervise.helpers import Helpers
from .supervise.roots import Roots
from .supervise.spawn import Spawner
from .supervise.workspace import Workspaces
from .transfer.schemes import installed_schemes

logger = logging.getLogger("fetchd")

PRELOAD = (entry.WORKER, entry.READER, "fetchd.daemon.service.warm")
CHILDREN_DEADLINE = 5.0
HEARTBEAT = 5_000_000
MINUTE = 60_000_000


class App:
    """One daemon. `run` returns when it has come to its end; `ready` is called once it can be used."""

    def __init__(
        self,
        config: Config,
        state: Path,
        ca_bundle: Callable[[Config], str],
        environment: dict[str, str],
        reread: Callable[[], Config],
    ) -> None:
        self.config = config
        self.reread = reread
        self.state = state
        self.ca_bundle = ca_bundle
        self.notifier = Notifier(environment)
        self.epoch = secrets.token_hex(8)
        self.boot = boot_id()
        self.cleanup = contextlib.ExitStack()

    def run(self, ready: Callable[[], None]) -> int:
        """Start, serve, stop. The exit status."""
        with self.cleanup:
            self._open()
            self._begin()
            self._write_endpoint()
            # first: whoever is told may look at the log
            logger.info("ready: fetchd %s, pid %d, state %s", __version__, os.getpid(), self.state)
            ready()
            self.notifier.ready(f"serving {self.state}")
            self.loop.run()
            self.notifier.stopping()
            self.waits.end_all()
            self._stop_children()
        logger.info("stopped")
        return 0

    # start

    def _open(self) -> None:
        """Everything that is opened once, in the order in which the last is closed first."""
        keep = self.cleanup.callback
        raise_open_files()
        self._check_sandbox()
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = StateLock(self.state)
        keep(self.lock.close)
        self.lock.outlive_children(CHILDREN_DEADLINE)
        runtime = prepare_runtime(self.state)
        # glibc would give every thread of a worker an arena of its own
        os.environ["MALLOC_ARENA_MAX"] = "2"
        self.spawner = Spawner(self.lock, PRELOAD)
        keep(self.spawner.stop)
        # it imports its modules while we open the database
        self.spawner.start()
        self.store = Store(self.state)
        keep(self.store.close)
        database = self.store.database
        self.areas = Areas(self.state, database.identity("instance").hex(), database.areas())
        keep(self.areas.close)
        self.workspaces = Workspaces(self.boot)
        self.helpers = Helpers()
        keep(self.helpers.close)
        self.context: zmq.Context[Any] = zmq.Context()
        keep(self.context.destroy)
        self.loop = Loop()
        self.waits = Waits(self.loop)
        self.mailboxes = Mailboxes(self.context, self.loop, runtime)
        keep(self.mailboxes.close_all)
        self.access = Access(lambda pid: pid in self.crew.pids())
        self.authorizer = Authorizer(self.context, self.access)
        keep(self.authorizer.close)
        lineage = database.identity("lineage", 8).hex()
        self.control = Control(
            self.context, runtime / "control", self.access, epoch=self.epoch, lineage=lineage
        )
        keep(self.control.close)
        self.publisher = Publisher(self.context, runtime / "events", self.epoch)
        keep(self.publisher.close)
        self.roots = Roots(self.state, runtime)
        self.admission = Admission(
            access=self.access, runtime=runtime, control=self.control, publisher=self.publisher,
            loop=self.loop, roots=self.roots,
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
            hash_key=database.identity("hash_key", 32),
            state_dir=str(self.state),
            started=time.time_ns() // 1000,
            started_mono=boot_time(),
        )

    def _check_sandbox(self) -> None:
        found = room.probe()
        lacking = room.missing(found)
        if lacking is not None and self.config.sandbox == "required":
            raise StartError(f"sandbox = required, but {lacking}")
        told = ", ".join(f"{layer} {state}" for layer, state in found.items())
        logger.log(
            logging.WARNING if lacking else logging.INFO, "sandbox (%s): %s", self.config.sandbox, told
        )

    def _begin(self) -> None:
        """The core and what carries out its commands."""
        core = self._core(self._load(self.store.database))
        self.engine = Engine(core, self.store.commit, self._commit_failed)
        self.crew = Crew(
            settings=self._crew_settings(),
            post=self.mailboxes,
            watch=self.loop,
            helpers=self.helpers,
            spawner=self.spawner,
            workspaces=self.workspaces,
            open_area=self.areas.open,
            drop_area=self.areas.drop_empty,
            load_secrets=lambda job, then: self.store.call(lambda database: database.secret(job), then),
            feed=self.engine.feed,
        )
        self.delivery = Delivery(
            helpers=self.helpers,
            workspaces=self.workspaces,
            areas=self.areas,
            reserved=lambda directory, names, then: self.store.call(
                lambda database: database.reserved(directory, names), then
            ),
            feed=self.engine.feed,
            modes=lambda: self.admission.modes,
        )
        self.mailboxes.arrived = self.crew.arrived
        self.mailboxes.reported = self.crew.reported
        self.mailboxes.hung = self.crew.hung
        self.mailboxes.hang_timeout = int(self.config.hang_timeout * 1e6)
        self.mailboxes.feed = self.engine.feed
        self.requests = Requests(
            self.control, self.engine, self.loop, self.waits, self.facts, self._outside()
        )
        self.engine.announce = self._announce
        self.engine.lost = self.requests.lost
        self.renewal = Renewal(
            engine=self.engine,
            crew=self.crew,
            helpers=self.helpers,
            loop=self.loop,
            store=self.store,
            load=self._load,
            begin=lambda found: self.engine.revive(self._core(found)),
        )
        self.engine.wire(self._handlers())
        self.store.start()
        self._watch()
        self.engine.start()

    def _load(self, database: Database) -> Loaded:
        """Bring workspaces home, and what the core starts from. Nobody acts for another core any more."""
        self.workspaces.forget_rooms()
        bring_home(self.areas, database)
        return database.load(self.boot, boot_time(), time.time_ns() // 1000)

    def _core(self, loaded: Loaded) -> Core:
        return Core(self._settings(), loaded)

    def _crew_settings(self) -> CrewSettings:
        return CrewSettings(
            connect_timeout=self.config.connect_timeout,
            read_timeout=self.config.read_timeout,
            ca_bundle=self.ca_bundle(self.config),
            workers_lock=str(self.lock.workers_file),
            min_speed=self.config.min_speed,
            min_speed_time=self.config.min_speed_time,
            max_size=self.config.max_size,
            sandbox=self.config.sandbox,
            network=network(self.config),
        )

    def _settings(self) -> CoreSettings:
        return core_settings(self.config, self.areas.default)

    def _outside(self) -> Outside:
        return Outside(
            lookup=self.sources.look_up,
            resolve=self.sources.resolve,
            page=self.sources.page,
            events=self.publisher.endpoint_of,
            relative=lambda: self.roots.relative,
            seq=self.publisher.seq,
            workspace=self.workspaces.path,
            worker_pid=self.crew.pid,
            sandbox=lambda: self.crew.layers,
            replay=self.sources.replay,
            survey=self.sources.survey,
            discard=self.sources.discard,
            reload=self._reload_config,
            schemes=installed_schemes,
        )

    def _handlers(self) -> Handlers:
        """What carries out each kind of command."""
        return {
            commands.Reply: self.requests.reply,
            commands.Refuse: self.requests.refuse,
            commands.Spawn: self.crew.spawn,
            commands.Kill: self.crew.kill,
            commands.AssignJob: self.crew.assign,
            commands.Allow: self.crew.allow,
            commands.StopAttempt: self.crew.stop,
            commands.AllowRestart: self.crew.allow_restart,
            commands.ProbeName: self.delivery.probe,
            commands.Seal: self.delivery.seal,
            commands.Publish: self.delivery.publish,
            commands.Clean: self.delivery.clean,
            commands.Progress: self.publisher.progress,
            commands.Exit: lambda _command: self.loop.stop(),
            **store_handlers(self.store, self.engine.feed, self.renewal.failed, boot_time),
        }

    def _watch(self) -> None:
        loop = self.loop
        loop.after = self.engine.turn
        loop.deadline = self.engine.deadline
        loop.add(self.store.wake, self.store.take)
        loop.add(self.helpers.wake, self.helpers.take)
        loop.add(self.authorizer.socket, self.authorizer.take)
        loop.add(self.control.socket, self.control.take)
        loop.add(self.publisher.socket, self.publisher.take)
        loop.add(self.reader.socket, self.reader.take)
        loop.add(self.signals.fd, self._signalled)
        loop.every(HEARTBEAT, lambda: self.publisher.heartbeat(self.engine.core.ledger.revision))
        self.mailboxes.watch()
        loop.every(MINUTE, self._prune)
        if self.notifier.watchdog is not None:
            loop.every(int(self.notifier.watchdog * 1e6 / 2), self.notifier.alive)

    def _write_endpoint(self) -> None:
        endpoint = Endpoint(
            pid=os.getpid(),
            version=__version__,
            epoch=self.epoch,
            control=self.control.endpoint,
            events=self.publisher.endpoint,
        )
        self.cleanup.callback(write_endpoint(self.state, endpoint).unlink, missing_ok=True)

    # while it runs

    def _signalled(self) -> None:
        for number in self.signals.take():
            if number is signal.SIGHUP:
                self._reload_config(lambda _answer, _error: None)
                continue
            logger.info("%s: stopping", number.name)
            if self.engine.dead:
                # there is no core to drain, and what it had is in the database
                self.loop.stop()
            self.engine.feed(inputs.Drain(now=False))

    def _reload_config(self, then: Callable[[Reloaded | None, str | None], None]) -> None:
        """Read the configuration again. A bad one changes nothing."""
        try:
            fresh = self.reread()
            check_limits(fresh, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            self.ca_bundle(fresh)
            self.admission.admit(fresh)
        except ConfigError as error:
            logger.error("the configuration stays as it was: %s", error)
            then(None, str(error))
            return
        changed = [key for key in IN_FORCE if getattr(fresh, key) != getattr(self.config, key)]
        self.config = fresh
        logging.getLogger().setLevel(fresh.log_level.upper())
        self.crew.settings = self._crew_settings()
        self.mailboxes.hang_timeout = int(fresh.hang_timeout * 1e6)
        self.engine.feed(inputs.Configure(self._settings()))
        logger.info("configuration read again; changed: %s", ", ".join(changed) or "nothing")
        answer = Reloaded(
            live=[key for key in changed if IN_FORCE[key] == "live"],
            next_worker=[key for key in changed if IN_FORCE[key] == "next_worker"],
            restart=[key for key in changed if IN_FORCE[key] == "restart"],
        )
        then(answer, None)

    def _announce(self, event: commands.Event, body: bytes) -> None:
        self.publisher.announce(event, body)
        final = event.job.terminal
        self.waits.changed(event.job.id, event.revision, final=final)

    def _prune(self) -> None:
        wall = time.time_ns() // 1000
        self.engine.feed(inputs.Overdue((), more=True))
        self.store.call(
            lambda database: database.prune(wall), loaded(lambda _none: None, self.renewal.failed)
        )
        self.store.call(
            lambda database: database.expired(wall, 500),
            loaded(
                lambda rows: self.engine.feed(inputs.Expired(tuple(rows))) if rows else None,
                self.renewal.failed,
            ),
        )

    # trouble and the end

    def _commit_failed(self, error: BaseException, tokens: list[object]) -> None:
        """Nothing of the batch was done. Tell those who asked, then start the core anew from the store."""
        for token in tokens:
            self.requests.lost(token)
        self.renewal.failed(error)

    def _stop_children(self) -> None:
        """End every worker and let their last effects settle, so that the next start finds a clean house."""
        self.crew.kill_all()
        self.engine.abandon()
        until = boot_time() + 2_000_000
        while not (self.crew.empty and self.helpers.idle()) and boot_time() < until:
            self.loop.turn(max(0.0, (until - boot_time()) / 1e6))
        self.sources.close()
