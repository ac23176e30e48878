"""The collector's loop: each site at its time within the interval, news at once, samples once a tick."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

from opentelemetry.trace import Span
from prometheus_client import Counter, Gauge, Histogram

from collector.core.info import Info, parse
from collector.core.pacing import next_due, phases
from collector.core.tick import Tick
from collector.core.verdict import Answer, Failure, ProbeResult, judge
from collector.edges.resp import Connection
from collector.settings import Settings
from redis_agent import samples, telemetry, topics
from redis_agent.errors import LogUnavailable
from redis_agent.log import Outgoing, Writer
from redis_agent.model import Observation, Reason, Role, SiteId, Verdict
from redis_agent.process import Runtime
from redis_agent.wire import observation_to

logger = logging.getLogger(__name__)
_STALL_PULSE_SECONDS = 0.05
_HELD_AT_MOST = 10_000


class Service:
    """One vantage. Owns the connections, the last observation of every site, and what waits to be written."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.settings = settings
        self.last: dict[SiteId, Observation] = {}
        self.paused = False
        self._runtime = runtime
        self._sent: dict[SiteId, Observation] = {}
        self._connections = {
            site: Connection(endpoint, settings.timeout_seconds) for site, endpoint in settings.targets.items()
        }
        homes = {site: topics.partition_of(str(site), topics.METRICS.partitions) for site in settings.targets}
        self._spread = {home: str(site) for site, home in homes.items()}
        self._tick = Tick(settings.vantage, homes)
        self._outbox: list[Outgoing] = []
        self._away = ""  # why the log did not take the last batch; empty: it did
        self._wake = asyncio.Event()
        self._stall = timedelta()
        self._pulse_at = 0.0
        registry = runtime.telemetry.registry
        self._polls = Counter("redis_agent_polls", "Polls by reason", ["reason"], registry=registry)
        self._latency = Histogram(
            "redis_agent_ping_seconds",
            "PING round trips as this vantage sees them",
            registry=registry,
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
        )
        self._lag = Gauge(
            "redis_agent_loop_stall_seconds", "Longest stand-still of this process lately", registry=registry
        )
        self._shed = Counter("redis_agent_records_shed", "Records given up because the log was away", registry=registry)

    @property
    def vantage(self) -> str:
        """Where it looks from."""
        return self.settings.vantage

    @property
    def endpoints(self) -> dict[SiteId, str]:
        """What it looks at, as host:port."""
        return {site: str(endpoint) for site, endpoint in self.settings.targets.items()}

    async def run(self) -> None:
        """Poll until cancelled. What was gathered is written before the end."""
        async with self._runtime.log() as log:
            writer = await log.writer()
            await self._runtime.ready()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch_own_stalls())
                    group.create_task(self._write(writer))
                    offsets = phases(len(self._connections), self.settings.interval_seconds)
                    for site, phase in zip(self._connections, offsets, strict=True):
                        group.create_task(self._watch(site, phase))
            finally:
                for connection in self._connections.values():
                    connection.close()
                self._gather()
                await self._write_last(writer)

    async def _watch(self, site: SiteId, phase: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(next_due(loop.time(), phase, self.settings.interval_seconds) - loop.time())
            if self.paused:
                self._note(site, ProbeResult(Verdict.CANNOT_TELL, Reason.PAUSED, "collection is paused"), None, None)
            else:
                await self.poll(site)

    async def poll(self, site: SiteId) -> Observation:
        """Ask one site now and note what it says."""
        began = datetime.now(UTC)
        outcome = await self._connections[site].poll()
        stall = max(self._stall, self._recent_stall())
        result = judge(outcome, stall, timedelta(seconds=self.settings.timeout_seconds / 2))
        self._polls.labels(result.reason.value).inc()
        info = None
        if isinstance(outcome, Answer) and result.verdict is Verdict.UP:
            self._latency.observe(outcome.round_trip.total_seconds())
            if outcome.info is not None:
                info = parse(outcome.info)
                self._tick.add(site, datetime.now(UTC), outcome.round_trip, info)
        return self._note(site, result, outcome, info, began)

    def _note(
        self,
        site: SiteId,
        result: ProbeResult,
        outcome: Answer | Failure | None,
        info: Info | None,
        began: datetime | None = None,
    ) -> Observation:
        now = datetime.now(UTC)
        observation = Observation(
            site=site,
            vantage=self.settings.vantage,
            at=now,
            verdict=result.verdict,
            reason=result.reason,
            evidence=result.evidence,
            origin=self._runtime.origins.next(),
            round_trip=outcome.round_trip if isinstance(outcome, Answer) else None,
            role=info.role if info else Role.UNKNOWN,
            replication=info.replication if info else None,
        )
        self.last[site] = observation
        sent = self._sent.get(site)
        news = sent is None or _what(sent) != _what(observation)
        if news or sent is None or self._is_due(sent, now):
            self._sent[site] = observation
            self._send(observation, began or now)
        if news:
            logger.info("%s is %s: %s (%s)", site, result.verdict.value, result.reason.value, result.evidence)
            self._wake.set()
        return observation

    def _is_due(self, sent: Observation, now: datetime) -> bool:
        # Half an interval early rather than a whole one late: offsets come a little before or after their second.
        wait = self.settings.heartbeat_seconds - self.settings.interval_seconds / 2
        return now - sent.at >= timedelta(seconds=wait)

    def _send(self, observation: Observation, began: datetime) -> None:
        span = self._span(observation, began)
        record = Outgoing(
            topics.OBSERVATIONS,
            f"{observation.site}@{observation.vantage}",
            observation_to(observation).SerializeToString(),
            telemetry.headers(topics.OBSERVATIONS, observation.origin, span),
            spread=observation.site.instance,
        )
        span.end()
        self._hold(record)

    def _span(self, observation: Observation, began: datetime) -> Span:
        return self._runtime.telemetry.tracer.start_span(
            "poll",
            start_time=int(began.timestamp() * 1e9),
            attributes={
                "redis_agent.site": str(observation.site),
                "redis_agent.vantage": observation.vantage,
                "redis_agent.verdict": observation.verdict.value,
                "redis_agent.reason": observation.reason.value,
            },
        )

    def _hold(self, record: Outgoing) -> None:
        # While the log is away the newest count; an old vote is worth nothing.
        if len(self._outbox) >= _HELD_AT_MOST:
            del self._outbox[0]
            self._shed.inc()
        self._outbox.append(record)

    async def _write(self, writer: Writer) -> None:
        """Write samples once a tick, and observations as soon as one is news."""
        loop = asyncio.get_running_loop()
        flush_at = loop.time() + self.settings.interval_seconds
        while True:
            try:
                async with asyncio.timeout_at(flush_at):
                    await self._wake.wait()
            except TimeoutError:
                flush_at = max(flush_at + self.settings.interval_seconds, loop.time())
                self._gather()
            self._wake.clear()
            if not self._outbox:
                continue
            try:
                await self._append(writer)
            except LogUnavailable as fault:
                self._say_away(str(fault))
                await asyncio.sleep(0.5)

    async def _append(self, writer: Writer) -> None:
        """Write what waits. What was not written waits on, before what came meanwhile."""
        batch, self._outbox = self._outbox, []
        try:
            await writer.append(batch)
        except BaseException:
            later, self._outbox = self._outbox, []
            for record in (*batch, *later):
                self._hold(record)
            raise
        if self._away:
            self._away = ""
            logger.warning("the log answers again")

    async def _write_last(self, writer: Writer) -> None:
        if not self._away:
            with contextlib.suppress(LogUnavailable):
                await self._append(writer)
        if self._outbox:
            logger.warning("the log is away; %d records were not written", len(self._outbox))

    def _say_away(self, fault: str) -> None:
        if fault != self._away:
            self._away = fault
            logger.warning("the log is away; holding %d records: %s", len(self._outbox), fault)

    def _gather(self) -> None:
        rows = self._tick.drain()
        if not rows:
            return
        with self._runtime.telemetry.tracer.start_as_current_span("tick") as span:
            span.set_attribute("redis_agent.vantage", self.settings.vantage)
            for home, columns in rows.items():
                self._hold(
                    Outgoing(
                        topics.METRICS,
                        self.settings.vantage,
                        samples.encode(columns),
                        telemetry.headers(topics.METRICS, self._runtime.origins.next(), span),
                        spread=self._spread[home],
                    )
                )

    async def _watch_own_stalls(self) -> None:
        """Keep the longest time lately for which this loop did not run: time-outs then are ours, not a site's."""
        loop = asyncio.get_running_loop()
        self._pulse_at = loop.time()
        while True:
            await asyncio.sleep(_STALL_PULSE_SECONDS)
            late = timedelta(seconds=max(0.0, loop.time() - self._pulse_at - _STALL_PULSE_SECONDS))
            self._pulse_at = loop.time()
            fading = self._stall - timedelta(seconds=_STALL_PULSE_SECONDS / self.settings.timeout_seconds * 0.25)
            self._stall = max(late, fading, timedelta())
            self._lag.set(self._stall.total_seconds())

    def _recent_stall(self) -> timedelta:
        since = asyncio.get_running_loop().time() - self._pulse_at - _STALL_PULSE_SECONDS
        return timedelta(seconds=max(0.0, since)) if self._pulse_at else timedelta()


def _what(observation: Observation) -> tuple[Verdict, Reason, Role]:
    """What makes an observation news when it changes."""
    return observation.verdict, observation.reason, observation.role
