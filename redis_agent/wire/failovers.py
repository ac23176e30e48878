"""Plans, votes and the events of a failover."""

from functools import partial

from redis_agent import model as m
from redis_agent.v1 import failover_pb2, types_pb2
from redis_agent.wire.scalars import (
    decode,
    enum_from,
    enum_to,
    instant_from,
    instant_to,
    origin_from,
    origin_to,
    site_from,
    site_to,
    span_to,
)


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
        origin=origin_to(e.origin),
        actor=e.actor,
        votes=[vote_to(v) for v in e.votes],
        fence=enum_to(failover_pb2.Fence, e.fence),
        change_id=e.change_id,
        phases=[failover_pb2.Phase(name=p.name, seconds=p.seconds) for p in e.phases],
    )
    if e.plan is not None:
        message.plan.CopyFrom(plan_to(e.plan))
    return message


def failover_event_from(p: failover_pb2.FailoverEvent, *, with_votes: bool = True) -> m.FailoverEvent:
    """Protobuf -> FailoverEvent; without its votes, which are most of it, where nobody asks for them."""
    return m.FailoverEvent(
        failover=m.FailoverId(p.failover),
        instance=m.InstanceId(p.instance),
        kind=enum_from(failover_pb2.EventKind, p.kind, m.EventKind),
        stage=enum_from(failover_pb2.Stage, p.stage, m.Stage),
        at=instant_from(p.at),
        reason=p.reason,
        origin=origin_from(p.origin),
        actor=p.actor,
        plan=plan_from(p.plan) if p.HasField("plan") else None,
        votes=tuple(vote_from(v) for v in p.votes) if with_votes else (),
        fence=enum_from(failover_pb2.Fence, p.fence, m.Fence),
        change_id=p.change_id,
        phases=tuple(m.Phase(phase.name, phase.seconds) for phase in p.phases),
    )


def decode_failover_event(value: bytes, *, with_votes: bool = True) -> m.FailoverEvent:
    """Bytes of a failovers record. Raises Malformed."""
    return decode(value, failover_pb2.FailoverEvent(), partial(failover_event_from, with_votes=with_votes))
