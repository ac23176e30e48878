"""What goes over the wire comes back as it was, and what isn't ours is Malformed and nothing else."""

import dataclasses
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_agent import model as m
from redis_agent import wire
from redis_agent.errors import Malformed
from redis_agent.v1 import alert_pb2, anomaly_pb2, failover_pb2, finding_pb2, observation_pb2, types_pb2

# Timestamp and datetime both end with the year 9999; a zone's offset must not push an instant over either edge.
_EARLIEST, _LATEST = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001 - hypothesis adds the zones
_ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))])
_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    bool: st.booleans(),
    int: st.integers(0, 2**32 - 1),
    float: st.floats(allow_nan=False),
    # A Duration holds 315 576 000 000 seconds, about ten thousand years.
    timedelta: st.timedeltas(timedelta(days=-3_600_000), timedelta(days=3_600_000)),
    datetime: st.datetimes(_EARLIEST, _LATEST, timezones=_ZONES),
}
_PAST = st.timedeltas(timedelta(), timedelta(days=3_600_000))
# Where the wire's integers are wider than 32 bits.
_FIELDS: dict[tuple[type, str], st.SearchStrategy[Any]] = {
    (m.Origin, "sequence"): st.integers(0, 2**64 - 1),
    (m.Record, "epoch"): st.integers(0, 2**64 - 1),
    (m.Replication, "last_io_seconds"): st.integers(-(2**63), 2**63 - 1),
    (m.Replication, "offset"): st.integers(-(2**63), 2**63 - 1),
    # What was seen was seen before it was said, and by somebody.
    (m.Observation, "age"): _PAST,
    (m.Observations, "holding"): st.none() | _PAST,
    (m.Observations, "vantage"): st.text(min_size=1, max_size=20),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type of the model. A field that is new is covered the day it is added."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, typing.NewType):
        return values(kind.__supertype__)
    if typing.get_origin(kind) is tuple:
        return st.lists(values(typing.get_args(kind)[0]), max_size=3).map(tuple)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return st.one_of(*(values(option) for option in typing.get_args(kind)))
    if kind is type(None):
        return st.none()
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    hints = typing.get_type_hints(kind)
    fields = {f.name: _FIELDS.get((kind, f.name), values(hints[f.name])) for f in dataclasses.fields(kind)}
    built = st.builds(kind, **fields)
    return built.map(_of_one_sender) if kind is m.Observations else built


def _of_one_sender(said: m.Observations) -> m.Observations:
    own = tuple(replace(each, vantage=said.vantage, origin=said.origin) for each in said.observations)
    return replace(said, observations=own)


Codec = tuple[Any, Callable[[Any], Message], Callable[[bytes], Any]]
CODECS: dict[str, Codec] = {
    "observations": (m.Observations, wire.observations_to, wire.decode_observations),
    "finding": (m.Finding, wire.finding_to, wire.decode_finding),
    "control": (m.ControlRecord, wire.control_to, wire.decode_control),
    "anomaly": (m.Anomaly, wire.anomaly_to, wire.decode_anomaly),
    "failover event": (m.FailoverEvent, wire.failover_event_to, wire.decode_failover_event),
    "alert event": (m.AlertEvent, wire.alert_event_to, wire.decode_alert_event),
}
each_record = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@each_record
@settings(deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back_as_it_was(codec: Codec, data: st.DataObject) -> None:
    kind, to_wire, decode = codec
    value = data.draw(values(kind))
    assert decode(to_wire(value).SerializeToString()) == value


@settings(deadline=None)
@given(site=values(m.SiteId), vote=values(m.VoteSeen), plan=values(m.Plan), record=values(m.Record))
def test_what_travels_by_grpc_alone_comes_back_too(
    site: m.SiteId, vote: m.VoteSeen, plan: m.Plan, record: m.Record
) -> None:
    assert wire.site_from(wire.site_to(site)) == site
    assert wire.vote_from(wire.vote_to(vote)) == vote
    assert wire.plan_from(wire.plan_to(plan)) == plan
    assert wire.dns_record_from(wire.dns_record_to(record)) == record


@settings(deadline=None)
@given(alert=values(m.Alert))
def test_an_alert_comes_back_as_it_was(alert: m.Alert) -> None:
    assert wire.alert_from(wire.alert_to(alert)) == alert


@settings(deadline=None)
@given(at=_SCALARS[datetime], later=st.integers(1, 999_999))
def test_times_keep_their_microseconds_and_come_back_in_utc(at: datetime, later: int) -> None:
    other = at + timedelta(microseconds=later)
    back, other_back = wire.instant_from(wire.instant_to(at)), wire.instant_from(wire.instant_to(other))
    assert back.utcoffset() == timedelta()
    assert other_back - back == timedelta(microseconds=later)


@each_record
@settings(deadline=None)
@given(data=st.data())
def test_any_bytes_are_a_value_or_malformed_and_nothing_else(codec: Codec, data: st.DataObject) -> None:
    kind, to_wire, decode = codec
    with suppress(Malformed):
        assert isinstance(decode(data.draw(st.binary(max_size=200))), kind)
    whole = to_wire(data.draw(values(kind))).SerializeToString()
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if broken:
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Malformed):
        assert isinstance(decode(bytes(broken)), kind)


@each_record
def test_a_record_with_nothing_in_it_is_malformed(codec: Codec) -> None:
    with pytest.raises(Malformed):
        codec[2](b"")


def _enums(kind: Any) -> set[type[Enum]]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {kind}
    if dataclasses.is_dataclass(kind):
        return set().union(*(_enums(hint) for hint in typing.get_type_hints(kind).values()))
    return set().union(*(_enums(option) for option in typing.get_args(kind)))


WRAPPERS = {
    m.Verdict: types_pb2.Verdict,
    m.Reason: types_pb2.Reason,
    m.Severity: types_pb2.Severity,
    m.Role: observation_pb2.Role,
    m.FindingKind: finding_pb2.FindingKind,
    m.FindingState: finding_pb2.FindingState,
    m.AnomalyState: anomaly_pb2.AnomalyState,
    m.Kind: failover_pb2.FailoverKind,
    m.Stage: failover_pb2.Stage,
    m.EventKind: failover_pb2.EventKind,
    m.Fence: failover_pb2.Fence,
    m.AlertState: alert_pb2.AlertState,
    m.AlertKind: alert_pb2.AlertKind,
    m.AlertEventKind: alert_pb2.AlertEventKind,
}


def test_every_enum_that_travels_is_looked_at_here() -> None:
    assert set().union(*(_enums(kind) for kind, _, _ in CODECS.values())) == set(WRAPPERS)


@pytest.mark.parametrize("kind", WRAPPERS, ids=lambda kind: kind.__name__)
def test_each_enum_has_the_same_members_on_the_wire_and_in_the_model(kind: type[Enum]) -> None:
    wrapper = WRAPPERS[kind]
    prefix = wrapper.keys()[0].removesuffix("UNSPECIFIED")
    assert {name.removeprefix(prefix) for name in wrapper.keys()[1:]} == {member.name for member in kind}
    assert [wire.enum_from(wrapper, wire.enum_to(wrapper, member), kind) for member in kind] == list(kind)


@pytest.mark.parametrize("number", [0, 99, -1])
@pytest.mark.parametrize("kind", WRAPPERS, ids=lambda kind: kind.__name__)
def test_a_number_that_the_model_does_not_know_is_malformed(kind: type[Enum], number: int) -> None:
    with pytest.raises(Malformed, match=f"{kind.__name__}: unknown wire value {number}"):
        wire.enum_from(WRAPPERS[kind], number, kind)


def test_a_verdict_from_a_newer_version_makes_the_record_malformed_not_up() -> None:
    told = m.Observation(
        site=m.SiteId(m.InstanceId("orders"), m.Datacenter("dc-east")),
        vantage=m.Vantage("witness"),
        at=datetime(2026, 11, 23, tzinfo=UTC),
        verdict=m.Verdict.UP,
        reason=m.Reason.ANSWERED,
        evidence="PONG",
        origin=m.Origin("collector@here/1", 1),
    )
    message = wire.observations_to(m.Observations(told.vantage, told.origin, (told,)))
    message.observations[0].verdict = 7  # type: ignore[assignment]
    with pytest.raises(Malformed, match="Verdict: unknown wire value 7"):
        wire.decode_observations(message.SerializeToString())


def test_what_claims_to_be_younger_than_now_is_malformed() -> None:
    message = observation_pb2.Observations(vantage="witness")
    message.observations.add().age.FromTimedelta(timedelta(seconds=-1))
    with pytest.raises(Malformed, match="from the future"):
        wire.decode_observations(message.SerializeToString())


def test_a_time_beyond_the_calendar_is_malformed() -> None:
    message = anomaly_pb2.Anomaly()
    message.at.seconds = 10**15
    message.state = anomaly_pb2.ANOMALY_STATE_OPENED
    with pytest.raises(Malformed, match=r"redis_agent\.v1\.Anomaly"):
        wire.decode_anomaly(message.SerializeToString())
