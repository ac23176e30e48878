"""What holds for the whole fleet."""

from redis_agent import model as m
from redis_agent.errors import Malformed
from redis_agent.v1 import control_pb2
from redis_agent.wire.scalars import decode, instant_from, instant_to, origin_from, origin_to


def control_to(c: m.ControlRecord) -> control_pb2.ControlRecord:
    """ControlRecord -> protobuf."""
    message = control_pb2.ControlRecord(origin=origin_to(c.origin), at=instant_to(c.at), actor=c.actor)
    if c.pause is not None:
        message.pause.CopyFrom(control_pb2.Pause(paused=c.pause.paused, reason=c.pause.reason))
    return message


def control_from(p: control_pb2.ControlRecord) -> m.ControlRecord:
    """Protobuf -> ControlRecord."""
    if not p.HasField("origin"):
        raise Malformed("a control record that doesn't say who wrote it")
    pause = m.Pause(p.pause.paused, p.pause.reason) if p.HasField("pause") else None
    return m.ControlRecord(origin_from(p.origin), instant_from(p.at), p.actor, pause)


def decode_control(value: bytes) -> m.ControlRecord:
    """Bytes of a control record. Raises Malformed."""
    return decode(value, control_pb2.ControlRecord(), control_from)
