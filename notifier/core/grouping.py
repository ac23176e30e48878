"""Which alerts are told together, and when.

A group gathers what changes and tells it once, `wait` after the first change. An alert is news when it is new, or its
state, severity or title differs from what was last told. One that fired and was resolved within the wait is told as both,
so that nothing passes unseen. Who was told that an alert fires is told of all that follows, however mild it became.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from redis_agent.instants import Instant, after
from redis_agent.model import Alert, AlertEvent, AlertEventKind, AlertId, AlertKind, AlertState, Notification, Severity

_RANK = {severity: rank for rank, severity in enumerate(Severity)}
_FORGOTTEN_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told, from which severity on."""

    name: str
    min_severity: Severity


@dataclass(frozen=True, slots=True)
class Group:
    """The alerts of one group: as they are now, when they changed, and at their worst; what is still to tell, when, and how
    often it told before."""

    name: str
    alerts: Mapping[AlertId, Alert]
    changed: Mapping[AlertId, Instant]
    worst: Mapping[AlertId, Severity]
    untold: tuple[Alert, ...] = ()
    due_at: Instant | None = None
    told: int = 0


Groups = Mapping[str, Group]


def is_news(groups: Groups, alert: Alert) -> bool:
    """Whether it says anything that the last one of its id didn't."""
    group = groups.get(alert.group)
    last = group.alerts.get(alert.id) if group is not None else None
    if last is None:
        return True
    # What had ended does not begin again at an instant before its end: that is an old event, come twice. A finding that was
    # closed for a reporter that fell silent does, and by that reporter's clock, which may be wrong.
    ended = last.state is AlertState.RESOLVED and alert.state is AlertState.FIRING
    if ended and alert.kind is not AlertKind.FINDING and alert.at <= last.at:
        return False
    return (last.state, last.severity, last.title) != (alert.state, alert.severity, alert.title)


def change(groups: Groups, alert: Alert, now: Instant, wait: timedelta) -> Groups:
    """Take a changed alert in."""
    group = groups.get(alert.group, Group(alert.group, {}, {}, {}))
    changed = replace(
        group,
        alerts={**group.alerts, alert.id: alert},
        changed={**group.changed, alert.id: now},
        worst={**group.worst, alert.id: max(alert.severity, group.worst.get(alert.id, alert.severity), key=_rank)},
        untold=(*_still_needed(group.untold, alert), alert),
        due_at=group.due_at or after(now, wait),
    )
    return {**groups, alert.group: changed}


def _rank(severity: Severity) -> int:
    return _RANK[severity]


def _still_needed(untold: Iterable[Alert], alert: Alert) -> list[Alert]:
    # Of an alert's untold versions the firing one stays beside its end; any other is replaced.
    return [
        old
        for old in untold
        if old.id != alert.id or (old.state is AlertState.FIRING and alert.state is AlertState.RESOLVED)
    ]


def due(groups: Groups, receivers: Sequence[Receiver], now: Instant) -> tuple[Groups, list[Notification]]:
    """What is owed at `now`, and the groups after that. A notification's id is the same on every replay."""
    owed: list[Notification] = []
    after = dict(groups)
    for group in groups.values():
        if group.due_at is None or group.due_at > now:
            continue
        told = group.told + 1
        after[group.name] = _after_telling(group, told, now)
        for receiver in receivers:
            alerts = tuple(a for a in group.untold if _rank(group.worst[a.id]) >= _rank(receiver.min_severity))
            if alerts:
                owed.append(Notification(f"{group.name}#{told}@{receiver.name}", group.name, receiver.name, alerts))
    return after, owed


def _after_telling(group: Group, told: int, now: Instant) -> Group:
    alerts = {
        alert.id: alert
        for alert in group.alerts.values()
        if alert.state is AlertState.FIRING or now - group.changed[alert.id] < _FORGOTTEN_AFTER
    }
    changed = {alert: group.changed[alert] for alert in alerts}
    worst = {alert: group.worst[alert] for alert in alerts}
    return replace(group, alerts=alerts, changed=changed, worst=worst, untold=(), due_at=None, told=told)


def forget(groups: Groups, due_before: Instant) -> Groups:
    """The groups without what was due before that and concerned no receiver then: one that is added later isn't told."""
    stale = [g for g in groups.values() if g.due_at is not None and g.due_at < due_before]
    return {**groups, **{group.name: replace(group, untold=(), due_at=None) for group in stale}}


def replay(groups: Groups, event: AlertEvent, at: Instant, wait: timedelta) -> Groups:
    """The groups after one entry of the alert log, written at that instant."""
    if event.kind is AlertEventKind.CHANGED and event.alert is not None:
        return change(groups, event.alert, at, wait)
    if event.kind is AlertEventKind.NOTIFY and event.notification is not None:
        return _after_notification(groups, event.notification, at)
    return groups


def _after_notification(groups: Groups, notification: Notification, at: Instant) -> Groups:
    group = groups.get(notification.group)
    number = int(notification.id.rpartition("@")[0].rpartition("#")[2])
    if group is None or number <= group.told:
        return groups
    return {**groups, group.name: _after_telling(group, number, at)}
