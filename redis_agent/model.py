"""The words of the system as frozen values. Standard library only; no clock, no I/O.

Instants are aware `datetime`s (UTC), durations `timedelta`, ids `NewType`s. An event's identity is its `Origin`:
(source, sequence), so that a duplicate can be told from news.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NewType

InstanceId = NewType("InstanceId", str)
Datacenter = NewType("Datacenter", str)
Vantage = NewType("Vantage", str)
AnomalyId = NewType("AnomalyId", str)
FailoverId = NewType("FailoverId", str)
AlertId = NewType("AlertId", str)


@dataclass(frozen=True, slots=True, order=True)
class SiteId:
    """One instance's copy in one datacenter. Written `instance/datacenter`."""

    instance: InstanceId
    datacenter: Datacenter

    def __str__(self) -> str:
        return f"{self.instance}/{self.datacenter}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said it, and its number among what they said. `source` changes at every start of a process."""

    source: str
    sequence: int


# --- observations -----------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What a vantage says of a site. CANNOT_TELL is never healthy and never down."""

    UP = "up"
    DOWN = "down"
    CANNOT_TELL = "cannot tell"


class Reason(Enum):
    """Why a vantage says so."""

    ANSWERED = "answered"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    DNS = "dns"
    TLS = "tls"
    AUTH = "auth"
    NOPERM = "noperm"
    LOADING = "loading"
    BUSY = "busy"
    MAXCLIENTS = "maxclients"
    MASTERDOWN = "masterdown"
    MISCONF = "misconf"
    PROTOCOL = "protocol"
    NO_ROUTE = "no route"
    OWN_STALL = "own stall"
    PAUSED = "paused"


class Role(Enum):
    """What a Redis server calls itself."""

    PRIMARY = "primary"
    REPLICA = "replica"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Replication:
    """A replica's own view of its primary. `last_io_seconds` is how long ago it heard from it; -1 when never."""

    link_up: bool
    last_io_seconds: int
    offset: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What one vantage says about one site at one time, with its evidence."""

    site: SiteId
    vantage: Vantage
    at: datetime
    verdict: Verdict
    reason: Reason
    evidence: str
    origin: Origin
    round_trip: timedelta | None = None
    role: Role = Role.UNKNOWN
    replication: Replication | None = None


# --- anomalies --------------------------------------------------------------------------------------------------


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


# --- failovers --------------------------------------------------------------------------------------------------


class Mode(Enum):
    """What the controller may do by itself."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"


class Kind(Enum):
    """Why traffic moves: because a site is lost, or because somebody wants it elsewhere."""

    EMERGENCY = "emergency"
    PLANNED = "planned"


class Stage(Enum):
    """A failover's life. The order is the order of the steps; the last four are ends."""

    AWAITING_APPROVAL = "awaiting approval"
    FENCING = "fencing"
    PROMOTING = "promoting"
    REDIRECTING = "redirecting"
    PROPAGATING = "propagating"
    VERIFYING = "verifying"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"
    REFUSED = "refused"

    @property
    def ended(self) -> bool:
        """No step follows."""
        return self in (Stage.DONE, Stage.ABORTED, Stage.FAILED, Stage.REFUSED)


class EventKind(Enum):
    """What a journal entry says."""

    DECIDED = "decided"  # a failover exists from here on; carries the plan
    REFUSED = "refused"  # a decision not to act, with every reason
    APPROVED = "approved"
    INTENT = "intent"  # about to do a step; written before it is done
    OUTCOME = "outcome"  # what the step's effect was seen to be
    ENDED = "ended"
    FENCED_LATE = "fenced late"  # an old site came back and was made to refuse writes
    UNFENCED = "unfenced"  # a failover was aborted, and its source takes writes again


class Fence(Enum):
    """Whether the old site was made to refuse writes."""

    NOT_TRIED = "not tried"
    REFUSES_WRITES = "refuses writes"
    UNREACHABLE = "unreachable"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class Record:
    """A DNS record as it stands: its one value and TTL, and the fencing epoch beside it (0: none yet)."""

    name: str
    type: str
    value: str
    ttl: int
    epoch: int
    epoch_text: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in full, before any of it is done."""

    instance: InstanceId
    source: Datacenter
    target: Datacenter
    kind: Kind
    before: Record
    after: Record
    promote: bool
    checks: tuple[str, ...] = ()
    expected_loss: str = ""


@dataclass(frozen=True, slots=True)
class VoteSeen:
    """A vote as it was counted at the decision."""

    site: SiteId
    vantage: Vantage
    verdict: Verdict
    counted: Verdict
    reason: Reason
    age: timedelta
    why: str


@dataclass(frozen=True, slots=True)
class FailoverEvent:
    """One entry of the write-ahead journal. Which fields are filled depends on `kind`."""

    failover: FailoverId
    instance: InstanceId
    kind: EventKind
    stage: Stage
    at: datetime
    reason: str
    origin: Origin
    actor: str = ""
    plan: Plan | None = None
    votes: tuple[VoteSeen, ...] = ()
    fence: Fence = Fence.NOT_TRIED
    change_id: str = ""
    phases: tuple["Phase", ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """One named span of a failover, measured."""

    name: str
    seconds: float


# --- alerts -----------------------------------------------------------------------------------------------------


class AlertState(Enum):
    """Whether what the alert tells of still goes on."""

    FIRING = "firing"
    RESOLVED = "resolved"


class AlertKind(Enum):
    """What an alert tells of."""

    ANOMALY = "anomaly"
    FAILOVER = "failover"
    BLOCKED = "blocked"


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
