"""Drives one failover to its end: intent to the journal, the action, what was seen of it to the journal, the next step.

Nothing is done that isn't written first: where the log doesn't take an intent or an outcome, the failover waits until it
does. Between the written intent and the action the pause switch is looked at once more.
"""

import asyncio
import logging
from dataclasses import replace

from opentelemetry.trace import Status, StatusCode
from prometheus_client import CollectorRegistry, Counter

from controller.application.actions import perform
from controller.application.fleet_state import FleetState
from controller.core.failover import Effect, Failover, Outcome, advance, objection
from controller.edges import redis_admin
from controller.edges.journal import JournalLog
from controller.edges.zones import Zones
from controller.settings import Instance
from redis_agent.clock import instant
from redis_agent.errors import NotFound
from redis_agent.model import EventKind, FailoverId, Fence, Stage

logger = logging.getLogger(__name__)
_AGAIN_SECONDS = 0.1
_AGAIN_AT_MOST_SECONDS = 2.0


class Driver:
    """Carries out failovers. One at a time an instance; the caller sees to that."""

    def __init__(self, journal: JournalLog, state: FleetState, zones: Zones, registry: CollectorRegistry) -> None:
        self._journal = journal
        self._state = state
        self._zones = zones
        self._ended = Counter("redis_agent_failovers", "Failovers by how they ended", ["stage"], registry=registry)

    async def drive(self, failover_id: FailoverId, instance: Instance) -> None:
        """Until it has ended. Raises Fenced when another controller took over."""
        intended: Stage | None = None
        said = ""
        wait = _AGAIN_SECONDS
        while not (failover := self._failover(failover_id)).stage.ended:
            if (why := self._state.switch.reason(instance.id)) is not None:
                intended = None  # the stage's patience begins anew with the next intent
                said = self._say(failover, f"held: paused: {why}", said)
                await asyncio.sleep(_AGAIN_SECONDS)
            elif intended is not failover.stage:
                await self._journal.note(failover, EventKind.INTENT, f"about to {_VERBS[failover.stage]}")
                intended, wait = failover.stage, _AGAIN_SECONDS
            elif (outcome := await self._act(failover, instance)) and not await self._moved(
                failover, outcome, instance
            ):
                said = self._say(failover, outcome.detail, said)
                wait = min(wait * 1.5, _AGAIN_AT_MOST_SECONDS)
                await asyncio.sleep(wait)
        self._ended.labels(failover.stage.value).inc()
        await self._state.records.refresh(instance)

    def _failover(self, failover_id: FailoverId) -> Failover:
        found = self._journal.journal.failover(failover_id)
        if found is None:
            raise NotFound(f"no failover {failover_id!r} in memory")
        return found

    async def fence_late(self, failover: Failover, instance: Instance) -> bool:
        """An old site is back as a primary: make it refuse writes before a stray client uses it. Whether it does."""
        if self._state.switch.reason(instance.id) is not None:
            return False
        site = instance.access[failover.plan.source]
        if failover.fence is Fence.REFUSES_WRITES and await redis_admin.is_fenced(site):
            return True
        outcome = await redis_admin.fence(site)
        if outcome.effect is Effect.SEEN:
            fenced = replace(failover, fence=Fence.REFUSES_WRITES)
            await self._journal.note(fenced, EventKind.FENCED_LATE, f"{failover.plan.source} is back: {outcome.detail}")
        return outcome.effect is Effect.SEEN

    async def unfence(self, failover: Failover, instance: Instance) -> None:
        """An aborted failover gives the fence back."""
        outcome = await redis_admin.unfence(instance.access[failover.plan.source])
        if outcome.effect is Effect.SEEN:
            await self._journal.note(replace(failover, fence=Fence.LIFTED), EventKind.UNFENCED, outcome.detail)

    async def _act(self, failover: Failover, instance: Instance) -> Outcome:
        against = objection(failover, self._state.health_of_source(failover))
        with self._journal.step_span(failover, _VERBS[failover.stage]) as span:
            outcome = await perform(failover, instance, self._zones, against)
            span.set_attribute("redis_agent.effect", outcome.effect.value)
            span.set_attribute("redis_agent.detail", outcome.detail)
            if outcome.effect is Effect.IMPOSSIBLE:
                span.set_status(Status(StatusCode.ERROR, outcome.detail))
            return outcome

    async def _moved(self, failover: Failover, outcome: Outcome, instance: Instance) -> bool:
        """Whether the outcome moves the failover on; if so, it is written."""
        moved = advance(failover, outcome, instance.policy, instant())
        if moved is failover:
            return False
        if moved.stage.ended:
            await self._journal.note(moved, EventKind.ENDED, moved.reason)
        else:
            await self._journal.note(moved, EventKind.OUTCOME, outcome.detail)
        return True

    def _say(self, failover: Failover, text: str, said: str) -> str:
        if text != said:
            logger.info("%s %s: %s", failover.id, failover.stage.value, text)
        return text


_VERBS = {
    Stage.FENCING: "fence the source",
    Stage.PROMOTING: "promote the target",
    Stage.REDIRECTING: "change the DNS record",
    Stage.PROPAGATING: "ask the authoritative servers",
    Stage.VERIFYING: "write through the name",
}
