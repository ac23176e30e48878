"""model <-> protobuf: one pair of functions a type, and the bytes of a record.

Protobuf stops here and at the gRPC edge. Enums travel by name (`VERDICT_CANNOT_TELL`), so that a new member that this
version doesn't know is `Malformed`, never a wrong meaning.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from redis_agent import model as m
from redis_agent.errors import Malformed
from redis_agent.v1 import alert_pb2, anomaly_pb2, failover_pb2, observation_pb2, types_pb2

E = TypeVar("E", bound=Enum)


def _prefix(wrapper: Any) -> str:
    unspecified: str = wrapper.keys()[0]
    return unspecified.removesuffix("UNSPECIFIED")


def enum_to(wrapper: Any, member: Enum) -> Any:
    """The wire number of a model enum's member. Each generated enum has a type of its own, hence `Any`."""
    return wrapper.Value(f"{_prefix(wrapper)}{member.name}")


def enum_from(wrapper: Any, number: int, kind: type[E]) -> E:
    """The model enum's member of a wire number. Raises Malformed for one that the model doesn't have."""
    try:
        return kind[wrapper.Name(number).removeprefix(_prefix(wrapper))]
    except (KeyError, ValueError):
        raise Malformed(f"{kind.__name__}: unknown wire value {number}") from None


def instant_to(at: datetime) -> Timestamp:
    """An aware datetime as a Timestamp; microseconds survive."""
    stamp = Timestamp()
    stamp.FromDatetime(at.astimezone(UTC))
    return stamp


def instant_from(stamp: Timestamp) -> datetime:
    """A Timestamp as an aware UTC datetime."""
    return stamp.ToDatetime(tzinfo=UTC)


