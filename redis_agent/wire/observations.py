"""Observations."""

from dataclasses import replace
from datetime import timedelta

from redis_agent import model as m
from redis_agent.errors import Malformed
from redis_agent.v1 import observation_pb2, types_pb2
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


def observation_to(o: m.Observation) -> observation_pb2.Observation:
    """Observation -> protobuf."""
    message = observation_pb2.Observation(
        site=site_to(o.site),
        vantage=o.vantage,
        at=instant_to(o.at),
        verdict=enum_to(types_pb2.Verdict, o.verdict),
        reason=enum_to(types_pb2.Reason, o.reason),
        evidence=o.evidence,
        origin=origin_to(o.origin),
        role=enum_to(observation_pb2.Role, o.role),
        age=span_to(o.age),
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
        origin=origin_from(p.origin),
        round_trip=p.round_trip.ToTimedelta() if p.HasField("round_trip") else None,
        role=enum_from(observation_pb2.Role, p.role, m.Role),
        replication=replication,
        age=p.age.ToTimedelta(),
    )


def observations_to(o: m.Observations) -> observation_pb2.Observations:
    """Observations -> protobuf; what all of them share stands once."""
    message = observation_pb2.Observations(vantage=o.vantage, origin=origin_to(o.origin))
    for each in o.observations:
        said = observation_to(each)
        said.ClearField("vantage")
        said.ClearField("origin")
        message.observations.append(said)
    if o.holding is not None:
        message.holding.FromTimedelta(o.holding)
    return message


def observations_from(p: observation_pb2.Observations) -> m.Observations:
    """Protobuf -> Observations. What says nothing of its sender, or is from the future, is malformed."""
    if not p.vantage:
        raise Malformed("observations without a vantage")
    if any(span.ToTimedelta() < timedelta() for span in (p.holding, *(each.age for each in p.observations))):
        raise Malformed("observations from the future: an age below zero")
    vantage, origin = m.Vantage(p.vantage), origin_from(p.origin)
    said = tuple(replace(observation_from(each), vantage=vantage, origin=origin) for each in p.observations)
    return m.Observations(vantage, origin, said, p.holding.ToTimedelta() if p.HasField("holding") else None)


def decode_observations(value: bytes) -> m.Observations:
    """Bytes of an observations record. Raises Malformed."""
    return decode(value, observation_pb2.Observations(), observations_from)
