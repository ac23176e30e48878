"""A site's life, by the votes.

    UNKNOWN ──quorum UP──▶ UP ──quorum DOWN──▶ SUSPECT ──still so after confirm──▶ DOWN
       ▲                    ▲                     │                                 │
       └────── no quorum ───┴──── quorum UP ──────┴─────────────────────────────────┘

A gap in the evidence while SUSPECT starts the confirmation anew: stale data never confirms.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from controller.core.votes import Tally


class Health(Enum):
    """What the votes make of a site."""

    UNKNOWN = "unknown"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """The state and since when. `down_since`: when the present run of quorum DOWN began."""

    health: Health
    since: datetime
    down_since: datetime | None = None


def step(state: SiteHealth, votes: Tally, quorum: int, confirm: timedelta, now: datetime) -> SiteHealth:
    """The state after counting `votes` at `now`."""
    if votes.says_down(quorum):
        return _while_down(state, confirm, now)
    wanted = Health.UP if votes.says_up(1) else Health.UNKNOWN
    return state if state.health is wanted else SiteHealth(wanted, now)


def _while_down(state: SiteHealth, confirm: timedelta, now: datetime) -> SiteHealth:
    match state.health:
        case Health.DOWN:
            return state
        case Health.SUSPECT if state.down_since is not None and now - state.down_since >= confirm:
            return SiteHealth(Health.DOWN, now, state.down_since)
        case Health.SUSPECT:
            return state
        case _:
            begun = SiteHealth(Health.SUSPECT, now, now)
            return begun if confirm else SiteHealth(Health.DOWN, now, now)