def span_to(span: timedelta) -> Duration:
    """A timedelta as a Duration."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration


def site_to(site: m.SiteId) -> types_pb2.Site:
    """SiteId -> Site."""
    return types_pb2.Site(instance=site.instance, datacenter=site.datacenter)


def site_from(site: types_pb2.Site) -> m.SiteId:
    """Site -> SiteId."""
    return m.SiteId(m.InstanceId(site.instance), m.Datacenter(site.datacenter))


def _origin_to(origin: m.Origin) -> types_pb2.Origin:
    return types_pb2.Origin(source=origin.source, sequence=origin.sequence)


def _origin_from(origin: types_pb2.Origin) -> m.Origin:
    return m.Origin(origin.source, origin.sequence)


# --- observations -----------------------------------------------------------------------------------------------


def observation_to(o: m.Observation) -> observation_pb2.Observation:
    """Observation -> protobuf."""
    message = observation_pb2.Observation(
        site=site_to(o.site),
        vantage=o.vantage,
        at=instant_to(o.at),
        verdict=enum_to(types_pb2.Verdict, o.verdict),
        reason=enum_to(types_pb2.Reason, o.reason),
        evidence=o.evidence,
        origin=_origin_to(o.origin),
        role=enum_to(observation_pb2.Role, o.role),
    )
    if o.round_trip is not None:
        message.round_trip.FromTimedelta(o.round_trip)
    if o.replication is not None:
        message.replication.link_up = o.replication.link_up
        message.replication.last_io_seconds = o.replication.last_io_seconds
        message.replication.offset = o.replication.offset
        message.replication.SetInParent()
    return message


def observation_from(p: observation_pb2.Observation) -> m.Observation:
    """Protobuf -> Observation."""
    replication = None
    if p.HasField("replication"):
        r = p.replication
        replication = m.Replication(r.link_up, r.last_io_seconds, r.offset)
    return m.Observation(
        site=site_from(p.site),
        vantage=m.Vantage(p.vantage),
        at=instant_from(p.at),
        verdict=enum_from(types_pb2.Verdict, p.verdict, m.Verdict),
        reason=enum_from(types_pb2.Reason, p.reason, m.Reason),
        evidence=p.evidence,
        origin=_origin_from(p.origin),
        round_trip=p.round_trip.ToTimedelta() if p.HasField("round_trip") else None,
        role=enum_from(observation_pb2.Role, p.role, m.Role),
        replication=replication,
    )


# --- anomalies --------------------------------------------------------------------------------------------------


def anomaly_to(a: m.Anomaly) -> anomaly_pb2.Anomaly:
    """Anomaly -> protobuf."""
    return anomaly_pb2.Anomaly(
        id=a.id,
        site=site_to(a.site),
        state=enum_to(anomaly_pb2.AnomalyState, a.state),
        opened_at=instant_to(a.opened_at),
        at=instant_to(a.at),
        score=a.score,
        peak_score=a.peak_score,
        threshold=a.threshold,
        severity=enum_to(types_pb2.Severity, a.severity),
        contributions=[
            anomaly_pb2.Contribution(feature=c.feature, observed=c.observed, expected=c.expected, share=c.share)
            for c in a.contributions
        ],
        explanation=a.explanation,
        model=a.model,
        origin=_origin_to(a.origin),
    )


def anomaly_from(p: anomaly_pb2.Anomaly) -> m.Anomaly:
    """Protobuf -> Anomaly."""
    return m.Anomaly(
        id=m.AnomalyId(p.id),
        site=site_from(p.site),
        state=enum_from(anomaly_pb2.AnomalyState, p.state, m.AnomalyState),
        opened_at=instant_from(p.opened_at),
        at=instant_from(p.at),
        score=p.score,
        peak_score=p.peak_score,
        threshold=p.threshold,
        severity=enum_from(types_pb2.Severity, p.severity, m.Severity),
        contributions=tuple(m.Contribution(c.feature, c.observed, c.expected, c.share) for c in p.contributions),
        explanation=p.explanation,
        model=p.model,
        origin=_origin_from(p.origin),
    )


# --- failovers --------------------------------------------------------------------------------------------------


def dns_record_to(r: m.Record) -> failover_pb2.DnsRecord:
    """Record -> protobuf."""
    return failover_pb2.DnsRecord(
        name=r.name, type=r.type, value=r.value, ttl=r.ttl, epoch=r.epoch, epoch_text=r.epoch_text
    )


def dns_record_from(p: failover_pb2.DnsRecord) -> m.Record:
    """Protobuf -> Record."""
    text = p.epoch_text if p.HasField("epoch_text") else None
    return m.Record(p.name, p.type, p.value, p.ttl, p.epoch, text)


def plan_to(plan: m.Plan) -> failover_pb2.Plan:
    """Plan -> protobuf."""
    return failover_pb2.Plan(
        instance=plan.instance,
        source=plan.source,
        target=plan.target,
        kind=enum_to(failover_pb2.FailoverKind, plan.kind),
        before=dns_record_to(plan.before),
        after=dns_record_to(plan.after),
        promote=plan.promote,
        checks=plan.checks,
        expected_loss=plan.expected_loss,
    )


def plan_from(p: failover_pb2.Plan) -> m.Plan:
    """Protobuf -> Plan."""
    return m.Plan(
        instance=m.InstanceId(p.instance),
        source=m.Datacenter(p.source),
        target=m.Datacenter(p.target),
        kind=enum_from(failover_pb2.FailoverKind, p.kind, m.Kind),
        before=dns_record_from(p.before),
        after=dns_record_from(p.after),
        promote=p.promote,
        checks=tuple(p.checks),
        expected_loss=p.expected_loss,
    )


def vote_to(v: m.VoteSeen) -> failover_pb2.VoteSeen:
    """VoteSeen -> protobuf."""
    return failover_pb2.VoteSeen(
        site=site_to(v.site),
        vantage=v.vantage,
        verdict=enum_to(types_pb2.Verdict, v.verdict),
        counted=enum_to(types_pb2.Verdict, v.counted),
        reason=enum_to(types_pb2.Reason, v.reason),
        age=span_to(v.age),
        why=v.why,
    )


def vote_from(p: failover_pb2.VoteSeen) -> m.VoteSeen:
    """Protobuf -> VoteSeen."""
    return m.VoteSeen(
        site=site_from(p.site),
        vantage=m.Vantage(p.vantage),
        verdict=enum_from(types_pb2.Verdict, p.verdict, m.Verdict),
        counted=enum_from(types_pb2.Verdict, p.counted, m.Verdict),
        reason=enum_from(types_pb2.Reason, p.reason, m.Reason),
        age=p.age.ToTimedelta(),
        why=p.why,
    )


def failover_event_to(e: m.FailoverEvent) -> failover_pb2.FailoverEvent:
    """FailoverEvent -> protobuf."""
    message = failover_pb2.FailoverEvent(
        failover=e.failover,
        instance=e.instance,
        kind=enum_to(failover_pb2.EventKind, e.kind),
        stage=enum_to(failover_pb2.Stage, e.stage),
        at=instant_to(e.at),
        reason=e.reason,
        origin=_origin_to(e.origin),
        actor=e.actor,
        votes=[vote_to(v) for v in e.votes],
        fence=enum_to(failover_pb2.Fence, e.fence),
        change_id=e.change_id,
        phases=[failover_pb2.Phase(name=p.name, seconds=p.seconds) for p in e.phases],
    )
    if e.plan is not None:
        message.plan.CopyFrom(plan_to(e.plan))
    return message


def failover_event_from(p: failover_pb2.FailoverEvent) -> m.FailoverEvent:
    """Protobuf -> FailoverEvent."""
    return m.FailoverEvent(
        failover=m.FailoverId(p.failover),
        instance=m.InstanceId(p.instance),
        kind=enum_from(failover_pb2.EventKind, p.kind, m.EventKind),
        stage=enum_from(failover_pb2.Stage, p.stage, m.Stage),
        at=instant_from(p.at),
        reason=p.reason,
        origin=_origin_from(p.origin),
        actor=p.actor,
        plan=plan_from(p.plan) if p.HasField("plan") else None,
        votes=tuple(vote_from(v) for v in p.votes),
        fence=enum_from(failover_pb2.Fence, p.fence, m.Fence),
        change_id=p.change_id,
        phases=tuple(m.Phase(phase.name, phase.seconds) for phase in p.phases),
    )


# --- alerts -----------------------------------------------------------------------------------------------------


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
    )


def alert_event_to(e: m.AlertEvent) -> alert_pb2.AlertEvent:
    """AlertEvent -> protobuf."""
    message = alert_pb2.AlertEvent(
        kind=enum_to(alert_pb2.AlertEventKind, e.kind),
        group=e.group,
        at=instant_to(e.at),
        origin=_origin_to(e.origin),
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
        origin=_origin_from(p.origin),
        alert=alert_from(p.alert) if p.HasField("alert") else None,
        notification=notification,
        attempt=p.attempt,
        detail=p.detail,
        final=p.final,
    )


# --- the bytes of a record --------------------------------------------------------------------------------------

P = TypeVar("P", bound=Message)
T = TypeVar("T")


def _decode(value: bytes, message: P, convert: Callable[[P], T]) -> T:
    try:
        message.ParseFromString(value)
        return convert(message)
    except (DecodeError, ValueError, OverflowError) as fault:
        raise Malformed(f"not a {message.DESCRIPTOR.full_name}: {fault}") from fault


def decode_observation(value: bytes) -> m.Observation:
    """Bytes of an observations record. Raises Malformed."""
    return _decode(value, observation_pb2.Observation(), observation_from)


def decode_anomaly(value: bytes) -> m.Anomaly:
    """Bytes of an anomalies record. Raises Malformed."""
    return _decode(value, anomaly_pb2.Anomaly(), anomaly_from)


def decode_failover_event(value: bytes) -> m.FailoverEvent:
    """Bytes of a failovers record. Raises Malformed."""
    return _decode(value, failover_pb2.FailoverEvent(), failover_event_from)


def decode_alert_event(value: bytes) -> m.AlertEvent:
    """Bytes of an alerts record. Raises Malformed."""
    return _decode(value, alert_pb2.AlertEvent(), alert_event_from)
