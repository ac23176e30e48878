"""Values that the controller's tests begin with: one instance, two sites, three vantages, noon."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

from controller.core.failover import CONTROLLER, Failover
from controller.core.health import Health, SiteHealth
from controller.core.journal import Journal
from controller.core.policy import InstanceView, Policy
from controller.core.vote_book import VoteBook
from controller.core.votes import Tally, Vote
from redis_agent.instants import Instant, after
from redis_agent.model import (
    HAND_OVER_WITHIN,
    Datacenter,
    FailoverId,
    InstanceId,
    Kind,
    Mode,
    Observation,
    Observations,
    Origin,
    Plan,
    Reason,
    Record,
    Replication,
    Role,
    SiteId,
    Stage,
    Vantage,
    Verdict,
)

NOON = Instant(timedelta(hours=12))
NOON_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""Noon as people read it."""
ORDERS = InstanceId("orders")
EAST, WEST = Datacenter("dc-east"), Datacenter("dc-west")
EAST_SITE, WEST_SITE = SiteId(ORDERS, EAST), SiteId(ORDERS, WEST)
VANTAGES = (Vantage("dc-east"), Vantage("dc-west"), Vantage("witness"))
MAX_AGE = timedelta(seconds=5)
POLICY = Policy(
    mode=Mode.AUTO,
    quorum=2,
    confirm=timedelta(seconds=3),
    cooldown=timedelta(seconds=60),
    vote_max_age=MAX_AGE,
    max_data_loss=timedelta(seconds=20),
    fence=timedelta(seconds=1),
    step=timedelta(seconds=30),
)
BEFORE = Record("orders.example.com.", "CNAME", "east.example.com.", 30, 0)
AFTER = Record("orders.example.com.", "CNAME", "west.example.com.", 30, 1)
PLAN = Plan(ORDERS, EAST, WEST, Kind.EMERGENCY, BEFORE, AFTER, promote=True)
FAILOVER = Failover(
    id=FailoverId("fo-1"),
    plan=PLAN,
    stage=Stage.FENCING,
    since=NOON,
    decided_at=NOON_AT,
    seen_at=after(NOON, -timedelta(seconds=4)),
    reason="dc-east is down",
    actor=CONTROLLER,
)
_SEQUENCE = count(1)


def seconds(number: float) -> timedelta:
    """A timedelta."""
    return timedelta(seconds=number)


def vote(
    vantage: str, site: SiteId, verdict: Verdict, age: float = 0.5, source: str = "", sequence: int | None = None
) -> Observation:
    """What a vantage said of a site at noon, from a look `age` seconds before."""
    role = Role.REPLICA if site == WEST_SITE else Role.PRIMARY
    return Observation(
        site=site,
        vantage=Vantage(vantage),
        at=NOON_AT - timedelta(seconds=age),
        age=timedelta(seconds=age),
        verdict=verdict,
        reason=Reason.ANSWERED if verdict is Verdict.UP else Reason.TIMEOUT,
        evidence="as told",
        origin=Origin(source or f"collector-{vantage}", next(_SEQUENCE) if sequence is None else sequence),
        role=role if verdict is Verdict.UP else Role.UNKNOWN,
        replication=Replication(link_up=True, last_io_seconds=0, offset=100) if role is Role.REPLICA else None,
    )


def latest(votes: Iterable[Observation]) -> dict[tuple[SiteId, Vantage], Observation]:
    """The votes by who says it of what."""
    return {(each.site, each.vantage): each for each in votes}


def book_of(votes: Mapping[tuple[SiteId, Vantage], Observation]) -> VoteBook:
    """These votes, each read at noon as soon as it was handed over, and counted."""
    book = VoteBook(MAX_AGE)
    for each in sorted(votes.values(), key=lambda vote: vote.origin.sequence):
        book.note(Observations(each.vantage, each.origin, (each,)), NOON, timedelta(), "")
    book.changed(NOON)
    return book


def tallies_of(votes: Mapping[tuple[SiteId, Vantage], Observation]) -> dict[SiteId, Tally]:
    """Both sites' votes, counted at noon."""
    book = book_of(votes)
    return {site: book.tally(site, NOON) for site in (EAST_SITE, WEST_SITE)}


def voted(observation: Observation) -> Vote:
    """A vote, seen so long before noon as it says."""
    at = after(NOON, -observation.age)
    return Vote(observation, at, at, HAND_OVER_WITHIN)


def before_noon(number: float) -> Instant:
    """So many seconds before."""
    return after(NOON, -timedelta(seconds=number))


def known(journal: Journal) -> dict[FailoverId, tuple[Failover, tuple[bytes, ...]]]:
    """What a journal keeps whole, but for instants: they are the reader's own."""
    found = {}
    for id_, failover in journal.failovers.items():
        kept = journal.kept(id_)
        untimed = replace(failover, since=NOON, seen_at=NOON, ended=None)
        found[id_] = (untimed, tuple(kept.entries) if kept is not None else ())
    return found


def east_dark(replication: Replication | None = None) -> dict[tuple[SiteId, Vantage], Observation]:
    """dc-east is dark, and its vantage with it; dc-west last heard from it ten seconds ago, unless told otherwise."""
    heard = replication or Replication(link_up=False, last_io_seconds=10, offset=100)
    west = [replace(vote(v, WEST_SITE, Verdict.UP), replication=heard) for v in ("dc-west", "witness")]
    east = [vote(v, EAST_SITE, Verdict.DOWN) for v in ("dc-west", "witness")]
    return latest([*east, *west, *(vote("dc-east", site, Verdict.DOWN) for site in (EAST_SITE, WEST_SITE))])


def view_of(votes: Mapping[tuple[SiteId, Vantage], Observation]) -> InstanceView:
    """The instance with these votes: dc-east holds the traffic, and is DOWN for 10 s where a quorum says so; dc-west is UP."""
    tallies = tallies_of(votes)
    up = [each for each in votes.values() if each.site == WEST_SITE and each.verdict is Verdict.UP]
    return InstanceView(
        instance=ORDERS,
        promotes=True,
        values={EAST: BEFORE.value, WEST: AFTER.value},
        health={
            EAST: SiteHealth(Health.DOWN, before_noon(7), before_noon(10))
            if tallies[EAST_SITE].says_down(POLICY.quorum)
            else SiteHealth(Health.UNKNOWN, before_noon(7)),
            WEST: SiteHealth(Health.UP, before_noon(60)),
        },
        tallies={site.datacenter: counted for site, counted in tallies.items()},
        freshest={WEST: voted(up[0])} if up else {},
        record=BEFORE,
        ttl=30,
        paused=None,
        in_flight=None,
        last_ended=None,
        now=NOON,
    )
