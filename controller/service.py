"""The controller's loop: take votes in, see what they make of each site, and act where policy allows.

The watching half never stops; the acting half is one task an instance at most, so a slow DNS provider delays nobody's
votes. All state is rebuilt from the log: votes from the last seconds, failovers from the journal.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta

from opentelemetry.trace import Span
from prometheus_client import Counter, Gauge

from controller.core.failover import Failover
from controller.core.health import Health, SiteHealth, step
from controller.core.policy import (
    Go,
    InstanceView,
    Refusal,
    Request,
    choose_target,
    decide,
    freshest_up,
)
from controller.core.votes import Tally, tally
from controller.edges.ballots import Ballots
from controller.edges.driver import Driver
from controller.edges.journal import JournalLog
from controller.edges.zones import Zones
from controller.settings import Instance, Settings
from redis_agent import pause, telemetry, topics
from redis_agent.errors import AgentError, LogUnavailable, Malformed, NotFound, Permanent, Refused, Transient
from redis_agent.log import Cursor, Log, Writer
from redis_agent.log.deadletter import dead_letter
from redis_agent.model import (
    Datacenter,
    EventKind,
    FailoverEvent,
    FailoverId,
    Fence,
    InstanceId,
    Kind,
    Mode,
    Phase,
    Plan,
    Record,
    Role,
    SiteId,
    Stage,
    Verdict,
    VoteSeen,
)
from redis_agent.process import Life

logger = logging.getLogger(__name__)
_READ_SECONDS = 0.1
_RECORD_KEPT_SECONDS = 15.0
_NUMBERS = re.compile(r"\d+(\.\d+)?")


class Service:
    """Watches every instance of the fleet and moves those that may be moved."""

    def __init__(self, life: Life, settings: Settings) -> None:
        self.settings = settings
        self.ballots = Ballots()
        self.journal = JournalLog(life.telemetry)
        self.health: dict[SiteId, SiteHealth] = {}
        self.tallies: dict[SiteId, Tally] = {}
        self.refusals: dict[InstanceId, tuple[str, ...]] = {}
        self.records: dict[InstanceId, Record | None] = {}
        self._life = life
        self._zones = Zones(settings.zones)
        self._driver = Driver(self.journal, self._zones, settings.pause_dir, life.telemetry, life.origins.next)
        self._busy: dict[InstanceId, asyncio.Task[None]] = {}
        self._read_at: dict[InstanceId, float] = {}
        self._group: asyncio.TaskGroup | None = None
        registry = life.telemetry.registry
        self._failovers = Counter("redis_agent_failovers", "Failovers by how they ended", ["stage"], registry=registry)
        self._down = Gauge("redis_agent_site_down", "1 while a quorum says DOWN", ["site"], registry=registry)

    async def run(self) -> None:
        """Watch and act until cancelled. Raises Fenced when another controller took over."""
        pause.prepare(self.settings.pause_dir)
        async with self._life.log() as log:
            try:
                await self._open_journal(log)
                since = datetime.now(UTC) - self.settings.vote_max_age
                cursor = await log.cursor([topics.OBSERVATIONS, topics.ANOMALIES], since)
                writer = await log.writer()
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    group.create_task(self._keep_records())
                    self._resume()
                    await self._life.ready()
                    await self._watch(cursor, writer)
            finally:
                await self._zones.close()

    async def _open_journal(self, log: Log) -> None:
        while True:
            try:
                await self.journal.open(log)
            except LogUnavailable as fault:
                logger.warning("waiting for the journal: %s", fault)
                await asyncio.sleep(1)
            else:
                return

    async def _watch(self, cursor: Cursor, deadletters: Writer) -> None:
        said = ""
        while True:
            try:
                for record in await cursor.read(1000, _READ_SECONDS):
                    try:
                        self.ballots.note(record)
                    except Malformed as fault:
                        self._life.telemetry.deadletters.labels(record.topic).inc()
                        await deadletters.append([dead_letter(record, str(fault))])
                said = ""
            except LogUnavailable as fault:
                # Votes age meanwhile, and stale votes decide nothing.
                if str(fault) != said:
                    said = str(fault)
                    logger.warning("the log is away: %s", fault)
                await asyncio.sleep(0.5)
            self._tick(datetime.now(UTC))

    # --- watching

    def _tick(self, now: datetime) -> None:
        for instance in self.settings.instances.values():
            self._count(instance, now)
            if instance.id not in self._busy or self._busy[instance.id].done():
                self._consider(instance, now)

    def _count(self, instance: Instance, now: datetime) -> None:
        sites = [SiteId(instance.id, dc) for dc in instance.values]
        tallies = tally(self.ballots.latest, sites, now, instance.policy.vote_max_age)
        for site, votes in tallies.items():
            before = self.health.get(site, SiteHealth(Health.UNKNOWN, now))
            after = step(before, votes, instance.policy.quorum, instance.policy.confirm, now)
            if after.health is not before.health:
                logger.info("%s: %s -> %s", site, before.health.value, after.health.value)
            self.health[site] = after
            self.tallies[site] = votes
            self._down.labels(str(site)).set(after.health in (Health.SUSPECT, Health.DOWN))

    def view(self, instance: Instance, now: datetime, apart_from: FailoverId | None = None) -> InstanceView:
        """The instance as it stands; `apart_from` is a failover that doesn't count as being in the way."""
        age = instance.policy.vote_max_age
        votes = {
            SiteId(instance.id, dc): [
                o for (site, _), o in self.ballots.latest.items() if _is_of(site, instance, dc, now - o.at, age)
            ]
            for dc in instance.values
        }
        newest = self.journal.journal.newest(instance.id)
        opened = self.journal.journal.open(instance.id)
        unknown = SiteHealth(Health.UNKNOWN, now)
        return InstanceView(
            instance=instance.id,
            promotes=instance.promotes,
            values=instance.values,
            health={dc: self.health.get(SiteId(instance.id, dc), unknown) for dc in instance.values},
            tallies={
                dc: self.tallies.get(s, Tally(s, ())) for dc in instance.values for s in [SiteId(instance.id, dc)]
            },
            freshest=freshest_up(votes),
            record=self.records.get(instance.id),
            ttl=instance.dns.ttl if instance.dns else 0,
            paused=pause.reason(self.settings.pause_dir, instance.id),
            in_flight=None if opened is None or opened.id == apart_from else opened.id,
            last_ended_at=newest.ended_at if newest is not None else None,
            now=now,
        )

    def _consider(self, instance: Instance, now: datetime) -> None:
        """What follows from the votes: an emergency, a waiting approval withdrawn, a returned site fenced."""
        if instance.dns is None:
            return
        newest = self.journal.journal.newest(instance.id)
        if newest is not None and newest.stage is Stage.AWAITING_APPROVAL:
            if self.health[SiteId(instance.id, newest.plan.source)].health is Health.UP:
                self._start(instance, self._withdraw(newest))
            return
        if newest is not None and self._came_back(newest, instance):
            self._start(instance, self._driver.fence_late(newest, instance))
            return
        record = self.records.get(instance.id)
        view = self.view(instance, now)
        if record is None or view.active is None or view.health[view.active].health is not Health.DOWN:
            self.refusals.pop(instance.id, None)
            return
        self._emergency(instance, view)

    def _emergency(self, instance: Instance, view: InstanceView) -> None:
        target = choose_target(view, instance.preferred)
        if target is None:
            verdict: Go | Refusal = Refusal((f"no other site of {instance.id} is up",))
        else:
            verdict = decide(view, Request(target, Kind.EMERGENCY, unasked=True), instance.policy)
        if isinstance(verdict, Go):
            self._start(instance, self._begin_emergency(instance, verdict.plan.target))
        elif self._is_news(instance.id, verdict):
            self._start(instance, self._note_refusal(instance, view, verdict))

    def _is_news(self, instance: InstanceId, refusal: Refusal) -> bool:
        before = {_NUMBERS.sub("#", reason) for reason in self.refusals.get(instance, ())}
        self.refusals[instance] = refusal.reasons
        return before != {_NUMBERS.sub("#", reason) for reason in refusal.reasons}

    def _came_back(self, failover: Failover, instance: Instance) -> bool:
        """A site that traffic was moved away from unfenced, and that answers as a primary again."""
        if failover.stage is not Stage.DONE or failover.fence is not Fence.UNREACHABLE or not instance.promotes:
            return False
        site = SiteId(instance.id, failover.plan.source)
        return any(
            vote.counted is Verdict.UP and self.ballots.latest[(site, vote.vantage)].role is Role.PRIMARY
            for vote in self.tallies[site].votes
        )

    # --- acting

    def _start(self, instance: Instance, work: Coroutine[None, None, None]) -> None:
        if self._group is None:
            raise RuntimeError("not running")
        self._busy[instance.id] = self._group.create_task(self._patiently(work))

    async def _patiently(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Transient as fault:
            logger.warning("%s; will try again", fault)
            await asyncio.sleep(0.5)

    def _resume(self) -> None:
        for instance in self.settings.instances.values():
            failover = self.journal.journal.open(instance.id)
            if failover is not None and failover.stage is not Stage.AWAITING_APPROVAL:
                logger.warning("resuming %s at %s", failover.id, failover.stage.value)
                self._start(instance, self._drive(failover.id, instance))

    async def _begin_emergency(self, instance: Instance, target: Datacenter) -> None:
        await self._read_record(instance)
        now = datetime.now(UTC)
        verdict = decide(self.view(instance, now), Request(target, Kind.EMERGENCY, unasked=True), instance.policy)
        if isinstance(verdict, Refusal):
            self.refusals[instance.id] = verdict.reasons
            return
        stage = Stage.AWAITING_APPROVAL if instance.policy.mode is Mode.APPROVE else Stage.FENCING
        quorum = self.tallies[SiteId(instance.id, verdict.plan.source)].down_vantages()
        reason = f"{verdict.plan.source} is down by quorum of {', '.join(quorum)}"
        failover = await self._decided(instance, verdict.plan, stage, reason, "controller")
        if stage is Stage.FENCING:
            await self._drive(failover, instance)

    async def _decided(self, instance: Instance, plan: Plan, stage: Stage, reason: str, actor: str) -> FailoverId:
        now = datetime.now(UTC)
        failover = FailoverId(f"fo-{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
        source = SiteId(instance.id, plan.source)
        span = self._decision_span(source, plan)
        event = FailoverEvent(
            failover=failover,
            instance=instance.id,
            kind=EventKind.DECIDED,
            stage=stage,
            at=now,
            reason=reason,
            origin=self._life.origins.next(),
            actor=actor,
            plan=plan,
            votes=self._all_votes(instance),
            phases=self._phases(source, plan.kind, now),
        )
        span.set_attribute("redis_agent.failover", failover)
        try:
            await self.journal.append(event, span)
        finally:
            span.end()
        return failover

    def _decision_span(self, source: SiteId, plan: Plan) -> Span:
        """A child of the poll that first saw the fault, with a link to every other poll that says so."""
        firsts = [first.traceparent for first in self.ballots.first_down(source)]
        return self._life.telemetry.tracer.start_span(
            "decide failover",
            context=telemetry.context_of(firsts[0]) if firsts else None,
            links=telemetry.links_to(firsts[1:]),
            attributes={
                "redis_agent.instance": plan.instance,
                "redis_agent.source": plan.source,
                "redis_agent.target": plan.target,
                "redis_agent.kind": plan.kind.value,
            },
        )

    def _phases(self, source: SiteId, kind: Kind, now: datetime) -> tuple[Phase, ...]:
        firsts = self.ballots.first_down(source)
        state = self.health[source]
        if kind is Kind.PLANNED or not firsts or state.down_since is None:
            return (Phase("decided", 0.0),)
        seen = firsts[0].at

        def offset(at: datetime) -> float:
            return max(0.0, (at - seen) / timedelta(seconds=1))

        return (
            Phase("suspected", offset(state.down_since)),
            Phase("confirmed", offset(state.since)),
            Phase("decided", offset(now)),
        )

    def _all_votes(self, instance: Instance) -> tuple[VoteSeen, ...]:
        return tuple(vote for dc in instance.values for vote in self.tallies[SiteId(instance.id, dc)].votes)

    async def _drive(self, failover: FailoverId, instance: Instance) -> None:
        await self._driver.drive(failover, instance)
        ended = self.journal.journal.failovers[failover]
        self._failovers.labels(ended.stage.value).inc()
        self.refusals.pop(instance.id, None)
        await self._read_record(instance)

    async def _withdraw(self, failover: Failover) -> None:
        await self._plain_event(
            failover, EventKind.ENDED, Stage.ABORTED, f"{failover.plan.source} is up again", "controller"
        )

    async def _plain_event(self, failover: Failover, kind: EventKind, stage: Stage, reason: str, actor: str) -> None:
        event = FailoverEvent(
            failover=failover.id,
            instance=failover.plan.instance,
            kind=kind,
            stage=stage,
            at=datetime.now(UTC),
            reason=reason,
            origin=self._life.origins.next(),
            actor=actor,
            plan=failover.plan,
            fence=failover.fence,
            phases=failover.phases,
        )
        span = self._life.telemetry.tracer.start_span(kind.value, context=telemetry.context_of(failover.traceparent))
        try:
            await self.journal.append(event, span)
        finally:
            span.end()

    async def _note_refusal(self, instance: Instance, view: InstanceView, refusal: Refusal) -> None:
        if view.active is None:
            return
        span = self._life.telemetry.tracer.start_span("refuse failover")
        event = FailoverEvent(
            failover=FailoverId(f"no-{view.now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"),
            instance=instance.id,
            kind=EventKind.REFUSED,
            stage=Stage.REFUSED,
            at=view.now,
            reason=f"{view.active} is down, and traffic stays: " + "; ".join(refusal.reasons),
            origin=self._life.origins.next(),
            actor="controller",
            votes=self._all_votes(instance),
        )
        try:
            await self.journal.append(event, span)
        finally:
            span.end()

    # --- what operators ask for

    def instance(self, instance_id: str) -> Instance:
        """The instance of that id. Raises NotFound."""
        found = self.settings.instances.get(InstanceId(instance_id))
        if found is None:
            raise NotFound(f"no instance {instance_id!r} in this fleet; known: {', '.join(self.settings.instances)}")
        return found

    async def plan(self, instance: Instance, target: Datacenter, kind: Kind) -> Go | Refusal:
        """What a failover ordered now would do, or every reason against it. Changes nothing."""
        if instance.dns is None:
            return Refusal((f"{instance.id} has no dns section: there is no name to move",))
        if target not in instance.values:
            raise NotFound(f"{instance.id} has no site in {target!r}; known: {', '.join(instance.values)}")
        await self._read_record(instance)
        return decide(self.view(instance, datetime.now(UTC)), Request(target, kind, unasked=False), instance.policy)

    async def order(self, instance: Instance, target: Datacenter, kind: Kind, reason: str, actor: str) -> FailoverId:
        """Begin a failover that an operator ordered. Raises Refused with every reason, NotFound, Transient."""
        busy = self._busy.get(instance.id)
        if busy is not None and not busy.done():
            raise Refused([f"the controller is already acting on {instance.id}"])
        verdict = await self.plan(instance, target, kind)
        if isinstance(verdict, Refusal):
            raise Refused(verdict.reasons)
        failover = await self._decided(instance, verdict.plan, Stage.FENCING, reason, actor)
        self._start(instance, self._drive(failover, instance))
        return failover

    async def approve(self, failover_id: FailoverId, actor: str, comment: str) -> None:
        """Let a waiting failover go on; its conditions are looked at again. Raises NotFound, Refused."""
        failover = self.journal.journal.failovers.get(failover_id)
        if failover is None:
            raise NotFound(f"no failover {failover_id!r}")
        if failover.stage is not Stage.AWAITING_APPROVAL:
            raise Refused([f"{failover_id} is {failover.stage.value}, not awaiting approval"])
        instance = self.instance(failover.plan.instance)
        await self._read_record(instance)
        view = self.view(instance, datetime.now(UTC), apart_from=failover_id)
        verdict = decide(view, Request(failover.plan.target, failover.plan.kind, unasked=False), instance.policy)
        if isinstance(verdict, Refusal):
            raise Refused(verdict.reasons)
        if verdict.plan.before != failover.plan.before:
            raise Refused(["the DNS record changed since this failover was decided"])
        await self._plain_event(failover, EventKind.APPROVED, Stage.FENCING, comment or "approved", actor)
        self._start(instance, self._drive(failover_id, instance))

    # --- the records

    async def _keep_records(self) -> None:
        """Read every record now, and again when what is held is old or absent."""
        loop = asyncio.get_running_loop()
        while True:
            for instance in self.settings.instances.values():
                age = loop.time() - self._read_at.get(instance.id, -1e9)
                kept = _RECORD_KEPT_SECONDS if self.records.get(instance.id) is not None else 1.0
                if instance.dns is not None and age > kept:
                    await self._read_record(instance)
            await asyncio.sleep(0.5)

    async def _read_record(self, instance: Instance) -> None:
        if instance.dns is None:
            return
        before = self.records.get(instance.id)
        try:
            record = await self._zones.read(instance.dns.provider, instance.dns.record, instance.dns.type)
            if record is None:
                raise Permanent(f"{instance.dns.record} {instance.dns.type} doesn't exist")
            self.records[instance.id] = record
        except AgentError as fault:
            self.records[instance.id] = None
            if before is not None or instance.id not in self._read_at:
                logger.warning("%s: the DNS record can't be read: %s", instance.id, fault)
        self._read_at[instance.id] = asyncio.get_running_loop().time()


def _is_of(site: SiteId, instance: Instance, dc: Datacenter, age: timedelta, max_age: timedelta) -> bool:
    return site.instance == instance.id and site.datacenter == dc and age <= max_age
