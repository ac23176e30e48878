"""The journal read back: events -> failovers as they stand. The fold is the only way a failover comes to be in memory.

Kept whole, of each instance: what is open, what ended last, and what last did something. Of all else its place: who asks for
an old failover is answered from the log. So memory holds a fleet, not its history.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.core.failover import Failover
from redis_agent.instants import Instant, after
from redis_agent.model import EventKind, FailoverEvent, FailoverId, InstanceId


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal event: when it was written, on the process's clock; its bytes; and the trace that wrote it."""

    event: FailoverEvent
    at: Instant
    value: bytes = b""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is found again: whose it is, and when it was decided."""

    instance: InstanceId
    decided_at: datetime
    at: Instant


@dataclass(slots=True)
class Kept:
    """A failover, or a decision not to act (`failover` is None), with the bytes of its entries, oldest first."""

    id: FailoverId
    failover: Failover | None
    entries: list[bytes] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)


class Journal:
    """One owner: whoever writes the journal, or reads it back."""

    def __init__(self) -> None:
        self.places: dict[FailoverId, Place] = {}
        """Everything that the journal tells of, in its order."""
        self.blocked: dict[InstanceId, FailoverEvent] = {}
        """Of each instance the decision not to act that still holds."""
        self._kept: dict[InstanceId, dict[FailoverId, Kept]] = {}

    # --- taking in

    def note(self, entry: Entry) -> None:
        """One event more. Events of a failover that was never decided are kept, and change nothing."""
        event = entry.event
        kept = self._kept.setdefault(event.instance, {})
        known = kept.get(event.failover)
        identity = hash(event.origin)
        if known is None:
            if event.failover in self.places:
                return  # of one that was let go: it can't be begun anew
            known = kept[event.failover] = Kept(event.failover, None)
            self.places[event.failover] = Place(event.instance, event.at, entry.at)
        if identity in known.seen:
            return  # a duplicate
        known.seen.append(identity)
        known.entries.append(entry.value)
        known.failover = _folded(known.failover, entry)
        self._block(event)
        self._let_go(event.instance, kept)

    def _block(self, event: FailoverEvent) -> None:
        if event.kind is EventKind.REFUSED:
            self.blocked[event.instance] = event
        elif event.kind is EventKind.ENDED:
            held = self.blocked.get(event.instance)
            if held is not None and held.failover == event.failover:
                del self.blocked[event.instance]

    def _let_go(self, instance: InstanceId, kept: dict[FailoverId, Kept]) -> None:
        if len(kept) < 2:
            return
        begun, blocked = self.last_begun(instance), self.blocked.get(instance)
        stay = {list(kept)[-1]} | {each.id for each in (begun,) if each is not None}
        stay |= {each.failover for each in (blocked,) if each is not None}
        stay |= {id_ for id_, each in kept.items() if each.failover is not None and not each.failover.stage.ended}
        newest = self.newest(instance)
        stay |= {newest.id} if newest is not None else set()
        for id_ in kept.keys() - stay:
            del kept[id_]

    # --- looking up

    def kept(self, failover: FailoverId) -> Kept | None:
        """What is in memory of it."""
        place = self.places.get(failover)
        return None if place is None else self._kept[place.instance].get(failover)

    @property
    def failovers(self) -> Mapping[FailoverId, Failover]:
        """The failovers in memory."""
        return {id_: k.failover for own in self._kept.values() for id_, k in own.items() if k.failover is not None}

    def failover(self, failover: FailoverId) -> Failover | None:
        """As it stands; None when it isn't in memory, or isn't one."""
        kept = self.kept(failover)
        return None if kept is None else kept.failover

    def newest(self, instance: InstanceId) -> Failover | None:
        """The instance's newest failover."""
        return next(iter(self._of(instance)), None)

    def open(self, instance: InstanceId) -> Failover | None:
        """The instance's failover that hasn't ended, if any."""
        return next((f for f in self._of(instance) if not f.stage.ended), None)

    def last_begun(self, instance: InstanceId) -> Failover | None:
        """The instance's newest failover that did something, or is about to."""
        return next((f for f in self._of(instance) if f.begun), None)

    def last_moved(self, instance: InstanceId) -> Instant | None:
        """When the last failover ended that did something. One that was withdrawn before it began moved nothing."""
        return max((f.ended for f in self._of(instance) if f.begun and f.ended is not None), default=None)

    @property
    def unfinished(self) -> list[InstanceId]:
        """Instances with something open, blocked, or owed."""
        found = set(self.blocked)
        for instance in self._kept:
            if any(not f.stage.ended or f.owes_unfencing for f in self._of(instance)):
                found.add(instance)
        return sorted(found)

    def _of(self, instance: InstanceId) -> list[Failover]:
        """Newest first: by the journal's order, whatever clocks said."""
        kept = list(self._kept.get(instance, {}).values())
        return [each.failover for each in reversed(kept) if each.failover is not None]


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
            return replace(failover, stage=event.stage, since=entry.at, actor=event.actor)
        case EventKind.INTENT:
            return replace(failover, since=entry.at, begun=True)
        case EventKind.OUTCOME | EventKind.ENDED:
            return _moved(failover, entry)
        case _:
            return failover


def _moved(failover: Failover, entry: Entry) -> Failover:
    event = entry.event
    ended = event.stage.ended
    return replace(
        failover,
        stage=event.stage,
        since=entry.at,
        fence=event.fence,
        change_id=event.change_id,
        phases=event.phases,
        ended=entry.at if ended else None,
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
        since=entry.at,
        decided_at=event.at,
        seen_at=after(entry.at, -timedelta(seconds=offset)),
        reason=event.reason,
        actor=event.actor,
        phases=event.phases,
        traceparent=entry.traceparent,
    )
