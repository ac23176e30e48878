"""Drives one failover to its end: intent to the journal, the action, what was seen of it to the journal, the next step.

Nothing is done that isn't written first. If the log doesn't take the intent, the action waits; if it doesn't take the
outcome, the action is done again, which finds its effect there.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from controller.core.failover import Effect, Failover, Outcome, advance
from controller.edges import redis_admin
from controller.edges.actions import perform
from controller.edges.journal import JournalLog
from controller.edges.zones import Zones
from controller.settings import Instance
from redis_agent import pause, telemetry
from redis_agent.errors import LogUnavailable
from redis_agent.model import EventKind, FailoverEvent, FailoverId, Fence, Origin, Stage
from redis_agent.telemetry import Telemetry

logger = logging.getLogger(__name__)
_AGAIN_SECONDS = 0.1
_AGAIN_AT_MOST_SECONDS = 2.0
_UNFENCE_TRIES = 20


class Driver:
    """Carries out failovers. One at a time an instance; the caller sees to that."""

    def __init__(
        self,
        journal: JournalLog,
        zones: Zones,
        pause_dir: Path,
        tracing: Telemetry,
        next_origin: Callable[[], Origin],
    ) -> None:
        self._journal = journal
        self._zones = zones
        self._pause_dir = pause_dir
        self._telemetry = tracing
        self._next_origin = next_origin

    async def drive(self, failover_id: FailoverId, instance: Instance) -> None:
        """Until it has ended. Raises Fenced when another controller took over."""
        intended: Stage | None = None
        said = ""
        wait = _AGAIN_SECONDS
        while not (failover := self._journal.journal.failovers[failover_id]).stage.ended:
            paused = pause.reason(self._pause_dir, instance.id)
            if paused is not None:
                said = self._say(failover, f"held: paused: {paused}", said)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            try:
                if intended is not failover.stage:
                    await self._write(failover, EventKind.INTENT, f"about to {_VERBS[failover.stage]}")
                    intended, wait = failover.stage, _AGAIN_SECONDS
                outcome = await self._act(failover, instance)
                moved = advance(failover, outcome, instance.policy, datetime.now(UTC))
                if moved is failover:
                    said = self._say(failover, outcome.detail, said)
                    wait = min(wait * 1.5, _AGAIN_AT_MOST_SECONDS)
                    await asyncio.sleep(wait)
                    continue
                kind = EventKind.ENDED if moved.stage.ended else EventKind.OUTCOME
                await self._write(moved, kind, moved.reason if moved.stage.ended else outcome.detail)
            except LogUnavailable as fault:
                said = self._say(failover, f"held: {fault}", said)
                await asyncio.sleep(_AGAIN_SECONDS)
        await self._give_back(failover, instance)

    async def fence_late(self, failover: Failover, instance: Instance) -> None:
        """An old site is back that couldn't be fenced: make it refuse writes before a stray client uses it."""
        outcome = await redis_admin.fence(instance.access[failover.plan.source])
        if outcome.effect is Effect.SEEN:
            await self._write(failover, EventKind.FENCED_LATE, f"{failover.plan.source} is back: {outcome.detail}")

    async def _give_back(self, failover: Failover, instance: Instance) -> None:
        if not failover.needs_unfencing:
            return
        for _ in range(_UNFENCE_TRIES):
            outcome = await redis_admin.unfence(instance.access[failover.plan.source])
            logger.info("%s: %s", failover.id, outcome.detail)
            if outcome.effect is Effect.SEEN:
                return
            await asyncio.sleep(1)

    async def _act(self, failover: Failover, instance: Instance) -> Outcome:
        with self._span(failover, _VERBS[failover.stage]) as span:
            outcome = await perform(failover, instance, self._zones)
            span.set_attribute("redis_agent.effect", outcome.effect.value)
            span.set_attribute("redis_agent.detail", outcome.detail)
            if outcome.effect is Effect.IMPOSSIBLE:
                span.set_status(Status(StatusCode.ERROR, outcome.detail))
            return outcome

    def _span(self, failover: Failover, name: str) -> "_Current":
        return _Current(
            self._telemetry.tracer.start_span(
                name,
                context=telemetry.context_of(failover.traceparent),
                kind=SpanKind.CLIENT,
                attributes={
                    "redis_agent.failover": failover.id,
                    "redis_agent.instance": failover.plan.instance,
                    "redis_agent.stage": failover.stage.value,
                },
            )
        )

    async def _write(self, failover: Failover, kind: EventKind, reason: str) -> None:
        event = FailoverEvent(
            failover=failover.id,
            instance=failover.plan.instance,
            kind=kind,
            stage=failover.stage,
            at=datetime.now(UTC),
            reason=reason,
            origin=self._next_origin(),
            actor=failover.actor,
            plan=failover.plan if kind is EventKind.ENDED else None,
            fence=_fence_of(failover, kind),
            change_id=failover.change_id,
            phases=failover.phases,
        )
        with self._span(failover, f"journal {kind.value}") as span:
            await self._journal.append(event, span)

    def _say(self, failover: Failover, text: str, said: str) -> str:
        if text != said:
            logger.info("%s %s: %s", failover.id, failover.stage.value, text)
        return text


def _fence_of(failover: Failover, kind: EventKind) -> Fence:
    return Fence.REFUSES_WRITES if kind is EventKind.FENCED_LATE else failover.fence


_VERBS = {
    Stage.FENCING: "fence the source",
    Stage.PROMOTING: "promote the target",
    Stage.REDIRECTING: "change the DNS record",
    Stage.PROPAGATING: "ask the authoritative servers",
    Stage.VERIFYING: "write through the name",
}


class _Current:
    """A span that ends with the block; it doesn't become the thread's current one, since tasks interleave."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, *_: object) -> None:
        self._span.end()
