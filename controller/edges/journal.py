"""The write-ahead journal on the log: fenced by name, replayed at start, told to whoever watches."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.trace import Span

from controller.core.journal import EMPTY, Entry, Journal, fold
from redis_agent import telemetry, topics
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.log import Log, Outgoing, Start, Writer
from redis_agent.log.deadletter import dead_letter
from redis_agent.model import FailoverEvent
from redis_agent.telemetry import Telemetry
from redis_agent.wire import decode_failover_event, failover_event_to

logger = logging.getLogger(__name__)
WRITER = "controller"
_WATCHER_HOLDS = 1000


class JournalLog:
    """Owns the journal. Whoever opens it last is the only one who can write: an older controller gets Fenced."""

    def __init__(self, tracing: Telemetry) -> None:
        self.journal: Journal = EMPTY
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

    async def append(self, event: FailoverEvent, span: Span) -> None:
        """Write one event and believe it only then. Raises Fenced, LogUnavailable."""
        if self._writer is None:
            raise LogUnavailable("the journal isn't open yet")
        record = Outgoing(
            topics.FAILOVERS,
            event.instance,
            failover_event_to(event).SerializeToString(),
            telemetry.headers(topics.FAILOVERS, event.origin, span),
        )
        await self._writer.append([record])
        self.journal = fold(self.journal, Entry(event, telemetry.traceparent_of(span)))
        logger.info("%s %s %s: %s", event.failover, event.kind.value, event.stage.value, event.reason)
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
