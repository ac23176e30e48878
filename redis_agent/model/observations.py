"""What a vantage sees of a site, and what it says of all it sees in one tick."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from redis_agent.model.identities import Origin, SiteId, Vantage


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
    age: timedelta = timedelta()
    """How long before it was handed to the log it was seen, by the vantage's own monotonic clock."""


HAND_OVER_WITHIN = timedelta(seconds=1)
"""What a collector could not hand to the log by then is given up; so an observation is that much older at most."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What one collector says at once: all of a tick, or what is news, alone.

    `holding`, set in a tick: whatever else it said since its start still holds, and was seen again so long ago at most.
    """

    vantage: Vantage
    origin: Origin
    observations: tuple[Observation, ...]
    holding: timedelta | None = None
