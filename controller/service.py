"""The controller's loop: take votes in, see what they make of each site, and act where policy allows.

The watching half never stops; the acting half is one task an instance at most, so a slow DNS provider delays nobody's
votes. All state is rebuilt from the log: votes from the last seconds, failovers from the journal.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.application.decisions import Decisions
from controller.application.driver import Driver
from controller.application.fleet_state import FleetState
from controller.application.orders import Orders
from controller.application.records import Records
from controller.application.tasks import InstanceTasks
from controller.core.failover import CONTROLLER, Failover, first_stage
from controller.core.health import Health
from controller.core.policy import InstanceView, Refusal, Request, candidates, decide
from controller.edges.journal import JournalLog
from controller.edges.zones import Zones
from controller.settings import Instance, Settings
from redis_agent import pause, topics
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.log import Cursor, Log, Writer
from redis_agent.log.deadletter import dead_letter
from redis_agent.model import Datacenter, EventKind, InstanceId, Kind, Mode, SiteId, Stage
from redis_agent.process import Runtime
from redis_agent.retries import patiently

logger = logging.getLogger(__name__)
_READ_SECONDS = 0.1
_LOOSE_END_AGAIN = timedelta(seconds=1)
Work = Coroutine[None, None, None]


class Service:
    """Watches every instance of the fleet and moves those that may be moved."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.settings = settings
        self._runtime = runtime
        self._zones = Zones(settings.zones)
        self._journal = JournalLog(runtime.telemetry, runtime.origins.next)
        registry = runtime.telemetry.registry
        self._records = Records(settings.instances, self._zones)
        self._state = FleetState(settings, self._journal, self._records, registry)
        self._driver = Driver(self._journal, self._state, self._zones, settings.pause_dir, registry)
        self._decisions = Decisions(self._journal, self._state)
        self._tasks = InstanceTasks()
        self.orders = Orders(self._state, self._decisions, self._driver, self._tasks)
        self._loose_end_at: dict[InstanceId, datetime] = {}
        self._fenced_since: dict[SiteId, datetime] = {}

    async def run(self) -> None:
        """Watch and act until cancelled. Raises Fenced when another controller took over."""
        try:
            pause.prepare(self.settings.pause_dir)
        except OSError as fault:
            logger.error(
                "%s: %s; nothing is moved until the switch can be read", self.settings.pause_dir, fault.strerror
            )
        async with self._runtime.log() as log:
            try:
                cursor, writer = await self._opened(log)
                async with self._tasks, asyncio.TaskGroup() as group:
                    group.create_task(self._records.keep())
                    await self._runtime.ready()
                    await self._watch(cursor, writer)
            finally:
                await self._zones.close()

    async def _opened(self, log: Log) -> tuple[Cursor, Writer]:
        async for attempt in patiently("waiting for the journal", LogUnavailable, longest_seconds=1.0):
            with attempt:
                await self._journal.open(log)
                since = datetime.now(UTC) - self.settings.vote_max_age
                return await log.cursor([topics.OBSERVATIONS, topics.ANOMALIES], since), await log.writer()
        raise AssertionError("attempts end with a return")

    async def _watch(self, cursor: Cursor, deadletters: Writer) -> None:
        said = ""
        while True:
            try:
                for record in await cursor.read(1000, _READ_SECONDS):
                    try:
                        self._state.ballots.note(record)
                    except Malformed as fault:
                        self._runtime.telemetry.deadletters.labels(record.topic).inc()
                        await deadletters.append([dead_letter(record, str(fault))])
                said = ""
            except LogUnavailable as fault:
                # Votes age meanwhile, and stale votes decide nothing.
                if str(fault) != said:
                    said = str(fault)
                    logger.warning("the log is away: %s", fault)
                await asyncio.sleep(0.5)
            self._tick(datetime.now(UTC))

    def _tick(self, now: datetime) -> None:
        self._state.count(now)
        for instance in self.settings.instances.values():
            if not self._tasks.busy(instance.id) and (work := self._due(instance, now)) is not None:
                self._tasks.start(instance.id, work)

    def _due(self, instance: Instance, now: datetime) -> Work | None:
        """What is to be done about an instance that nobody acts on."""
        opened = self._journal.journal.open(instance.id)
        if opened is not None:
            return self._go_on(opened, instance)
        view = self._state.view(instance, now)
        if view.active is not None and view.health[view.active].health is Health.DOWN:
            return self._emergency(instance, view, view.active)
        if (down := self._down_elsewhere(instance, view)) is not None:
            return self._refuse(instance, down, Refusal((_why_elsewhere(instance, view),)))
        self._state.refusals.pop(instance.id, None)
        return self._no_longer_blocked(instance, view) or self._loose_end(instance, view)

    # --- failovers that are under way

    def _go_on(self, failover: Failover, instance: Instance) -> Work | None:
        """One that this process doesn't drive yet: after a crash, or while it awaits approval."""
        if instance.dns is None or not {failover.plan.source, failover.plan.target} <= instance.access.keys():
            return self._end(failover, Stage.FAILED, f"{instance.id} is no longer configured as it was when this began")
        if failover.stage is not Stage.AWAITING_APPROVAL:
            logger.warning("taking up %s at %s", failover.id, failover.stage.value)
            return self._driver.drive(failover.id, instance)
        if self._state.health_of_source(failover) is Health.UP:
            return self._end(failover, Stage.ABORTED, f"{failover.plan.source} is up again")
        return None

    async def _end(self, failover: Failover, stage: Stage, reason: str) -> None:
        await self._journal.note(replace(failover, stage=stage, actor=CONTROLLER), EventKind.ENDED, reason)

    # --- a site that is down

    def _emergency(self, instance: Instance, view: InstanceView, active: Datacenter) -> Work | None:
        refusals: list[Refusal] = []
        for target in candidates(view, instance.preferred):
            verdict = decide(view, Request(target, Kind.EMERGENCY, unasked=True), instance.policy)
            if not isinstance(verdict, Refusal):
                return self._move(instance, target)
            refusals.append(verdict)
        return self._refuse(
            instance, active, refusals[0] if refusals else Refusal((f"{instance.id} has no other site",))
        )

    def _refuse(self, instance: Instance, down: Datacenter, refusal: Refusal) -> Work | None:
        self._state.refusals[instance.id] = refusal.reasons
        return (
            self._decisions.refuse(instance, down, refusal)
            if self._decisions.is_news(instance, down, refusal)
            else None
        )

    def _down_elsewhere(self, instance: Instance, view: InstanceView) -> Datacenter | None:
        """A site that is down without being known to carry the traffic; not one that traffic was just moved away from."""
        last = self._journal.journal.last_begun(instance.id)
        left = last.plan.source if last is not None and last.stage is Stage.DONE else None
        return next((dc for dc, state in view.health.items() if state.health is Health.DOWN and dc != left), None)

    async def _move(self, instance: Instance, target: Datacenter) -> None:
        """Look once more, with the record as it is now, and go. A refusal then is the next tick's to tell."""
        await self._records.refresh(instance)
        view = self._state.view(instance, datetime.now(UTC))
        verdict = decide(view, Request(target, Kind.EMERGENCY, unasked=True), instance.policy)
        if isinstance(verdict, Refusal):
            return
        self._state.refusals.pop(instance.id, None)
        waits = instance.policy.mode is Mode.APPROVE
        stage = Stage.AWAITING_APPROVAL if waits else first_stage(verdict.plan)
        source = verdict.plan.source
        reason = f"{source} is down by quorum of {', '.join(view.tallies[source].down_vantages())}"
        failover = await self._decisions.act(instance, verdict.plan, stage, reason, CONTROLLER)
        if not waits:
            await self._driver.drive(failover, instance)

    # --- what is left to do afterwards

    def _no_longer_blocked(self, instance: Instance, view: InstanceView) -> Work | None:
        blocked = self._journal.journal.blocked.get(instance.id)
        if blocked is None or (view.active is not None and view.health[view.active].health is not Health.UP):
            return None
        if view.active is None and any(state.health is not Health.UP for state in view.health.values()):
            return None
        return self._decisions.end_refusal(blocked, f"{view.active or 'every site'} is up")

    def _loose_end(self, instance: Instance, view: InstanceView) -> Work | None:
        """A fence to give back after an abort, or to put up before a site that returned as a primary."""
        newest = self._journal.journal.last_begun(instance.id)
        if newest is None or newest.plan.source not in instance.access:
            return None
        came_back = self._came_back(newest, instance, view)
        tried_at = self._loose_end_at.get(instance.id)
        if not (newest.owes_unfencing or came_back) or (tried_at and view.now < tried_at + _LOOSE_END_AGAIN):
            return None
        self._loose_end_at[instance.id] = view.now
        return self._fence_late(newest, instance) if came_back else self._driver.unfence(newest, instance)

    def _came_back(self, failover: Failover, instance: Instance, view: InstanceView) -> bool:
        """Whether the site that traffic was moved away from answers as a primary, and wasn't fenced since it is up.

        Being away may have been a restart, and a fence doesn't outlive its server.
        """
        if not instance.promotes or failover.stage not in (Stage.DONE, Stage.FAILED):
            return False
        site = SiteId(instance.id, failover.plan.source)
        new_life = self._fenced_since.get(site) != view.health[site.datacenter].since
        return new_life and view.active == failover.plan.target and self._state.serves_as_primary(site)

    async def _fence_late(self, failover: Failover, instance: Instance) -> None:
        site = SiteId(instance.id, failover.plan.source)
        state = self._state.health(site)
        if await self._driver.fence_late(failover, instance) and state is not None:
            self._fenced_since[site] = state.since


def _why_elsewhere(instance: Instance, view: InstanceView) -> str:
    if instance.dns is None:
        return f"{instance.id} has no dns section: there is no name to move"
    if view.active is None:
        return "where traffic goes isn't known: the DNS record can't be read, or points to none of the sites"
    return f"it goes to {view.active}, which isn't down"
