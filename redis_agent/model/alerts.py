"""What people are told, and what became of each telling."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from redis_agent.model.anomalies import Severity
from redis_agent.model.identities import AlertId, InstanceId, Origin


class AlertState(Enum):
    """Whether what the alert tells of still goes on."""

    FIRING = "firing"
    RESOLVED = "resolved"


class AlertKind(Enum):
    """What an alert tells of."""

    ANOMALY = "anomaly"
    FAILOVER = "failover"
    BLOCKED = "blocked"
    FINDING = "finding"


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are told. `id` is stable: the same fault has the same id through restarts and configuration changes."""

    id: AlertId
    group: str
    kind: AlertKind
    state: AlertState
    severity: Severity
    instance: InstanceId
    title: str
    detail: str
    opened_at: datetime
    at: datetime
    route_key: str
    """What routes tell apart: `anomaly`, `failover`, `blocked`, or a finding's kind, like `clock-jump`."""


class AlertEventKind(Enum):
    """What an entry of the alert log says."""

    CHANGED = "changed"  # an alert fired, changed or was resolved
    NOTIFY = "notify"  # a notification is owed to a receiver; written before it is sent
    DELIVERED = "delivered"
    FAILED = "failed"  # an attempt failed; `final` says whether another follows


@dataclass(frozen=True, slots=True)
class Notification:
    """One message owed to one receiver: the alerts of one group as they were when it was due."""

    id: str
    group: str
    receiver: str
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One entry of the alert log."""

    kind: AlertEventKind
    group: str
    at: datetime
    origin: Origin
    alert: Alert | None = None
    notification: Notification | None = None
    attempt: int = 0
    detail: str = ""
    final: bool = False
