"""What is owed to receivers and not delivered yet: a fold of the alert log, and when to try again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from redis_agent.instants import Instant, after
from redis_agent.model import AlertEvent, AlertEventKind, Notification

_FIRST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(minutes=2)


class Fate(Enum):
    """How an attempt went."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt's result: what the receiver said, and how long it asked us to wait."""

    fate: Fate
    detail: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Owed:
    """A notification on its way."""

    notification: Notification
    since: Instant
    attempts: int
    not_before: Instant


Outbox = Mapping[str, Owed]


def replay(outbox: Outbox, event: AlertEvent, at: Instant) -> Outbox:
    """The outbox after one entry of the alert log, written at that instant."""
    if event.notification is None:
        return outbox
    name = event.notification.id
    match event.kind:
        case AlertEventKind.NOTIFY:
            return {**outbox, name: Owed(event.notification, at, 0, at)}
        case AlertEventKind.DELIVERED:
            return _without(outbox, name)
        case AlertEventKind.FAILED if event.final:
            return _without(outbox, name)
        case AlertEventKind.FAILED if name in outbox:
            # What the receiver asked for (`Retry-After`) is not in the log; our own patience is.
            wait = back_off(event.attempt - 1)
            return {**outbox, name: replace(outbox[name], attempts=event.attempt, not_before=after(at, wait))}
        case _:
            return outbox


def ready(outbox: Outbox, now: Instant) -> list[Owed]:
    """What may be tried at `now`, oldest first; of each receiver only the first, so that its order holds."""
    first: dict[str, Owed] = {}
    for owed in sorted(outbox.values(), key=lambda o: (o.since, o.notification.id)):
        first.setdefault(owed.notification.receiver, owed)
    return [owed for owed in first.values() if owed.not_before <= now]


def settle(
    outbox: Outbox, name: str, attempt: Attempt, now: Instant, give_up: timedelta
) -> tuple[Outbox, AlertEventKind, bool]:
    """The outbox after an attempt, the event that tells of it, and whether that was the last."""
    owed = outbox[name]
    if attempt.fate is Fate.DELIVERED:
        return _without(outbox, name), AlertEventKind.DELIVERED, True
    wait = attempt.retry_after if attempt.retry_after is not None else back_off(owed.attempts)
    if attempt.fate is Fate.REJECTED or now + wait - owed.since > give_up:
        return _without(outbox, name), AlertEventKind.FAILED, True
    again = replace(owed, attempts=owed.attempts + 1, not_before=after(now, wait))
    return {**outbox, name: again}, AlertEventKind.FAILED, False


def back_off(attempts: int) -> timedelta:
    """How long to wait after that many failed attempts: 1, 2, 4, … seconds, two minutes at most."""
    return min(_FIRST_WAIT * float(2 ** min(attempts, 10)), _LONGEST_WAIT)


def _without(outbox: Outbox, name: str) -> Outbox:
    return {key: owed for key, owed in outbox.items() if key != name}
