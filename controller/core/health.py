"""A site's life, by the votes.

    UNKNOWN ──quorum UP──▶ UP ──quorum DOWN──▶ SUSPECT ──still so after confirm──▶ DOWN
       ▲                    ▲                     │                                 │
       └────── no quorum ───┴──── quorum UP ──────┴─────────────────────────────────┘

A gap in the evidence while SUSPECT starts the confirmation anew, and the votes that confirm must be from the end of the
confirm time: one bad poll followed by silence confirms nothing.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from controller.core.votes import Tally
from redis_agent.instants import Instant


class Health(Enum):
    """What the votes make of a site."""

    UNKNOWN = "unknown"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


# How far the newest vote of a vantage may lie behind: a poll's turn and its time-out.
_BETWEEN_VOTES = timedelta(seconds=1.5)


@dataclass(frozen=True, slots=True)
class SiteHealth:
    """The state and since when. `down_since`: when the present run of quorum DOWN began."""

    health: Health
    since: Instant
    down_since: Instant | None = None


def step(state: SiteHealth, votes: Tally, quorum: int, confirm: timedelta, now: Instant) -> SiteHealth:
    """The state after counting `votes` at `now`."""
    if votes.says_down(quorum):
        return _while_down(state, votes, quorum, confirm, now)
    wanted = Health.UP if votes.says_up(1) else Health.UNKNOWN
    return state if state.health is wanted else SiteHealth(wanted, now)


def _while_down(state: SiteHealth, votes: Tally, quorum: int, confirm: timedelta, now: Instant) -> SiteHealth:
    match state.health:
        case Health.DOWN:
            return state
        case Health.SUSPECT if state.down_since is not None and _confirmed(
            state.down_since, votes, quorum, confirm, now
        ):
            return SiteHealth(Health.DOWN, now, state.down_since)
        case Health.SUSPECT:
            return state
        case _:
            begun = SiteHealth(Health.SUSPECT, now, now)
            return begun if confirm else SiteHealth(Health.DOWN, now, now)


def _confirmed(down_since: Instant, votes: Tally, quorum: int, confirm: timedelta, now: Instant) -> bool:
    if now - down_since < confirm:
        return False
    return votes.still_says_down(quorum, now - down_since - confirm + min(_BETWEEN_VOTES, confirm / 2))
