"""Values that the controller's tests begin with: one instance, two sites, three vantages, noon."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

from controller.core.failover import CONTROLLER, Failover
from controller.core.health import Health, SiteHealth
from controller.core.policy import InstanceView, Policy
from controller.core.votes import tally
from redis_agent.model import (
    Datacenter,
    FailoverId,
    InstanceId,
    Kind,
    Mode,
    Observation,
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

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
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
    decided_at=NOON,
    seen_at=NOON - timedelta(seconds=4),
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
    """What a vantage said of a site, `age` seconds before noon."""
    role = Role.REPLICA if site == WEST_SITE else Role.PRIMARY
    return Observation(
        site=site,
        vantage=Vantage(vantage),
        at=NOON - timedelta(seconds=age),
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


def east_dark(replication: Replication | None = None) -> dict[tuple[SiteId, Vantage], Observation]:
    """dc-east is dark, and its vantage with it; dc-west last heard from it ten seconds ago, unless told otherwise."""
    heard = replication or Replication(link_up=False, last_io_seconds=10, offset=100)
    west = [replace(vote(v, WEST_SITE, Verdict.UP), replication=heard) for v in ("dc-west", "witness")]
    east = [vote(v, EAST_SITE, Verdict.DOWN) for v in ("dc-west", "witness")]
    return latest([*east, *west, *(vote("dc-east", site, Verdict.DOWN) for site in (EAST_SITE, WEST_SITE))])


def view_of(votes: Mapping[tuple[SiteId, Vantage], Observation]) -> InstanceView:
    """The instance with these votes: dc-east holds the traffic, and is DOWN for 10 s where a quorum says so; dc-west is UP."""
    tallies = tally(votes, [EAST_SITE, WEST_SITE], NOON, MAX_AGE)
    up = [each for each in votes.values() if each.site == WEST_SITE and each.verdict is Verdict.UP]
    return InstanceView(
        instance=ORDERS,
        promotes=True,
        values={EAST: BEFORE.value, WEST: AFTER.value},
        health={
            EAST: SiteHealth(Health.DOWN, NOON - seconds(7), NOON - seconds(10))
            if tallies[EAST_SITE].says_down(POLICY.quorum)
            else SiteHealth(Health.UNKNOWN, NOON - seconds(7)),
            WEST: SiteHealth(Health.UP, NOON - seconds(60)),
        },
        tallies={site.datacenter: counted for site, counted in tallies.items()},
        freshest={WEST: up[0]} if up else {},
        record=BEFORE,
        ttl=30,
        paused=None,
        in_flight=None,
        last_ended_at=None,
        now=NOON,
    )
