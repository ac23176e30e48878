"""Spans of time in which a site's samples were not normal, and how grave something is."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from redis_agent.model.identities import AnomalyId, Origin, SiteId


class AnomalyState(Enum):
    """Where an anomaly is in its life."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


class Severity(Enum):
    """How much it matters, in PagerDuty's words."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One feature's share (0 to 1) of an anomaly's score: what was seen, what the model expected."""

    feature: str
    observed: float
    expected: float
    share: float


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A span of time in which a site's samples were not normal. `score` and `threshold` are residual ratios, >= 0."""

    id: AnomalyId
    site: SiteId
    state: AnomalyState
    opened_at: datetime
    at: datetime
    score: float
    peak_score: float
    threshold: float
    severity: Severity
    contributions: tuple[Contribution, ...]
    explanation: str
    model: str
    origin: Origin
