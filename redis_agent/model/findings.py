"""What is to be told and is neither an anomaly nor a failover."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from redis_agent.model.anomalies import Severity
from redis_agent.model.identities import Origin


class FindingKind(Enum):
    """What a finding is about; the value is the key that routes tell apart."""

    CLOCK_JUMP = "clock-jump"
    CLOCK_SKEW = "clock-skew"
    VANTAGE_AWAY = "vantage-away"
    VANTAGE_CUT_OFF = "vantage-cut-off"
    DEAD_LETTER = "dead-letter"
    CONTROL_UNREADABLE = "control-unreadable"
    REPORTER_SILENT = "reporter-silent"


class FindingState(Enum):
    """Whether it still is so."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, order=True)
class FindingKey:
    """What a finding is about and who says so: one of each key is open at a time."""

    kind_value: str
    subject: str
    reporter: str

    def __str__(self) -> str:
        return f"{self.kind_value}/{self.subject}/{self.reporter}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be told and is neither an anomaly nor a failover.

    `subject`: an instance, a site, a vantage, or `@fleet`. `command`: what mends it, as it is to be typed.
    """

    kind: FindingKind
    subject: str
    reporter: str
    state: FindingState
    severity: Severity
    since: datetime
    at: datetime
    text: str
    evidence: str
    command: str
    origin: Origin

    @property
    def key(self) -> FindingKey:
        """Of the topic's record."""
        return FindingKey(self.kind.value, self.subject, self.reporter)
