"""The journal read back: events -> failovers as they stand. The fold is the only way a failover comes to be in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from controller.core.failover import Failover
from redis_agent.model import EventKind, FailoverEvent, FailoverId, Stage


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal event and the trace that wrote it."""

    event: FailoverEvent
    traceparent: str


@dataclass(frozen=True, slots=True)
class Journal:
    """Every failover, and every event of each, oldest first."""

    failovers: Mapping[FailoverId, Failover]
    events: Mapping[FailoverId, tuple[FailoverEvent, ...]]

    def newest(self, instance: str) -> Failover | None:
        """The instance's newest failover."""
        own = [f for f in self.failovers.values() if f.plan.instance == instance]
        return max(own, key=lambda f: f.decided_at, default=None)

    def open(self, instance: str) -> Failover | None:
        """The instance's failover that hasn't ended, if any."""
        own = [f for f in self.failovers.values() if f.plan.instance == instance and not f.stage.ended]
        return max(own, key=lambda f: f.decided_at, default=None)


EMPTY = Journal({}, {})


def fold(journal: Journal, entry: Entry) -> Journal:
    """The journal with one event more. Events of a failover that was never decided are kept, and change nothing."""
    event = entry.event
    known = journal.events.get(event.failover, ())
    if any(event.origin == other.origin for other in known):
        return journal  # a duplicate
    events = {**journal.events, event.failover: (*known, event)}
    failover = _folded(journal.failovers.get(event.failover), entry)
    if failover is None:
        return Journal(journal.failovers, events)
    return Journal({**journal.failovers, event.failover: failover}, events)


def _folded(failover: Failover | None, entry: Entry) -> Failover | None:
    event = entry.event
    if event.kind is EventKind.DECIDED and event.plan is not None:
        return _decided(entry)
    if failover is None:
        return None
    match event.kind:
        case EventKind.APPROVED:
            return replace(failover, stage=event.stage, since=event.at, actor=event.actor)
        case EventKind.OUTCOME | EventKind.ENDED:
            ended_at = event.at if event.stage.ended else None
            return replace(
                failover,
                stage=event.stage,
                since=event.at,
                fence=event.fence,
                change_id=event.change_id,
                phases=event.phases,
                ended_at=ended_at,
                reason=event.reason if ended_at else failover.reason,
            )
        case EventKind.FENCED_LATE:
            return replace(failover, fence=event.fence)
        case _:
            return failover


def _decided(entry: Entry) -> Failover | None:
    event = entry.event
    if event.plan is None:
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
        ended_at=event.at if event.stage is Stage.REFUSED else None,
        traceparent=entry.traceparent,
    )
