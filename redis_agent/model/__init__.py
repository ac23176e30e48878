"""The words of the system as frozen values. Standard library only; no clock, no I/O.

Instants are aware `datetime`s (UTC), durations `timedelta`, ids `NewType`s. An event's identity is its `Origin`:
(source, sequence), so that a duplicate can be told from news.
"""

from redis_agent.model.alerts import Alert, AlertEvent, AlertEventKind, AlertKind, AlertState, Notification
from redis_agent.model.anomalies import Anomaly, AnomalyState, Contribution, Severity
from redis_agent.model.control import ControlRecord, Pause
from redis_agent.model.failovers import (
    EventKind,
    FailoverEvent,
    Fence,
    Kind,
    Mode,
    Phase,
    Plan,
    Record,
    Stage,
    VoteSeen,
)
from redis_agent.model.findings import Finding, FindingKey, FindingKind, FindingState
from redis_agent.model.identities import AlertId, AnomalyId, Datacenter, FailoverId, InstanceId, Origin, SiteId, Vantage
from redis_agent.model.observations import (
    HAND_OVER_WITHIN,
    Observation,
    Observations,
    Reason,
    Replication,
    Role,
    Verdict,
)

__all__ = [
    "HAND_OVER_WITHIN",
    "Alert",
    "AlertEvent",
    "AlertEventKind",
    "AlertId",
    "AlertKind",
    "AlertState",
    "Anomaly",
    "AnomalyId",
    "AnomalyState",
    "Contribution",
    "ControlRecord",
    "Datacenter",
    "EventKind",
    "FailoverEvent",
    "FailoverId",
    "Fence",
    "Finding",
    "FindingKey",
    "FindingKind",
    "FindingState",
    "InstanceId",
    "Kind",
    "Mode",
    "Notification",
    "Observation",
    "Observations",
    "Origin",
    "Pause",
    "Phase",
    "Plan",
    "Reason",
    "Record",
    "Replication",
    "Role",
    "Severity",
    "SiteId",
    "Stage",
    "Vantage",
    "Verdict",
    "VoteSeen",
]
