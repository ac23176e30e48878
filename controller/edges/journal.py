"""The write-ahead journal on the log: fenced by name, replayed at start, told to whoever watches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from controller.core.failover import Failover
from controller.core.journal import Entry, Journal, Place
from redis_agent import telemetry, topics
from redis_agent.clock import instant, wall
from redis_agent.deadletters import DeadLetters
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.instants import after
from redis_agent.log import Delivered, Log, Outgoing, Start, Writer
from redis_agent.model import EventKind, FailoverEvent, FailoverId, InstanceId, Origin
from redis_agent.retries import patiently
from redis_agent.telemetry import Telemetry
from redis_agent.wire import decode_failover_event, failover_event_to

logger = logging.getLogger(__name__)
WRITER = "controller"
_WATCHER_HOLDS = 1000
_AGAIN_SECONDS = 0.1
_READ_AT_ONCE = 2000
_WITH_PLAN = frozenset({EventKind.APPROVED, EventKind.ENDED})
_BEFORE = timedelta(seconds=5)


class JournalLog:
    """Owns the journal. Whoever opens it last is the only one who can write: an older controller gets Fenced.

    `noted` is called with the instance of every event that is written.
    """

    def __init__(
        self,
        tracing: Telemetry,
        next_origin: Callable[[], Origin],
        dead: DeadLetters,
        noted: Callable[[InstanceId], None] = lambda _instance: None,
    ) -> None:
        self.journal = Journal()
        self.next_origin = next_origin
        self.noted = noted
        self._telemetry = tracing
        self._dead = dead
        self._log: Log | None = None
        self._writer: Writer | None = None
        self._watchers: set[asyncio.Queue[FailoverEvent]] = set()

    async def open(self, log: Log) -> None:
        """Fence earlier controllers, then read everything back. The order matters: nothing is written behind our back."""
        if self._writer is not None:
            await self._writer.close()  # an attempt before this one opened it and got no further
        self._writer, self._log = await log.writer(WRITER), log
        journal = Journal()
        # By the log's own time, so that a cooldown goes on where it was, whatever the wall clock says now.
        log_now, now = await log.now(), instant()
        async for record in _all(log, Start.BEGINNING):
            try:
                event = decode_failover_event(record.value, with_votes=False)
            except Malformed as fault:
                await self._writer.append([self._dead.letter(record, str(fault))])
                continue
            at = after(now, -max(timedelta(), log_now - record.at))
            journal.note(Entry(event, at, record.value, record.header("traceparent") or ""))
        self.journal = journal

    async def append(self, events: Sequence[FailoverEvent], span: Span) -> None:
        """Write events, all or none, and believe them only then.

        Raises Fenced (they aren't there), LogUnavailable (they may be there or not: don't leave it at that).
        """
        if self._writer is None:
            raise LogUnavailable("the journal isn't open yet")
        records = [self._record(event, span) for event in events]
        await self._writer.append(records)
        for event, record in zip(events, records, strict=True):
            self.journal.note(Entry(event, instant(), record.value, telemetry.traceparent_of(span)))
            logger.info("%s %s %s: %s", event.failover, event.kind.value, event.stage.value, event.reason)
            self.noted(event.instance)
            self._tell(event)

    async def append_at_last(self, events: Sequence[FailoverEvent], span: Span) -> None:
        """As `append`, again and again until the log takes them. Twice the same event counts once. Raises Fenced."""
        doing = f"{events[0].failover}: held until the journal takes it"
        async for attempt in patiently(doing, LogUnavailable, first_seconds=_AGAIN_SECONDS, longest_seconds=1.0):
            with attempt:
                await self.append(events, span)

    async def note(self, failover: Failover, kind: EventKind, reason: str) -> None:
        """Write what became of a failover, `failover` being as it is now, at last. Raises Fenced."""
        event = FailoverEvent(
            failover=failover.id,
            instance=failover.plan.instance,
            kind=kind,
            stage=failover.stage,
            at=wall(),
            reason=reason,
            origin=self.next_origin(),
            actor=failover.actor,
            plan=failover.plan if kind in _WITH_PLAN else None,
            fence=failover.fence,
            change_id=failover.change_id,
            phases=failover.phases,
        )
        with self.step_span(failover, f"journal {kind.value}") as span:
            await self.append_at_last([event], span)

    # --- looking back

    async def history(self, failovers: Collection[FailoverId]) -> dict[FailoverId, list[bytes]]:
        """The entries of failovers and of decisions not to act, oldest first; of old ones, from the log, in one go.

        Those that never were are left out. Raises LogUnavailable.
        """
        found: dict[FailoverId, list[bytes]] = {}
        missing: dict[FailoverId, Place] = {}
        for failover in failovers:
            kept, place = self.journal.kept(failover), self.journal.places.get(failover)
            if kept is not None:
                found[failover] = list(kept.entries)
            elif place is not None:
                missing[failover] = place
        if missing and self._log is not None:
            found |= await self._from_log(self._log, missing)
        return found

    async def _from_log(self, log: Log, missing: Mapping[FailoverId, Place]) -> dict[FailoverId, list[bytes]]:
        found: dict[FailoverId, list[bytes]] = {failover: [] for failover in missing}
        instances = {place.instance for place in missing.values()}
        since = instant() - min(place.at for place in missing.values()) + _BEFORE
        async for record in _all(log, since):
            if record.key not in instances:
                continue
            with suppress(Malformed):  # it went to dead-letter when the journal was read back
                failover = decode_failover_event(record.value, with_votes=False).failover
                if failover in found:
                    found[failover].append(record.value)
        return found

    # --- traces and watchers

    @contextmanager
    def step_span(self, failover: Failover, name: str) -> Iterator[Span]:
        """A span of that failover's trace."""
        attributes = {
            "redis_agent.failover": failover.id,
            "redis_agent.instance": failover.plan.instance,
            "redis_agent.stage": failover.stage.value,
        }
        with self.span(name, attributes, telemetry.context_of(failover.traceparent)) as span:
            yield span

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, str], context: Context | None = None, links: Sequence[Link] = ()
    ) -> Iterator[Span]:
        """A span that ends with the block. It doesn't become the current one: what it covers is passed on by hand."""
        span = self._telemetry.tracer.start_span(
            name, context=context, links=links, kind=SpanKind.CLIENT, attributes=attributes
        )
        try:
            yield span
        finally:
            span.end()

    def _record(self, event: FailoverEvent, span: Span) -> Outgoing:
        return Outgoing(
            topics.FAILOVERS,
            event.instance,
            failover_event_to(event).SerializeToString(),
            telemetry.headers(topics.FAILOVERS, event.origin, span),
        )

    def _tell(self, event: FailoverEvent) -> None:
        for watcher in self._watchers:
            if watcher.full():
                watcher.get_nowait()
            watcher.put_nowait(event)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator["asyncio.Queue[FailoverEvent]"]:
        """Every event from now on; a watcher that doesn't keep up loses the oldest."""
        queue: asyncio.Queue[FailoverEvent] = asyncio.Queue(_WATCHER_HOLDS)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)


async def _all(log: Log, start: Start | timedelta) -> AsyncIterator[Delivered]:
    """The journal's records from there to the end that it has when this begins. Raises LogUnavailable."""
    cursor = await log.cursor([topics.FAILOVERS], start)
    try:
        while not cursor.caught_up:
            for record in await cursor.read(_READ_AT_ONCE, 0.2):
                yield record
    finally:
        await cursor.close()
