"""Findings."""

from redis_agent import model as m
from redis_agent.v1 import finding_pb2, types_pb2
from redis_agent.wire.scalars import decode, enum_from, enum_to, instant_from, instant_to, origin_from, origin_to


def finding_to(f: m.Finding) -> finding_pb2.Finding:
    """Finding -> protobuf."""
    return finding_pb2.Finding(
        kind=enum_to(finding_pb2.FindingKind, f.kind),
        subject=f.subject,
        reporter=f.reporter,
        state=enum_to(finding_pb2.FindingState, f.state),
        severity=enum_to(types_pb2.Severity, f.severity),
        since=instant_to(f.since),
        at=instant_to(f.at),
        text=f.text,
        evidence=f.evidence,
        command=f.command,
        origin=origin_to(f.origin),
    )


def finding_from(p: finding_pb2.Finding) -> m.Finding:
    """Protobuf -> Finding."""
    return m.Finding(
        kind=enum_from(finding_pb2.FindingKind, p.kind, m.FindingKind),
        subject=p.subject,
        reporter=p.reporter,
        state=enum_from(finding_pb2.FindingState, p.state, m.FindingState),
        severity=enum_from(types_pb2.Severity, p.severity, m.Severity),
        since=instant_from(p.since),
        at=instant_from(p.at),
        text=p.text,
        evidence=p.evidence,
        command=p.command,
        origin=origin_from(p.origin),
    )


def decode_finding(value: bytes) -> m.Finding:
    """Bytes of a findings record. Raises Malformed."""
    return decode(value, finding_pb2.Finding(), finding_from)
