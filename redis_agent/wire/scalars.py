"""Enums, instants, spans, sites and origins; and how the bytes of a record become a value."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from redis_agent import model as m
from redis_agent.errors import Malformed
from redis_agent.v1 import types_pb2

E = TypeVar("E", bound=Enum)


@cache
def _numbers(wrapper: Any, kind: type[E]) -> dict[int, E]:
    """The members that both sides have, by their wire numbers. Asked for each record, so worked out once."""
    prefix = _prefix(wrapper)
    known = kind.__members__
    named = {number: name.removeprefix(prefix) for name, number in wrapper.items()}
    return {number: known[name] for number, name in named.items() if name in known}


@cache
def _prefix(wrapper: Any) -> str:
    unspecified: str = wrapper.keys()[0]
    return unspecified.removesuffix("UNSPECIFIED")


def enum_to(wrapper: Any, member: Enum) -> Any:
    """The wire number of a model enum's member. Each generated enum has a type of its own, hence `Any`."""
    return wrapper.Value(f"{_prefix(wrapper)}{member.name}")


def enum_from(wrapper: Any, number: int, kind: type[E]) -> E:
    """The model enum's member of a wire number. Raises Malformed for one that the model doesn't have."""
    try:
        member: E = _numbers(wrapper, kind)[number]
        return member
    except KeyError:
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


def origin_to(origin: m.Origin) -> types_pb2.Origin:
    return types_pb2.Origin(source=origin.source, sequence=origin.sequence)


def origin_from(origin: types_pb2.Origin) -> m.Origin:
    return m.Origin(origin.source, origin.sequence)


P = TypeVar("P", bound=Message)
T = TypeVar("T")


def decode(value: bytes, message: P, convert: Callable[[P], T]) -> T:
    try:
        message.ParseFromString(value)
        return convert(message)
    except (DecodeError, ValueError, OverflowError) as fault:
        raise Malformed(f"not a {message.DESCRIPTOR.full_name}: {fault}") from fault
