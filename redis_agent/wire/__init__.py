"""model <-> protobuf: one pair of functions a type, and the bytes of a record.

Protobuf stops here and at the gRPC edge. Enums travel by name (`VERDICT_CANNOT_TELL`), so that a new member that this
version doesn't know is `Malformed`, never a wrong meaning.
"""

from redis_agent.wire.alerts import alert_event_from, alert_event_to, alert_from, alert_to, decode_alert_event
from redis_agent.wire.anomalies import anomaly_from, anomaly_to, decode_anomaly
from redis_agent.wire.control import control_from, control_to, decode_control
from redis_agent.wire.failovers import (
    decode_failover_event,
    dns_record_from,
    dns_record_to,
    failover_event_from,
    failover_event_to,
    plan_from,
    plan_to,
    vote_from,
    vote_to,
)
from redis_agent.wire.findings import decode_finding, finding_from, finding_to
from redis_agent.wire.observations import (
    decode_observations,
    observation_from,
    observation_to,
    observations_from,
    observations_to,
)
from redis_agent.wire.scalars import (
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

__all__ = [
    "alert_event_from",
    "alert_event_to",
    "alert_from",
    "alert_to",
    "anomaly_from",
    "anomaly_to",
    "control_from",
    "control_to",
    "decode_alert_event",
    "decode_anomaly",
    "decode_control",
    "decode_failover_event",
    "decode_finding",
    "decode_observations",
    "dns_record_from",
    "dns_record_to",
    "enum_from",
    "enum_to",
    "failover_event_from",
    "failover_event_to",
    "finding_from",
    "finding_to",
    "instant_from",
    "instant_to",
    "observation_from",
    "observation_to",
    "observations_from",
    "observations_to",
    "origin_from",
    "origin_to",
    "plan_from",
    "plan_to",
    "site_from",
    "site_to",
    "span_to",
    "vote_from",
    "vote_to",
]
