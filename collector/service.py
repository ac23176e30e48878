"""The collector's loop: each site at its time within the interval, news at once, all else once a tick."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from opentelemetry.trace import Span
from prometheus_client import Counter, Gauge, Histogram

from collector.core.info import Info, parse
from collector.core.pacing import next_due, phases
from collector.core.statements import Statement, Statements
from collector.core.tick import Tick
from collector.core.verdict import Answer, Failure, ProbeResult, judge
from collector.edges.publishing import Publishing
from collector.edges.resp import Connection
from collector.settings import Settings
from redis_agent import topics
from redis_agent.clock import instant, wall
from redis_agent.instants import Instant
from redis_agent.model import Observation, Reason, Role, SiteId, Verdict
from redis_agent.process import Runtime

logger = logging.getLogger(__name__)
_STALL_PULSE_SECONDS = 0.05
_STALL_FROM_SECONDS = 0.005
_DOWN_IN_A_SPAN = 20
_STALLS_KEPT = 200


@dataclass(frozen=True, slots=True)
class _Known:
    """What the last INFO of a site said, and when."""

    info: Info
    at: Instant


class Service:
    """One vantage. Owns the connections, the last observation of every site, and what is to be said."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.settings = settings
        self.last: dict[SiteId, Observation] = {}
        self.paused = False
        self._runtime = runtime
        self._known: dict[SiteId, _Known] = {}
        self._connections = {
            site: Connection(target.endpoint, settings.timeout_seconds) for site, target in settings.targets.items()
        }
        interval = timedelta(seconds=settings.interval_seconds)
        self._statements = Statements(interval, interval + timedelta(seconds=settings.timeout_seconds + 0.25))
        registry = runtime.telemetry.registry
        self._publishing = Publishing(settings.vantage, runtime.origins, registry)
        self._wake = asyncio.Event()
        self._stalls: deque[tuple[float, timedelta]] = deque(maxlen=_STALLS_KEPT)
        self._pulse_at = 0.0
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

    @property
    def vantage(self) -> str:
        """Where it looks from."""
        return self.settings.vantage

    @property
    def endpoints(self) -> dict[SiteId, str]:
        """What it looks at, as host:port."""
        return {site: str(target.endpoint) for site, target in self.settings.targets.items()}

    async def run(self) -> None:
        """Poll until cancelled. What was gathered is written before the end."""
        async with self._runtime.log() as log:
            await self._publishing.open(log)
            partitions = await log.partitions(topics.METRICS)
            self._homes = {s: topics.partition_of(s.instance, partitions) for s in self._connections}
            self._tick = Tick(self.settings.vantage, self._homes)
            await self._runtime.ready()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch_own_stalls())
                    group.create_task(self._say())
                    group.create_task(self._write_samples())
                    offsets = phases(len(self._connections), self.settings.interval_seconds)
                    for site, phase in zip(self._connections, offsets, strict=True):
                        group.create_task(self._watch(site, phase))
            finally:
                for connection in self._connections.values():
                    connection.close()
                self._gather()
                await self._publishing.finish()

    # --- looking

    async def _watch(self, site: SiteId, phase: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(next_due(loop.time(), phase, self.settings.interval_seconds) - loop.time())
            if self.paused:
                self._known.pop(site, None)
                self._note(site, ProbeResult(Verdict.CANNOT_TELL, Reason.PAUSED, "collection is paused"), None)
            else:
                await self.poll(site)

    async def poll(self, site: SiteId) -> Observation:
        """Ask one site now and note what it says."""
        began, loop = instant(), asyncio.get_running_loop()
        began_at = loop.time()
        outcome = await self._connections[site].poll(with_info=self._wants_info(site, began))
        result = judge(outcome, self._stall_since(began_at), timedelta(seconds=self.settings.timeout_seconds / 2))
        self._polls.labels(result.reason.value).inc()
        if isinstance(outcome, Answer) and result.verdict is Verdict.UP:
            self._latency.observe(outcome.round_trip.total_seconds())
            if outcome.info is not None:
                self._known[site] = _Known(parse(outcome.info), instant())
                self._tick.add(site, wall(), instant(), outcome.round_trip, self._known[site].info)
        else:
            self._known.pop(site, None)
        known = self._known.get(site)
        return self._note(site, result, outcome, fresh_info=known is not None and known.at >= began)

    def _wants_info(self, site: SiteId, now: Instant) -> bool:
        known = self._known.get(site)
        # Half an interval early rather than a whole one late: polls come a little before or after their time.
        early = timedelta(seconds=self.settings.interval_seconds / 2)
        return known is None or now - known.at >= self.settings.targets[site].info_every - early

    def _note(
        self, site: SiteId, result: ProbeResult, outcome: Answer | Failure | None, *, fresh_info: bool = False
    ) -> Observation:
        now = instant()
        known = self._known.get(site)
        observation = Observation(
            site=site,
            vantage=self.settings.vantage,
            at=wall(),
            verdict=result.verdict,
            reason=result.reason,
            evidence=result.evidence,
            origin=self._runtime.origins.same(),
            round_trip=outcome.round_trip if isinstance(outcome, Answer) else None,
            role=known.info.role if known else Role.UNKNOWN,
            replication=known.info.replication_after(now - known.at) if known else None,
        )
        before = self.last.get(site)
        self.last[site] = observation
        if self._statements.see(observation, now, fresh_info):
            self._wake.set()
            if before is None or (before.verdict, before.reason) != (observation.verdict, observation.reason):
                logger.info("%s is %s: %s (%s)", site, result.verdict.value, result.reason.value, result.evidence)
        return observation

    # --- saying

    async def _say(self) -> None:
        """News as soon as it is there, and once a tick what else is to be said."""
        loop = asyncio.get_running_loop()
        tick_at = loop.time() + self.settings.interval_seconds
        while True:
            if await self._news_before(tick_at):
                following = self._statements.news
            else:
                tick_at = max(tick_at + self.settings.interval_seconds, loop.time())
                self._statements.begin_tick()
                following = self._statements.of_tick
            while (statement := following(instant())) is not None and await self._hand_over(statement):
                pass

    async def _hand_over(self, statement: Statement) -> bool:
        """Whether the log took it. If not, the next tick says anew what it said."""
        span = self._span(statement.observations)
        taken = await self._publishing.say(statement, span)
        span.end()
        if taken:
            self._statements.said(statement)
        else:
            self._statements.lost(statement)
        return taken

    async def _news_before(self, tick_at: float) -> bool:
        """Whether there is news before it is time for the tick; news without end doesn't hold the tick up."""
        if asyncio.get_running_loop().time() >= tick_at:
            return False
        try:
            async with asyncio.timeout_at(tick_at):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _span(self, observations: tuple[Observation, ...]) -> Span:
        """One for all that is said at once; which sites are down stands in it, and what is said of one that is alone."""
        down = [str(each.site) for each in observations if each.verdict is Verdict.DOWN]
        attributes: dict[str, str | int | list[str]] = {
            "redis_agent.vantage": self.settings.vantage,
            "redis_agent.observations": len(observations),
            "redis_agent.down": down[:_DOWN_IN_A_SPAN],
        }
        if len(observations) == 1:
            attributes |= {
                "redis_agent.site": str(observations[0].site),
                "redis_agent.verdict": observations[0].verdict.value,
                "redis_agent.reason": observations[0].reason.value,
            }
        return self._runtime.telemetry.tracer.start_span("observe", attributes=attributes)

    # --- samples

    async def _write_samples(self) -> None:
        while True:
            await asyncio.sleep(self.settings.interval_seconds)
            self._gather()
            await self._publishing.write()

    def _gather(self) -> None:
        rows = self._tick.drain()
        if not rows:
            return
        with self._runtime.telemetry.tracer.start_as_current_span("tick") as span:
            span.set_attribute("redis_agent.vantage", self.settings.vantage)
            for columns in rows.values():
                self._publishing.hold(columns, str(columns["instance"][0]), span)

    # --- this process

    async def _watch_own_stalls(self) -> None:
        """Note when this loop did not run: a time-out of a poll that was on then is ours, not a site's."""
        loop = asyncio.get_running_loop()
        self._pulse_at = loop.time()
        while True:
            await asyncio.sleep(_STALL_PULSE_SECONDS)
            now = loop.time()
            late = now - self._pulse_at - _STALL_PULSE_SECONDS
            self._pulse_at = now
            if late > _STALL_FROM_SECONDS:
                self._stalls.append((now, timedelta(seconds=late)))
            self._lag.set(max((late for _, late in self._stalls), default=timedelta()).total_seconds())

    def _stall_since(self, began_at: float) -> timedelta:
        """The longest stand-still that ended, or goes on, since then."""
        going_on = asyncio.get_running_loop().time() - self._pulse_at - _STALL_PULSE_SECONDS
        ended = [late for at, late in self._stalls if at >= began_at]
        return max([timedelta(seconds=max(0.0, going_on)) if self._pulse_at else timedelta(), *ended])
