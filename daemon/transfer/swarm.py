"""The connections of one download: one, or several that share the work.

The first one goes on with the response that the attempt began with. Others ask for parts of the same content,
pinned by its validator and total: from the same source, or from mirrors where a checksum will prove that all
have the same file. A connection that has nothing to do takes half of what would last longest. One that fails
leaves its stripe to the others; only when none is left does the attempt fail.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fetchd.protocol import urls
from fetchd.protocol.errors import TRANSIENT, Code
from fetchd.protocol.mailbox import Validator

from . import plan
from .api import Context, StoppedError, TransferError
from .body import Body
from .exchange import Answer, Exchange
from .failures import classify
from .lanes import CROWDED, FATAL, REFUSALS, ChangedError, Lane, NoPartsError, Source
from .ramp import Ramp
from .segments import SPLIT_SLOW
from .sink import SinkError, Stripe

PROGRESS = 1 << 20
"""Bytes that a connection must have brought to be worth another one when it breaks."""

LOOK = 1.0
"""Seconds between two looks for work while fewer are at it than could be: what was not worth dividing may
last, and speeds show only in time."""


class Swarm:
    """Receives one content into the sink. `run` returns None, or why the content is not what it was."""

    def __init__(
        self,
        context: Context,
        exchange: Exchange,
        source: str,
        paths: tuple[str, ...],
        total: int | None,
        validator: Validator,
        head: plan.Response,
        *,
        parts: bool,
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._paths = paths
        self._total = total
        task = context.task
        proven = validator.etag is not None or validator.last_modified is not None
        verifiable = task.checksum is not None or bool(head.digests)
        divisible = total is not None and not head.encoded and (proven or verifiable)
        ours = Source(context.source, source, validator, head.ranges and parts)
        self._sources = [ours]
        if verifiable and not task.alone:
            others = enumerate([task.url, *task.mirrors])
            self._sources += [
                Source(i, url, None, True)
                for i, url in others
                if url != source and urls.scheme(url) in ("http", "https")
            ]
        self._digests = set(head.digests)
        self._condition = threading.Condition()
        self._lanes: list[Lane] = []
        self._count = 0
        self._idle = 0
        self._error: BaseException | None = None
        self._outcome: plan.Changed | plan.NoParts | None = None
        # until one has, nobody relies on it that the source gives parts
        self._gives_parts = head.status == 206
        self._humbled = False
        self._most = 1
        wish = task.options.segments or Ramp.MOST
        if divisible and parts and (wish > 1 and context.sink.board.worth(wish) > 1):
            self._most = wish
        self._ramp = Ramp(task.options.segments or None)

    def run(self, answer: Answer) -> plan.Changed | plan.NoParts | None:
        """Receive until the file is complete; or why that cannot be."""
        first = self._lane(self._sources[0])
        if self._total == 0:
            answer.reusable = answer.head.length == 0
        elif self._most == 1:
            self._serve(first, answer, self._context.sink.stripe(first))
        else:
            self._share(first, answer)
        if self._outcome is not None:
            return self._outcome
        if self._error is not None:
            raise self._error
        if not self._context.sink.board.complete and self._total is not None:
            if self._most > 1 and not self._sources[0].usable:
                return plan.NoParts("what is missing is given by no source as a part")
            raise TransferError(Code.SHORT_BODY, f"{self._context.sink.on_hand} of {self._total} bytes came")
        return None

    def _share(self, first: Lane, answer: Answer) -> None:
        """Let lanes work in threads; see to it that there are as many as are good."""
        context = self._context
        context.changed = self._notify
        now = time.monotonic()
        want = min(self._most, max(1, context.connections), self._ramp.begin(now, context.sink.on_hand))
        with context.sink.lock:
            context.sink.board.spread(want)
        try:
            with self._condition:
                self._start(first, answer, context.sink.stripe(first))
                # holes may have been given back after the last lane looked for one
                while not self._over() and (self._lanes or self._add()):
                    self._condition.wait(self._adjust())
        finally:
            context.changed = None
            self._join()

    def _join(self) -> None:
        with self._condition:
            lanes = list(self._lanes)
            if not self._context.sink.board.complete:
                # else none of them waits for anything, and their connections may be good for the next attempt
                for lane in lanes:
                    lane.go()
        for lane in lanes:
            if lane.thread is not None:
                lane.thread.join()

    def _over(self) -> bool:
        return self._stopping() or self._context.sink.board.complete

    def _notify(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _adjust(self) -> float | None:
        """More or fewer lanes, as the ramp finds out and the supervisor allows; seconds to the next time."""
        context = self._context
        total = self._total or 0
        limited = context.task.rate is not None
        now = time.monotonic()
        want = self._ramp.want(now, context.sink.on_hand, total, limited=limited)
        want = min(self._most, max(1, context.connections), want)
        working = [lane for lane in self._lanes if not lane.leave]
        for lane in working[want:]:
            lane.go()
        count = len(working)
        while count < want and self._add():
            count += 1
        if count < want:
            # somebody has nothing to do, and somebody may be doing nothing
            for lane in working[:want]:
                if lane.is_stalled(now):
                    lane.go()
        times = [] if self._ramp.due is None else [max(0.0, self._ramp.due - now)]
        return min([*times, LOOK] if count < want else times, default=None)

    def _lane(self, source: Source) -> Lane:
        self._count += 1
        lane = Lane(self._count, source)
        self._lanes.append(lane)
        return lane

    def _add(self) -> bool:
        """Another lane at the least used source, if there is one left and something to do."""
        used = {source.index: 0 for source in self._sources}
        for lane in self._lanes:
            used[lane.source.index] += 1
        ours = self._sources[0]
        usable = [source for source in self._sources if source.usable]
        if not self._gives_parts and used[ours.index] > 1 and ours in usable:
            # one tries what no source may be relied upon to do
            usable.remove(ours)
        if not usable:
            return False
        source = min(usable, key=lambda source: used[source.index])
        lane = self._lane(source)
        stripe = self._context.sink.stripe(lane)
        if stripe is None:
            self._lanes.remove(lane)
            return False
        self._start(lane, None, stripe)
        return True

    def _start(self, lane: Lane, answer: Answer | None, stripe: Stripe | None) -> None:
        self._idle = max(0, self._idle - 1)
        lane.thread = threading.Thread(
            target=self._serve, args=(lane, answer, stripe), name=f"lane {lane.number}", daemon=True
        )
        lane.thread.start()

    # a lane's own thread

    def _serve(self, lane: Lane, answer: Answer | None, stripe: Stripe | None) -> None:
        failure = None
        try:
            self._work(lane, answer, stripe)
        except BaseException as error:
            failure = error
        lane.room.close()
        with self._condition:
            # in one step: of several that fail at once, the last one has to know that it is
            self._lanes.remove(lane)
            if failure is not None:
                self._failed(lane, failure)
            elif not lane.leave:
                self._idle += 1
            self._condition.notify_all()

    def _work(self, lane: Lane, answer: Answer | None, stripe: Stripe | None) -> None:
        while stripe is not None:
            try:
                if answer is not None:
                    self._receive(lane, answer, stripe)
                else:
                    self._ask(lane, stripe)
            except Exception as error:
                self._context.check()
                if lane.leave or self._stopping():
                    return
                if not self._goes_on(lane, error):
                    raise
            finally:
                stripe.give_back()
                if answer is not None:
                    answer.close()
                    answer = None
            if lane.leave or self._over() or self._total is None:
                return
            stripe = self._context.sink.stripe(lane)

    def _ask(self, lane: Lane, stripe: Stripe) -> None:
        """Ask for the lane's stripe and receive it."""
        source = lane.source
        lane.brought = 0
        wanted = plan.part_headers(stripe.position, stripe.end, source.pinned or Validator())
        with self._refusals(source), self._exchange.ask(source.url, wanted, lane.waits_at) as answer:
            verdict = self._judge(source, stripe.position, answer.head)
            match verdict:
                case plan.Changed(why) if source is self._sources[0]:
                    raise ChangedError(why)
                case plan.Changed(why):
                    raise TransferError(Code.MIRROR_DIFFERS, why)
                case plan.NoParts(why):
                    raise NoPartsError(why)
            if source is self._sources[0] and not self._gives_parts:
                with self._condition:
                    self._gives_parts = True
                    self._condition.notify_all()
            self._receive(lane, answer, stripe)

    @contextmanager
    def _refusals(self, source: Source) -> Iterator[None]:
        """A source that has answered before and refuses parts gives none; that is not the end of it."""
        try:
            yield
        except TransferError as error:
            if source.pinned is not None and error.code in REFUSALS:
                raise NoPartsError(error.message) from None
            raise

    def _judge(
        self, source: Source, start: int, head: plan.Response
    ) -> plan.Part | plan.NoParts | plan.Changed:
        assert self._total is not None
        with self._condition:
            # what is pinned now: several lanes may have asked a mirror before it answered any of them
            verdict = plan.judge_part(source.pinned or Validator(), self._total, start, head)
            if isinstance(verdict, plan.Part) and source.pinned is None:
                return self._compare(source, head)
        return verdict

    def _compare(self, source: Source, head: plan.Response) -> plan.Part | plan.Changed:
        """A mirror's first answer: its own validator is pinned, what it announces is compared."""
        for digest in head.digests:
            algorithm = digest.partition(":")[0]
            known = {said for said in self._known() if said.startswith(f"{algorithm}:")}
            if known and digest not in known:
                return plan.Changed(f"it announces another {algorithm}")
        source.pinned = head.validator
        return plan.Part()

    def _known(self) -> set[str]:
        checksum = self._context.task.checksum
        return self._digests | ({checksum} if checksum else set())

    def _receive(self, lane: Lane, answer: Answer, stripe: Stripe) -> None:
        if lane.source is not self._sources[0]:
            self._context.mixed = True
        timeout = self._context.task.read_timeout
        body = Body(answer.raw, answer.sock, answer.head.length, lane.room, self._paths, timeout)
        lane.waits_at(answer.sock)
        lane.brought = 0
        following: Stripe | None = stripe
        while following is not None:
            lane.part = part = following
            began = part.position
            try:
                body.receive(self._context, part, lambda: not lane.leave and not self._stopping())
            finally:
                lane.brought += part.position - began
                answer.reusable = body.whole
                complete = part.complete
                part.give_back()
            if self._total is not None and body.whole and not complete and lane.brought < SPLIT_SLOW:
                raise NoPartsError("parts that are too small")
            if lane.leave or not complete or body.whole:
                return
            # where others have left what comes next, this response has it too
            following = self._context.sink.stripe(lane, at=part.position)
            if following is None and lane.source is self._sources[0] and not self._gives_parts:
                following = self._await_verdict(lane, part.position)

    def _await_verdict(self, lane: Lane, at: int) -> Stripe | None:
        """What comes next has been asked for as a part for the first time: it may have to come from here."""

        def decided() -> bool:
            trial = any(other is not lane and other.source is lane.source for other in self._lanes)
            return self._gives_parts or not trial or lane.leave or self._over()

        with self._condition:
            self._condition.wait_for(decided)
            return self._context.sink.stripe(lane, at=at)

    def _stopping(self) -> bool:
        return self._error is not None or self._outcome is not None

    def _goes_on(self, lane: Lane, error: Exception) -> bool:
        """Whether a lane asks again after this; if not, it ends, and its stripe is free.

        The last one does not: retries are the supervisor's, who counts them.
        """
        if isinstance(error, ChangedError | NoPartsError | SinkError | StoppedError):
            return False
        code = classify(error).code
        others = any(other is not lane and not other.leave for other in list(self._lanes))
        return code in TRANSIENT - FATAL and others and lane.brought >= PROGRESS

    def _failed(self, lane: Lane, error: BaseException) -> None:
        """A lane has ended by an error. Called with the condition held, and without it among the lanes."""
        ours = lane.source is self._sources[0]
        if isinstance(error, NoPartsError) or not ours:
            lane.source.usable = False
        # those that ended for want of work, all was well with them, count too: once each
        alive = any(not other.leave for other in self._lanes) or (ours and self._idle > 0)
        # what others have left, another source may have
        spare = lane.source.usable is False and any(source.usable for source in self._sources)
        goes_on = self._most > 1 and (alive or spare)
        match error:
            case ChangedError():
                self._outcome = plan.Changed(error.why)
            case SinkError() | StoppedError():
                self._error = self._error or error
            case NoPartsError():
                if not goes_on:
                    self._outcome = self._outcome or plan.NoParts(error.why)
            case _ if isinstance(error, TransferError) and error.code in FATAL:
                self._error = self._error or error
            case _ if goes_on:
                self._lost(lane, classify(error))
            case _ if self._count > 1 and not self._humbled and classify(error).code in CROWDED:
                # too many at once, perhaps: the coordinator lets one alone try
                self._humbled = True
                self._ramp.hold(1)
            case _ if not ours and not self._sources[0].usable:
                # the first source is there, but for a plain request only
                self._outcome = self._outcome or plan.NoParts(classify(error).message)
            case _:
                # which source is to blame if this was the last one
                self._context.source = lane.source.index
                self._error = self._error or error

    def _lost(self, lane: Lane, error: TransferError) -> None:
        """One of several lanes is gone: the ramp does not try for so many again, a mirror not at all."""
        if lane.source is self._sources[0]:
            self._ramp.hold(len([other for other in self._lanes if not other.leave]))
        else:
            self._context.warn(Code.MIRROR_DIFFERS, f"mirror {lane.source.index}: {error.message}")
