"""The composition root: everything is made and wired here, and nowhere else.

The order at start: lock the state directory, end what an earlier daemon left, open the store, bring
workspaces home, bind, fork server, READY. At the end the same backwards.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable

from fetchd.daemon.core import commands, inputs
from fetchd.daemon.core.core import Core, Loaded
from fetchd.daemon.core.settings import Settings as CoreSettings
from fetchd.protocol.control import Reloaded
from fetchd.protocol.job import State
from fetchd.protocol.paths import Endpoint
from fetchd.protocol.version import __version__

from .config import IN_FORCE, ConfigError, check_limits, core_settings, network, room_for_clients
from .ground import Ground
from .housekeeping import Housekeeping
from .keeping import Keeper
from .queries import Handlers, loaded, store_handlers
from .recovery import recover
from .renewal import Renewal, sound
from .router.desk import Outside
from .router.engine import Engine
from .router.growth import give_back
from .router.loop import boot_time
from .router.requests import Requests
from .service.host import open_files, write_endpoint
from .store.database import Database
from .store.schema import DamagedError
from .supervise.assignment import Settings as CrewSettings
from .supervise.crew import Crew
from .supervise.delivery import Delivery
from .supervise.surroundings import Surroundings
from .supervise.usage import PERIOD as USAGE_PERIOD
from .supervise.usage import Watch as UsageWatch
from .transfer.schemes import installed_schemes
from .worker.room import RESOLVER

logger = logging.getLogger("fetchd")

HEARTBEAT = 5_000_000
MINUTE = 60_000_000


class App(Ground):
    """One daemon. `run` returns when it has come to its end; `ready` is called once it can be used."""

    refused = ""
    """Why the configuration could not be read again, the last time."""
    room = 0
    """How often what the rooms of workers hold has changed."""

    def run(self, ready: Callable[[], None]) -> int:
        """Start, serve, stop. The exit status."""
        with self.cleanup:
            self.open()
            self._begin()
            self._write_endpoint()
            # first: whoever is told may look at the log
            logger.info("ready: fetchd %s, pid %d, state %s", __version__, os.getpid(), self.state)
            ready()
            self.notifier.ready(self._condition())
            self.keeper.start(self.config.backup_interval)
            self.loop.run()
            self.notifier.stopping()
            self.waits.end_all()
            self._stop_children()
        logger.info("stopped")
        return 0

    # start

    def _begin(self) -> None:
        """The core and what carries out its commands."""
        core = self._core(sound(self.store.database, self._load))
        self._renamed()
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
            # where they cannot be read the database is in trouble, and no job is to blame
            load_secrets=lambda job, then: self.store.call(
                lambda database: database.secret(job),
                loaded(lambda payload: then(payload, None), self.renewal.failed),
            ),
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
        self.usage = UsageWatch(
            self.helpers, self.crew.pids, lambda: self.config.worker_memory, self.crew.greedy
        )
        self.usage.told = self._metrics
        self.mailboxes.arrived = self.crew.arrived
        self.mailboxes.reported = self.crew.reported
        self.mailboxes.hung = self.crew.hung
        self.mailboxes.hang_timeout = int(self.config.hang_timeout * 1e6)
        growth = self.mailboxes.growth
        growth.pids = self.crew.pids
        growth.over = lambda slot, worker: self.crew.greedy(slot, worker, "a message without end")
        growth.end_clients = self.doors.end_senders
        growth.let_go = lambda: self.helpers.run("memory", give_back, lambda _none, _error: None)
        self.mailboxes.feed = self.space.feed = self.engine.feed
        self.requests = Requests(
            self.control, self.engine, self.loop, self.waits, self.facts, self._outside()
        )
        self.engine.announce = self._announce
        self.engine.lost = self.requests.lost
        self.surroundings = Surroundings(
            self.loop, lambda pause, call: self.loop.at(boot_time() + pause, call), self._surroundings_changed
        )
        self.cleanup.callback(self.surroundings.close)
        self.renewal = Renewal(
            engine=self.engine,
            crew=self.crew,
            helpers=self.helpers,
            loop=self.loop,
            store=self.store,
            quiet=lambda: all([self.sources.close(), self.keeper.end()]),
            load=self._load,
            begin=self._begin_anew,
        )
        self.reader.damaged = lambda text: self.renewal.failed(DamagedError(text))
        self.keeper = Keeper(
            state=self.state,
            spawner=self.spawner,
            helpers=self.helpers,
            loop=self.loop,
            lock=self.lock,
            revision=lambda: self.engine.core.ledger.revision,
            damaged=self.renewal.failed,
        )
        self.housekeeping = Housekeeping(
            engine=self.engine,
            store=self.store,
            loop=self.loop,
            failed=self.renewal.failed,
            history=lambda: self.config.keep_history,
        )
        self.store.full = self.space.full
        self.engine.wire(self._handlers())
        self._look_around()
        self.store.start()
        self._watch()
        self.space.check(commands.CheckSpace(""))
        self.engine.start()

    def _load(self, database: Database) -> Loaded:
        """What the core starts from, the workspaces in order. Nobody acts for another core any more."""
        self.workspaces.forget_rooms()
        found = database.load(self.boot, boot_time(), time.time_ns() // 1000)
        publishing = (job for job in found.active if job.state is State.PUBLISHING)
        recover(self.areas, database, self.state, publishing, restored=database.restored is not None)
        self.lineage = database.identity("lineage", 8).hex()
        database.settle_restore()
        return found

    def _renamed(self) -> None:
        """Tell everybody the lineage that the database has now."""
        self.control.lineage = self.facts.lineage = self.lineage

    def _begin_anew(self, loaded: Loaded) -> None:
        self._renamed()
        self.engine.revive(self._core(loaded))

    def _core(self, loaded: Loaded) -> Core:
        return Core(self._core_settings(), loaded)

    def _core_settings(self) -> CoreSettings:
        return core_settings(self.config, self.areas.default, self.room)

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

    def _outside(self) -> Outside:
        return Outside(
            lookup=self.sources.look_up,
            resolve=self.sources.resolve,
            page=self.sources.page,
            events=self.publisher.endpoint_of,
            relative=lambda: self.roots.relative,
            trouble=lambda: self.keyring.trouble if self.keyring is not None else None,
            seq=self.publisher.seq,
            workspace=self.workspaces.path,
            worker_pid=self.crew.pid,
            usage=self.usage.of,
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
            commands.CheckSpace: self.space.check,
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
        if self.keyring is not None and self.keyring.watch is not None:
            loop.add(self.keyring.watch.fd, self.keyring.take)
        loop.every(HEARTBEAT, self._heartbeat)
        self.mailboxes.watch()
        loop.every(USAGE_PERIOD, self.usage.look)
        loop.every(USAGE_PERIOD, self.mailboxes.growth.look)
        loop.every(MINUTE, self.housekeeping.do)
        loop.every(MINUTE, self.doors.look)
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
            self.notifier.stopping()
            if self.engine.dead:
                # there is no core to drain, and what it had is in the database
                self.loop.stop()
            self.engine.feed(inputs.Drain(now=False))
            self.notifier.status(self._draining())

    def _heartbeat(self) -> None:
        self.publisher.heartbeat(self.engine.core.ledger.revision)
        self.notifier.status(self._condition())

    def _condition(self) -> str:
        """How the daemon is, in a line for the service manager."""
        if self.engine.dead:
            return "in trouble with the database, starting anew from it"
        if self.engine.core.draining:
            return self._draining()
        counts = self.engine.core.ledger.counts
        bad = f"; the configuration stays as it was: {self.refused}" if self.refused else ""
        return f"serving, {counts[State.RUNNING]} running, {counts[State.QUEUED]} queued{bad}"

    def _draining(self) -> str:
        return f"draining, {self.engine.core.ledger.counts[State.RUNNING]} downloads save their progress"

    def _reload_config(self, then: Callable[[Reloaded | None, str | None], None]) -> None:
        """Read the configuration again. A bad one changes nothing."""
        self.notifier.reloading()
        try:
            answer = self._configure()
        except ConfigError as error:
            with contextlib.suppress(ConfigError):  # a group of the old one may be gone
                # half of it may be in force
                self.admission.admit(self.config)
            self.refused = str(error)
            logger.error("the configuration stays as it was: %s", error)
            then(None, str(error))
        else:
            self.refused = ""
            then(answer, None)
        self.notifier.ready(self._condition())

    def _configure(self) -> Reloaded:
        """Other settings from now on, or `ConfigError`."""
        fresh = self.reread()
        check_limits(fresh, open_files())
        self.ca_bundle(fresh)
        self.admission.admit(fresh)
        changed = [key for key in IN_FORCE if getattr(fresh, key) != getattr(self.config, key)]
        self.config = fresh
        logging.getLogger().setLevel(fresh.log_level.upper())
        self.crew.settings = self._crew_settings()
        self.space.min_free = fresh.min_free
        self.doors.most = room_for_clients(fresh, open_files())
        self.mailboxes.hang_timeout = int(fresh.hang_timeout * 1e6)
        if "backup_interval" in changed:
            self.keeper.configure(fresh.backup_interval)
        self.room += any(IN_FORCE[key] == "next_worker" for key in changed)
        self.engine.feed(inputs.Configure(self._core_settings()))
        self._look_around()
        logger.info("configuration read again; changed: %s", ", ".join(changed) or "nothing")
        return Reloaded(
            live=[key for key in changed if IN_FORCE[key] == "live"],
            next_worker=[key for key in changed if IN_FORCE[key] == "next_worker"],
            restart=[key for key in changed if IN_FORCE[key] == "restart"],
        )

    def _look_around(self) -> None:
        """Watch what of this machine the rooms of workers hold by its inode."""
        self.surroundings.watch({*RESOLVER, self.crew.settings.ca_bundle} - {""})

    def _surroundings_changed(self, paths: list[str]) -> None:
        logger.info("workers are replaced, since there is another %s", ", ".join(paths))
        self.room += 1
        self.engine.feed(inputs.Configure(self._core_settings()))

    def _announce(self, event: commands.Event, body: bytes) -> None:
        self.publisher.announce(event, body)
        final = event.job.terminal
        self.waits.changed(event.job.id, event.revision, final=final)

    def _metrics(self) -> None:
        if self.engine.dead:
            return
        told = {shown: self.requests.metrics(shown) for shown in self.publisher.listeners()}
        revision = self.engine.core.ledger.revision
        # memory may be ahead of the disk
        self.engine.after(lambda: self.publisher.metrics(told, revision))

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
        self.keeper.end()
