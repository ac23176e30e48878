"""Anomalies."""

from redis_agent import model as m
from redis_agent.v1 import anomaly_pb2, types_pb2
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
)


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
        origin=origin_to(a.origin),
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
        origin=origin_from(p.origin),
    )


def decode_anomaly(value: bytes) -> m.Anomaly:
    """Bytes of an anomalies record. Raises Malformed."""
    return decode(value, anomaly_pb2.Anomaly(), anomaly_from)
