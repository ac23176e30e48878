"""The journal read back: events -> failovers as they stand. The fold is the only way a failover comes to be in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.core.failover import Failover
from redis_agent.model import EventKind, FailoverEvent, FailoverId, InstanceId


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal event and the trace that wrote it."""

    event: FailoverEvent
    traceparent: str


@dataclass(frozen=True, slots=True)
class Journal:
    """Every failover, every event of each (oldest first), and of each instance the decision not to act that still holds."""

    failovers: Mapping[FailoverId, Failover]
    events: Mapping[FailoverId, tuple[FailoverEvent, ...]]
    blocked: Mapping[InstanceId, FailoverEvent]

    def newest(self, instance: InstanceId) -> Failover | None:
        """The instance's newest failover."""
        return max(self._of(instance), key=lambda f: f.decided_at, default=None)

    def open(self, instance: InstanceId) -> Failover | None:
        """The instance's failover that hasn't ended, if any."""
        return max((f for f in self._of(instance) if not f.stage.ended), key=lambda f: f.decided_at, default=None)

    def last_begun(self, instance: InstanceId) -> Failover | None:
        """The instance's newest failover that did something, or is about to."""
        return max((f for f in self._of(instance) if f.begun), key=lambda f: f.decided_at, default=None)

    def last_moved_at(self, instance: InstanceId) -> datetime | None:
        """When the last failover ended that did something. One that was withdrawn before it began moved nothing."""
        return max((f.ended_at for f in self._of(instance) if f.begun and f.ended_at is not None), default=None)

    def _of(self, instance: InstanceId) -> list[Failover]:
        return [f for f in self.failovers.values() if f.plan.instance == instance]


EMPTY = Journal({}, {}, {})


def fold(journal: Journal, entry: Entry) -> Journal:
    """The journal with one event more. Events of a failover that was never decided are kept, and change nothing."""
    event = entry.event
    known = journal.events.get(event.failover, ())
    if any(event.origin == other.origin for other in known):
        return journal  # a duplicate
    events = {**journal.events, event.failover: (*known, event)}
    failover = _folded(journal.failovers.get(event.failover), entry)
    failovers = journal.failovers if failover is None else {**journal.failovers, event.failover: failover}
    return Journal(failovers, events, _blocked(journal.blocked, event))


def _blocked(blocked: Mapping[InstanceId, FailoverEvent], event: FailoverEvent) -> Mapping[InstanceId, FailoverEvent]:
    if event.kind is EventKind.REFUSED:
        return {**blocked, event.instance: event}
    held = blocked.get(event.instance)
    if event.kind is EventKind.ENDED and held is not None and held.failover == event.failover:
        return {instance: other for instance, other in blocked.items() if instance != event.instance}
    return blocked


def _folded(failover: Failover | None, entry: Entry) -> Failover | None:
    event = entry.event
    if failover is None:
        return _decided(entry)
    if event.kind in (EventKind.FENCED_LATE, EventKind.UNFENCED):
        return replace(failover, fence=event.fence)
    if failover.stage.ended:
        return failover
    match event.kind:
        case EventKind.APPROVED:
            return replace(failover, stage=event.stage, since=event.at, actor=event.actor)
        case EventKind.INTENT:
            return replace(failover, since=event.at, begun=True)
        case EventKind.OUTCOME | EventKind.ENDED:
            return _moved(failover, event)
        case _:
            return failover


def _moved(failover: Failover, event: FailoverEvent) -> Failover:
    ended = event.stage.ended
    return replace(
        failover,
        stage=event.stage,
        since=event.at,
        fence=event.fence,
        change_id=event.change_id,
        phases=event.phases,
        ended_at=event.at if ended else None,
        reason=event.reason if ended else failover.reason,
    )


def _decided(entry: Entry) -> Failover | None:
    event = entry.event
    if event.kind is not EventKind.DECIDED or event.plan is None:
        return None
    # The phases of a decision are offsets from the first sight of the fault; "decided" is the last of them.
    offset = event.phases[-1].seconds if event.phases else 0.0
    return Failover(
        id=event.failover,
        plan=event.plan,
        stage=event.stage,
        since=event.at,
        decided_at=event.at,
        seen_at=event.at - timedelta(seconds=offset),
        reason=event.reason,
        actor=event.actor,
        phases=event.phases,
        traceparent=entry.traceparent,
    )
