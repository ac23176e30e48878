"""Plans, and the events of a failover's journal."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from redis_agent.model.identities import Datacenter, FailoverId, InstanceId, Origin, SiteId, Vantage
from redis_agent.model.observations import Reason, Verdict


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
