"""The write-ahead journal on the log: fenced by name, replayed at start, told to whoever watches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from controller.core.failover import Failover
from controller.core.journal import EMPTY, Entry, Journal, fold
from redis_agent import telemetry, topics
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.log import Log, Outgoing, Start, Writer
from redis_agent.log.deadletter import dead_letter
from redis_agent.model import EventKind, FailoverEvent, Origin
from redis_agent.retries import patiently
from redis_agent.telemetry import Telemetry
from redis_agent.wire import decode_failover_event, failover_event_to

logger = logging.getLogger(__name__)
WRITER = "controller"
_WATCHER_HOLDS = 1000
_AGAIN_SECONDS = 0.1
_WITH_PLAN = frozenset({EventKind.APPROVED, EventKind.ENDED})


class JournalLog:
    """Owns the journal. Whoever opens it last is the only one who can write: an older controller gets Fenced."""

    def __init__(self, tracing: Telemetry, next_origin: Callable[[], Origin]) -> None:
        self.journal: Journal = EMPTY
        self.next_origin = next_origin
        self._telemetry = tracing
        self._writer: Writer | None = None
        self._watchers: set[asyncio.Queue[FailoverEvent]] = set()

    async def open(self, log: Log) -> None:
        """Fence earlier controllers, then read everything back. The order matters: nothing is written behind our back."""
        self._writer = await log.writer(WRITER)
        cursor = await log.cursor([topics.FAILOVERS], Start.BEGINNING)
        try:
            while not cursor.caught_up:
                for record in await cursor.read(500, 0.2):
                    try:
                        event = decode_failover_event(record.value)
                    except Malformed as fault:
                        self._telemetry.deadletters.labels(record.topic).inc()
                        await self._writer.append([dead_letter(record, str(fault))])
                        continue
                    self.journal = fold(self.journal, Entry(event, record.header("traceparent") or ""))
        finally:
            await cursor.close()

    async def append(self, events: Sequence[FailoverEvent], span: Span) -> None:
        """Write events, all or none, and believe them only then.

        Raises Fenced (they aren't there), LogUnavailable (they may be there or not: don't leave it at that).
        """
        if self._writer is None:
            raise LogUnavailable("the journal isn't open yet")
        await self._writer.append([self._record(event, span) for event in events])
        for event in events:
            self.journal = fold(self.journal, Entry(event, telemetry.traceparent_of(span)))
            logger.info("%s %s %s: %s", event.failover, event.kind.value, event.stage.value, event.reason)
            self._tell(event)

    async def append_at_last(self, events: Sequence[FailoverEvent], span: Span) -> None:
        """As `append`, again and again until the log takes them. Twice the same event counts once. Raises Fenced."""
        doing = f"{events[0].failover}: held until the journal takes it"
        async for attempt in patiently(doing, LogUnavailable, first_seconds=_AGAIN_SECONDS, longest_seconds=1.0):
            with attempt:
                await self.append(events, span)

    async def note(self, failover: Failover, kind: EventKind, reason: str) -> None:
        """Write what became of a failover, `failover` being as it is now. Insists. Raises Fenced."""
        event = FailoverEvent(
            failover=failover.id,
            instance=failover.plan.instance,
            kind=kind,
            stage=failover.stage,
            at=datetime.now(UTC),
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
