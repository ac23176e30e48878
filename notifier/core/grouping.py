"""Which alerts are told together, and when.

A group gathers what changes and tells it once, `wait` after the first change. An alert is news when it is new, or its
state, severity or title differs from what was last told. One that fired and was resolved within the wait is told as both,
so that nothing passes unseen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from redis_agent.model import Alert, AlertEvent, AlertEventKind, AlertId, AlertState, Notification, Severity

_RANK = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told, from which severity on."""

    name: str
    min_severity: Severity


@dataclass(frozen=True, slots=True)
class Group:
    """The alerts of one group: as they are now, what is still to tell, when, and how often it told before."""

    name: str
    alerts: Mapping[AlertId, Alert]
    untold: tuple[Alert, ...] = ()
    due_at: datetime | None = None
    told: int = 0


Groups = Mapping[str, Group]


def is_news(groups: Groups, alert: Alert) -> bool:
    """Whether it says anything that the last one of its id didn't."""
    group = groups.get(alert.group)
    last = group.alerts.get(alert.id) if group is not None else None
    return last is None or (last.state, last.severity, last.title) != (alert.state, alert.severity, alert.title)


def change(groups: Groups, alert: Alert, now: datetime, wait: timedelta) -> Groups:
    """Take a changed alert in."""
    group = groups.get(alert.group, Group(alert.group, {}))
    untold = (*_still_needed(group.untold, alert), alert)
    changed = replace(group, alerts={**group.alerts, alert.id: alert}, untold=untold, due_at=group.due_at or now + wait)
    return {**groups, alert.group: changed}


def _still_needed(untold: Iterable[Alert], alert: Alert) -> list[Alert]:
    # Of an alert's untold versions the firing one stays beside its end; any other is replaced.
    return [
        old
        for old in untold
        if old.id != alert.id or (old.state is AlertState.FIRING and alert.state is AlertState.RESOLVED)
    ]


def due(groups: Groups, receivers: Sequence[Receiver], now: datetime) -> tuple[Groups, list[Notification]]:
    """What is owed at `now`, and the groups after that. A notification's id is the same on every replay."""
    owed: list[Notification] = []
    after = dict(groups)
    for group in groups.values():
        if group.due_at is None or group.due_at > now:
            continue
        told = group.told + 1
        after[group.name] = replace(group, untold=(), due_at=None, told=told)
        for receiver in receivers:
            alerts = tuple(a for a in group.untold if _RANK[a.severity] >= _RANK[receiver.min_severity])
            if alerts:
                owed.append(Notification(f"{group.name}#{told}@{receiver.name}", group.name, receiver.name, alerts))
    return after, owed


def replay(groups: Groups, event: AlertEvent, wait: timedelta) -> Groups:
    """The groups after one entry of the alert log."""
    if event.kind is AlertEventKind.CHANGED and event.alert is not None:
        return change(groups, event.alert, event.at, wait)
    if event.kind is AlertEventKind.NOTIFY and event.notification is not None:
        return _told(groups, event.notification)
    return groups


def _told(groups: Groups, notification: Notification) -> Groups:
    group = groups.get(notification.group)
    number = int(notification.id.rpartition("@")[0].rpartition("#")[2])
    if group is None or number <= group.told:
        return groups
    return {**groups, group.name: replace(group, untold=(), due_at=None, told=number)}
