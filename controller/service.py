"""The controller's loop: take votes in, see what they make of each site, and act where policy allows.

The watching half never stops; the acting half is one task an instance at most, so a slow DNS provider delays nobody's
votes. All state is rebuilt from the log: votes from the last seconds, failovers from the journal, the switch from control.
An instance is looked at when something about it changed, and once a second as long as something is to be done about it.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta

from controller.application.decisions import Decisions
from controller.application.driver import Driver
from controller.application.fleet_state import FleetState
from controller.application.hearing import Hearing
from controller.application.orders import Orders
from controller.application.records import Records
from controller.application.switch import Switch
from controller.application.tasks import InstanceTasks
from controller.application.vantages import VantageWatch
from controller.core.failover import CONTROLLER, Failover, first_stage
from controller.core.health import Health
from controller.core.policy import InstanceView, Refusal, Request, candidates, decide
from controller.edges.journal import JournalLog
from controller.edges.zones import Zones
from controller.settings import Instance, Settings
from redis_agent import pause
from redis_agent.clock import instant
from redis_agent.deadletters import DeadLetters
from redis_agent.errors import LogUnavailable
from redis_agent.instants import Instant
from redis_agent.log import Log
from redis_agent.model import (
    Datacenter,
    EventKind,
    InstanceId,
    Kind,
    Mode,
    SiteId,
    Stage,
)
from redis_agent.process import Runtime
from redis_agent.retries import Once, patiently

logger = logging.getLogger(__name__)
_AGAIN = timedelta(seconds=1)
Work = Coroutine[None, None, None]


class Service:
    """Watches every instance of the fleet and moves those that may be moved."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.settings = settings
        self._runtime = runtime
        self._zones = Zones(settings.zones)
        self._look_at: set[InstanceId] = set(settings.instances)
        dead = DeadLetters(runtime.telemetry, runtime.findings)
        self._journal = JournalLog(runtime.telemetry, runtime.origins.next, dead, self._look_at.add)
        registry = runtime.telemetry.registry
        self._records = Records(settings.instances, self._zones)
        switch = Switch(settings.pause_dir, runtime.origins, frozenset(settings.instances))
        self._state = FleetState(settings, self._journal, self._records, switch, registry)
        self._vantages = VantageWatch(self._state.votes, runtime.findings)
        self._hearing = Hearing(self._state, self._vantages, dead, runtime.findings)
        self._driver = Driver(self._journal, self._state, self._zones, registry)
        self._decisions = Decisions(self._journal, self._state)
        self._tasks = InstanceTasks()
        self.orders = Orders(self._state, self._decisions, self._driver, self._tasks)
        self._restless: set[InstanceId] = set()
        self._again_at = instant()
        self._fenced_since: dict[SiteId, Instant] = {}

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
                await self._open(log)
                async with self._tasks, asyncio.TaskGroup() as group:
                    group.create_task(self._records.keep())
                    group.create_task(self._hearing.follow())
                    await self._runtime.ready()
                    await self._watch()
            finally:
                await self._zones.close()

    async def _open(self, log: Log) -> None:
        async for attempt in patiently("waiting for the journal", LogUnavailable, longest_seconds=1.0):
            with attempt:
                await self._journal.open(log)
                await self._hearing.open(log)

    async def _watch(self) -> None:
        tell = Once()
        while True:
            try:
                await self._hearing.votes()
                tell("")
            except LogUnavailable as fault:
                # Votes age meanwhile, and stale votes decide nothing.
                tell(f"the log is away: {fault}")
                await asyncio.sleep(0.5)
            self._step(instant())

    # --- what is to be done

    def _step(self, now: Instant) -> None:
        """One look at the fleet: at what changed, and once a second at what is not at rest."""
        self._look_at |= self._state.count(now) | self._records.changed
        self._records.changed.clear()
        if now - self._again_at >= _AGAIN:
            self._again_at = now
            self._look_at |= self._restless
            self._vantages.look(now)
        concerned, waiting = list(self._look_at), self._look_at
        waiting.clear()
        for instance_id in concerned:
            if (instance := self.settings.instances.get(instance_id)) is not None:
                self._look(instance, now)

    def _look(self, instance: Instance, now: Instant) -> None:
        if self._tasks.busy(instance.id):
            self._restless.add(instance.id)
            return
        work = self._due(instance, now)
        if work is not None:
            self._tasks.start(instance.id, work)
        if work is None and self._state.is_at_rest(instance):
            self._restless.discard(instance.id)
        else:
            self._restless.add(instance.id)

    def _due(self, instance: Instance, now: Instant) -> Work | None:
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
        refusal = refusals[0] if refusals else Refusal((f"{instance.id} has no other site",))
        return self._refuse(instance, active, refusal)

    def _refuse(self, instance: Instance, down: Datacenter, refusal: Refusal) -> Work | None:
        self._state.refusals[instance.id] = refusal.reasons
        if not self._decisions.is_news(instance, down, refusal):
            return None
        return self._decisions.refuse(instance, down, refusal)

    def _down_elsewhere(self, instance: Instance, view: InstanceView) -> Datacenter | None:
        """A site that is down without being known to carry the traffic; not one that traffic was just moved away from."""
        last = self._journal.journal.last_begun(instance.id)
        left = last.plan.source if last is not None and last.stage is Stage.DONE else None
        return next((dc for dc, state in view.health.items() if state.health is Health.DOWN and dc != left), None)

    async def _move(self, instance: Instance, target: Datacenter) -> None:
        """Look once more, with the record as it is now, and go. A refusal then is the next look's to tell."""
        await self._records.refresh(instance)
        view = self._state.view(instance, instant())
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
        if self._came_back(newest, instance, view):
            return self._fence_late(newest, instance)
        return self._driver.unfence(newest, instance) if newest.owes_unfencing else None

    def _came_back(self, failover: Failover, instance: Instance, view: InstanceView) -> bool:
        """Whether the site that traffic was moved away from answers as a primary, and wasn't fenced since it is up.

        Being away may have been a restart, and a fence doesn't outlive its server.
        """
        if not instance.promotes or failover.stage not in (Stage.DONE, Stage.FAILED):
            return False
        site = SiteId(instance.id, failover.plan.source)
        new_life = self._fenced_since.get(site) != view.health[site.datacenter].since
        return new_life and view.active == failover.plan.target and self._state.serves_as_primary(site, view.now)

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
