"""A failover's life, one step at a time.

    (AWAITING_APPROVAL) ▶ FENCING ▶ PROMOTING ▶ REDIRECTING ▶ PROPAGATING ▶ VERIFYING ▶ DONE
                             └──────────┴▶ ABORTED             └──────┴──────────┴▶ FAILED

Every stage has one action, and an outcome moves it on. Actions are repeatable: each first looks whether its effect is
there already, so a successor that finds an intent without an outcome does the action again. Until the target is primary
there is a way back: what is aborted gives the fence back. From the promotion on there is only the way to the end, as in
Sentinel: REDIRECTING gives up only when the record can't be moved any more, never because time passed.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from controller.core.health import Health
from controller.core.policy import Policy
from redis_agent.instants import Instant
from redis_agent.model import FailoverId, Fence, Kind, Phase, Plan, Stage

CONTROLLER = "controller"
"""The actor of what nobody ordered."""


class Effect(Enum):
    """What was seen of an action's effect."""

    SEEN = "seen"
    NOT_YET = "not yet"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An action's effect, in words, and the provider's id of a DNS change."""

    effect: Effect
    detail: str
    change_id: str = ""


@dataclass(frozen=True, slots=True)
class Failover:
    """One failover as its journal tells it.

    `since`: when the stage was entered, or last taken up (after a crash, after a pause). `seen_at`: when the fault was
    first seen. `ended`: the instant of the end; `decided_at` and `ended_at` are for people. `begun`: something may have been
    done to the world.
    """

    id: FailoverId
    plan: Plan
    stage: Stage
    since: Instant
    decided_at: datetime
    seen_at: Instant
    reason: str
    actor: str
    fence: Fence = Fence.NOT_TRIED
    change_id: str = ""
    phases: tuple[Phase, ...] = ()
    ended: Instant | None = None
    ended_at: datetime | None = None
    traceparent: str = ""
    begun: bool = False

    @property
    def unasked(self) -> bool:
        """No operator ordered or approved it."""
        return self.actor == CONTROLLER

    @property
    def owes_unfencing(self) -> bool:
        """It went back, and its source may refuse writes: a fence whose answer was lost may hold all the same."""
        return self.plan.promote and self.stage is Stage.ABORTED and self.begun and self.fence is not Fence.LIFTED


# What each stage is called once its effect was seen, in the phases that people read.
PHASES = {
    Stage.FENCING: "fenced",
    Stage.PROMOTING: "promoted",
    Stage.REDIRECTING: "accepted",
    Stage.PROPAGATING: "authoritative",
    Stage.VERIFYING: "verified",
}
STEPS = tuple(PHASES)


def first_stage(plan: Plan) -> Stage:
    """Where a failover begins. Where every site takes writes there is nothing to fence and nothing to promote."""
    return Stage.FENCING if plan.promote else Stage.REDIRECTING


def objection(failover: Failover, source: Health) -> Outcome | None:
    """What speaks against going on: nobody ordered this, and no quorum says any more that the source is down.

    A failover may be taken up long after it was decided, by a controller that was away meanwhile. Asked before every step
    up to the one from which there is no way back.
    """
    turning_point = Stage.PROMOTING if failover.plan.promote else Stage.REDIRECTING
    if STEPS.index(failover.stage) > STEPS.index(turning_point):
        return None
    if not failover.unasked or source in (Health.SUSPECT, Health.DOWN):
        return None
    if source is Health.UP:
        return Outcome(Effect.IMPOSSIBLE, f"{failover.plan.source} is up again")
    return Outcome(Effect.NOT_YET, f"no quorum says any more that {failover.plan.source} is down")


def advance(failover: Failover, outcome: Outcome, policy: Policy, now: Instant) -> Failover:
    """The failover after that outcome; the same value when it must wait. Raises ValueError outside a step."""
    if failover.stage not in STEPS:
        raise ValueError(f"{failover.id} is {failover.stage.value}: no outcome is expected")
    if outcome.effect is Effect.SEEN:
        return _onward(failover, outcome, now)
    late = now - failover.since >= _patience(failover, policy)
    if outcome.effect is Effect.NOT_YET and not late:
        return failover
    return _GIVING_UP[failover.stage](failover, outcome, now)


def _onward(failover: Failover, outcome: Outcome, now: Instant) -> Failover:
    moved = replace(
        failover,
        stage=_after(failover),
        since=now,
        phases=(*failover.phases, Phase(PHASES[failover.stage], _seconds(failover, now))),
        change_id=outcome.change_id or failover.change_id,
        fence=Fence.REFUSES_WRITES if failover.stage is Stage.FENCING else failover.fence,
    )
    return replace(moved, ended=now, reason=outcome.detail) if moved.stage.ended else moved


def _after(failover: Failover) -> Stage:
    if failover.stage is Stage.VERIFYING:
        return Stage.DONE
    return STEPS[STEPS.index(failover.stage) + 1]


def _patience(failover: Failover, policy: Policy) -> timedelta:
    emergency_fence = failover.stage is Stage.FENCING and failover.plan.kind is Kind.EMERGENCY
    return policy.fence if emergency_fence else policy.step


def _unfenced(failover: Failover, outcome: Outcome, now: Instant) -> Failover:
    """A dead site can't be fenced and need not be; a planned move without a fence would lose writes."""
    if outcome.effect is Effect.IMPOSSIBLE:
        return _ended(failover, Stage.ABORTED, f"nothing was moved: {outcome.detail}", now)
    if failover.plan.kind is Kind.PLANNED:
        return _ended(failover, Stage.ABORTED, f"the source could not be fenced: {outcome.detail}", now)
    return replace(_onward(failover, outcome, now), fence=Fence.UNREACHABLE)


def _aborted(failover: Failover, outcome: Outcome, now: Instant) -> Failover:
    return _ended(failover, Stage.ABORTED, f"the target was not promoted: {outcome.detail}", now)


def _keeps_on(failover: Failover, outcome: Outcome, now: Instant) -> Failover:
    if outcome.effect is Effect.IMPOSSIBLE:
        stage = Stage.FAILED if failover.plan.promote else Stage.ABORTED
        return _ended(failover, stage, f"the record was not moved: {outcome.detail}", now)
    return failover


def _failed(failover: Failover, outcome: Outcome, now: Instant) -> Failover:
    return _ended(failover, Stage.FAILED, f"moved, but not seen to work: {outcome.detail}", now)


_GIVING_UP = {
    Stage.FENCING: _unfenced,
    Stage.PROMOTING: _aborted,
    Stage.REDIRECTING: _keeps_on,
    Stage.PROPAGATING: _failed,
    Stage.VERIFYING: _failed,
}


def _ended(failover: Failover, stage: Stage, reason: str, now: Instant) -> Failover:
    return replace(failover, stage=stage, since=now, ended=now, reason=reason)


def _seconds(failover: Failover, now: Instant) -> float:
    return max(0.0, (now - failover.seen_at).total_seconds())
