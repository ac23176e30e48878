"""What the collector hands to the log: observations at once or never, samples sooner or later.

An observation that can't be handed over within a second is given up: it would be old news, and the newest is said anew. A
sample is held while the log is away, and written when it is back.
"""

import asyncio
import logging

from opentelemetry.trace import Span
from prometheus_client import CollectorRegistry, Counter

from collector.core.statements import Statement
from collector.core.tick import Columns
from redis_agent import samples, telemetry, topics
from redis_agent.errors import LogUnavailable
from redis_agent.log import Log, Outgoing, Writer
from redis_agent.model import HAND_OVER_WITHIN, Observations, Vantage
from redis_agent.process import Origins
from redis_agent.wire import observations_to

logger = logging.getLogger(__name__)
_HELD_AT_MOST = 10_000
_AGAIN_SECONDS = 0.5


class Publishing:
    """Two writers of one vantage. `open` comes first."""

    def __init__(self, vantage: Vantage, origins: Origins, registry: CollectorRegistry) -> None:
        self._vantage = vantage
        self._origins = origins
        self._held: list[Outgoing] = []
        self._writing: asyncio.Future[None] | None = None
        self._away = ""  # why the log did not take the last batch; empty: it did
        self._shed = Counter(
            "redis_agent_records_shed", "Records given up because the log was away", ["topic"], registry=registry
        )

    async def open(self, log: Log) -> None:
        """Open both writers. Raises LogUnavailable."""
        self._votes: Writer = await log.writer(patience=HAND_OVER_WITHIN)
        self._samples: Writer = await log.writer()

    # --- observations

    async def say(self, statement: Statement, span: Span) -> bool:
        """Hand one statement over, at once or not at all; whether the log took it."""
        origin = self._origins.next()
        said = Observations(self._vantage, origin, statement.observations, statement.holding)
        record = Outgoing(
            topics.OBSERVATIONS,
            self._vantage,
            observations_to(said).SerializeToString(),
            telemetry.headers(topics.OBSERVATIONS, origin, span),
        )
        try:
            await self._votes.append([record])
        except LogUnavailable as fault:
            self._shed.labels(topics.OBSERVATIONS.name).inc()
            self._say_away(str(fault))
            return False
        self._say_back()
        return True

    # --- samples

    def hold(self, columns: Columns, instance: str, span: Span) -> None:
        """Samples of one partition, `instance` being one that belongs there; written by `write`."""
        if len(self._held) >= _HELD_AT_MOST:
            del self._held[0]
            self._shed.labels(topics.METRICS.name).inc()
        origin = self._origins.next()
        headers = telemetry.headers(topics.METRICS, origin, span)
        self._held.append(Outgoing(topics.METRICS, self._vantage, samples.encode(columns), headers, spread=instance))

    async def write(self) -> None:
        """Write the samples that are held. What a log that went away may have taken is written again when it is back."""
        if not self._held or self._writing is not None:
            return
        batch, self._held = self._held, []
        self._writing = asyncio.ensure_future(self._samples.append(batch))
        try:
            await asyncio.shield(self._writing)
        except LogUnavailable as fault:
            self._held = [*batch, *self._held]
            self._say_away(str(fault))
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            self._say_back()
        finally:
            if self._writing is not None and self._writing.done():
                self._writing = None

    async def finish(self) -> None:
        """Write what is held, once, after a write that was interrupted has ended."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self._writing = None
        if not self._away:
            await self.write()
        if self._held:
            logger.warning("the log is away; %d records of samples were not written", len(self._held))

    def _say_away(self, fault: str) -> None:
        if fault != self._away:
            self._away = fault
            logger.warning("the log is away; %d records of samples wait: %s", len(self._held), fault)

    def _say_back(self) -> None:
        if self._away:
            self._away = ""
            logger.warning("the log answers again")
