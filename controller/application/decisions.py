"""Decisions, written to the journal: to act, not to act, and that a decision not to act holds no longer."""

import re
import uuid
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta

from opentelemetry.trace import Span

from controller.application.fleet_state import FleetState
from controller.core.failover import CONTROLLER
from controller.core.policy import Refusal
from controller.edges.journal import JournalLog
from controller.settings import Instance
from redis_agent import telemetry
from redis_agent.clock import instant, wall
from redis_agent.errors import LogUnavailable
from redis_agent.instants import Instant
from redis_agent.model import (
    Datacenter,
    EventKind,
    FailoverEvent,
    FailoverId,
    Kind,
    Phase,
    Plan,
    SiteId,
    Stage,
)

_NUMBERS = re.compile(r"\d+(\.\d+)?")


class Decisions:
    """Writes them with the votes as they were counted, in the trace of the poll that saw the fault first."""

    def __init__(self, journal: JournalLog, state: FleetState) -> None:
        self._journal = journal
        self._state = state

    async def act(self, instance: Instance, plan: Plan, stage: Stage, reason: str, actor: str) -> FailoverId:
        """A failover exists from here on. Raises LogUnavailable, and then it doesn't; Fenced."""
        now = instant()
        source = SiteId(instance.id, plan.source)
        event = FailoverEvent(
            failover=_id("fo"),
            instance=instance.id,
            kind=EventKind.DECIDED,
            stage=stage,
            at=wall(),
            reason=reason,
            origin=self._journal.next_origin(),
            actor=actor,
            plan=plan,
            votes=self._state.votes_seen(instance, now),
            phases=self._phases(source, plan.kind, now),
        )
        with self._span(source, plan, now) as span:
            span.set_attribute("redis_agent.failover", event.failover)
            try:
                await self._journal.append([event], span)
            except LogUnavailable as fault:
                await self._revoke(event, fault, span)
                raise
        return event.failover

    async def _revoke(self, decided: FailoverEvent, fault: LogUnavailable, span: Span) -> None:
        """Nobody knows whether the log took the decision, and a successor would act on it. So it is taken back for good."""
        ended = replace(
            decided,
            kind=EventKind.ENDED,
            stage=Stage.ABORTED,
            reason=f"never begun: the log was away when it was decided ({fault})",
            origin=self._journal.next_origin(),
            votes=(),
        )
        await self._journal.append_at_last([decided, ended], span)

    async def refuse(self, instance: Instance, active: Datacenter, refusal: Refusal) -> None:
        """Traffic stays though its site is down. Written when it is news; one id as long as it lasts."""
        reason = f"{active} is down, and traffic stays: " + "; ".join(refusal.reasons)
        before = self._journal.journal.blocked.get(instance.id)
        event = FailoverEvent(
            failover=before.failover if before is not None else _id("no"),
            instance=instance.id,
            kind=EventKind.REFUSED,
            stage=Stage.REFUSED,
            at=wall(),
            reason=reason,
            origin=self._journal.next_origin(),
            actor=CONTROLLER,
            votes=self._state.votes_seen(instance, instant()),
        )
        with self._journal.span("refuse failover", {"redis_agent.instance": instance.id}) as span:
            await self._journal.append_at_last([event], span)

    def is_news(self, instance: Instance, active: Datacenter, refusal: Refusal) -> bool:
        """Whether it differs from what the journal says already by more than a number in it."""
        before = self._journal.journal.blocked.get(instance.id)
        reason = f"{active} is down, and traffic stays: " + "; ".join(refusal.reasons)
        return before is None or _NUMBERS.sub("#", before.reason) != _NUMBERS.sub("#", reason)

    async def end_refusal(self, blocked: FailoverEvent, reason: str) -> None:
        """What held traffic back is over."""
        event = replace(
            blocked,
            kind=EventKind.ENDED,
            at=wall(),
            reason=reason,
            origin=self._journal.next_origin(),
            votes=(),
        )
        with self._journal.span("refusal ends", {"redis_agent.instance": blocked.instance}) as span:
            await self._journal.append_at_last([event], span)

    def _span(self, source: SiteId, plan: Plan, now: Instant) -> AbstractContextManager[Span]:
        """A child of the poll that first saw the fault, with a link to every other poll that says so."""
        firsts = [first.traceparent for first in self._state.first_down(source, now)]
        attributes = {
            "redis_agent.instance": plan.instance,
            "redis_agent.source": plan.source,
            "redis_agent.target": plan.target,
            "redis_agent.kind": plan.kind.value,
        }
        context = telemetry.context_of(firsts[0]) if firsts else None
        return self._journal.span("decide failover", attributes, context, telemetry.links_to(firsts[1:]))

    def _phases(self, source: SiteId, kind: Kind, now: Instant) -> tuple[Phase, ...]:
        firsts = self._state.first_down(source, now)
        state = self._state.health(source)
        if kind is Kind.PLANNED or not firsts or state is None or state.down_since is None:
            return (Phase("decided", 0.0),)
        seen = firsts[0].at

        def offset(at: Instant) -> float:
            return max(0.0, (at - seen) / timedelta(seconds=1))

        return (
            Phase("suspected", offset(state.down_since)),
            Phase("confirmed", offset(state.since)),
            Phase("decided", offset(now)),
        )


def _id(prefix: str) -> FailoverId:
    return FailoverId(f"{prefix}-{wall():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
