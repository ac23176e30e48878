"""Alerts."""

from redis_agent import model as m
from redis_agent.v1 import alert_pb2, types_pb2
from redis_agent.wire.scalars import decode, enum_from, enum_to, instant_from, instant_to, origin_from, origin_to


def alert_to(a: m.Alert) -> alert_pb2.Alert:
    """Alert -> protobuf."""
    return alert_pb2.Alert(
        id=a.id,
        group=a.group,
        kind=enum_to(alert_pb2.AlertKind, a.kind),
        state=enum_to(alert_pb2.AlertState, a.state),
        severity=enum_to(types_pb2.Severity, a.severity),
        instance=a.instance,
        title=a.title,
        detail=a.detail,
        opened_at=instant_to(a.opened_at),
        at=instant_to(a.at),
        route_key=a.route_key,
    )


def alert_from(p: alert_pb2.Alert) -> m.Alert:
    """Protobuf -> Alert."""
    return m.Alert(
        id=m.AlertId(p.id),
        group=p.group,
        kind=enum_from(alert_pb2.AlertKind, p.kind, m.AlertKind),
        state=enum_from(alert_pb2.AlertState, p.state, m.AlertState),
        severity=enum_from(types_pb2.Severity, p.severity, m.Severity),
        instance=m.InstanceId(p.instance),
        title=p.title,
        detail=p.detail,
        opened_at=instant_from(p.opened_at),
        at=instant_from(p.at),
        route_key=p.route_key,
    )


def alert_event_to(e: m.AlertEvent) -> alert_pb2.AlertEvent:
    """AlertEvent -> protobuf."""
    message = alert_pb2.AlertEvent(
        kind=enum_to(alert_pb2.AlertEventKind, e.kind),
        group=e.group,
        at=instant_to(e.at),
        origin=origin_to(e.origin),
        attempt=e.attempt,
        detail=e.detail,
        final=e.final,
    )
    if e.alert is not None:
        message.alert.CopyFrom(alert_to(e.alert))
    if e.notification is not None:
        n = e.notification
        message.notification.CopyFrom(
            alert_pb2.Notification(id=n.id, group=n.group, receiver=n.receiver, alerts=[alert_to(a) for a in n.alerts])
        )
    return message


def alert_event_from(p: alert_pb2.AlertEvent) -> m.AlertEvent:
    """Protobuf -> AlertEvent."""
    notification = None
    if p.HasField("notification"):
        n = p.notification
        notification = m.Notification(n.id, n.group, n.receiver, tuple(alert_from(a) for a in n.alerts))
    return m.AlertEvent(
        kind=enum_from(alert_pb2.AlertEventKind, p.kind, m.AlertEventKind),
        group=p.group,
        at=instant_from(p.at),
        origin=origin_from(p.origin),
        alert=alert_from(p.alert) if p.HasField("alert") else None,
        notification=notification,
        attempt=p.attempt,
        detail=p.detail,
        final=p.final,
    )


def decode_alert_event(value: bytes) -> m.AlertEvent:
    """Bytes of an alerts record. Raises Malformed."""
    return decode(value, alert_pb2.AlertEvent(), alert_event_from)
