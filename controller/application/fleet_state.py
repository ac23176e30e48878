"""The fleet's state: what the votes make of every site, its record, its failovers, and what pauses it."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge

from controller.application.records import Records
from controller.application.switch import Switch
from controller.core.failover import Failover
from controller.core.health import Health, SiteHealth, step
from controller.core.policy import InstanceView, freshest_up
from controller.core.vote_book import FirstDown, VoteBook
from controller.edges.journal import JournalLog
from controller.settings import Instance, Settings
from redis_agent.clock import wall
from redis_agent.findings import OpenFindings
from redis_agent.instants import Instant
from redis_agent.model import (
    Anomaly,
    AnomalyState,
    Datacenter,
    FailoverId,
    InstanceId,
    Role,
    SiteId,
    Stage,
    Verdict,
    VoteSeen,
)

logger = logging.getLogger(__name__)


class FleetState:
    """One owner: the service's loop counts; everybody else looks. `refusals`: why traffic stays, while a site is down."""

    def __init__(
        self, settings: Settings, journal: JournalLog, records: Records, switch: Switch, registry: CollectorRegistry
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.records = records
        self.switch = switch
        self.votes = VoteBook(settings.vote_max_age)
        self.findings = OpenFindings()
        self.anomalies: dict[SiteId, Anomaly] = {}
        self.refusals: dict[InstanceId, tuple[str, ...]] = {}
        self._health: dict[SiteId, SiteHealth] = {}
        self._suspects: set[SiteId] = set()
        self._began_at = wall()
        self._changed_at: dict[SiteId, datetime] = {}
        self._down = Gauge("redis_agent_site_down", "1 while a quorum says DOWN", ["site"], registry=registry)

    # --- what is heard

    def note_anomaly(self, anomaly: Anomaly) -> None:
        """The newest of a site's; one that is closed is forgotten."""
        if anomaly.state is AnomalyState.CLOSED:
            self.anomalies.pop(anomaly.site, None)
        else:
            self.anomalies[anomaly.site] = anomaly

    def count(self, now: Instant) -> set[InstanceId]:
        """Count the votes where they changed, or where time alone may decide; the instances that this concerns."""
        concerned: set[InstanceId] = set()
        for site in self.votes.changed(now) | self._suspects:
            instance = self.settings.instances.get(site.instance)
            if instance is not None and site.datacenter in instance.values:
                self._count(site, instance, now)
                concerned.add(site.instance)
        return concerned

    def _count(self, site: SiteId, instance: Instance, now: Instant) -> None:
        policy = instance.policy
        before = self._health.get(site) or SiteHealth(Health.UNKNOWN, now)
        after = step(before, self.votes.tally(site, now), policy.quorum, policy.confirm, now)
        if after.health is not before.health:
            logger.info("%s: %s -> %s", site, before.health.value, after.health.value)
            self._changed_at[site] = wall()
        if after.health is Health.SUSPECT:
            self._suspects.add(site)
        else:
            self._suspects.discard(site)
        if after.health is not before.health or site not in self._health:
            self._down.labels(str(site)).set(after.health in (Health.SUSPECT, Health.DOWN))
        self._health[site] = after

    # --- what is looked up

    def health(self, site: SiteId) -> SiteHealth | None:
        """What the votes make of a site; None for one that isn't configured, or before the first count."""
        return self._health.get(site)

    def changed_at(self, site: SiteId) -> datetime:
        """Since when a site's health is as it is, for people."""
        return self._changed_at.get(site, self._began_at)

    def health_of_source(self, failover: Failover) -> Health:
        """What the votes make of the site that a failover leaves."""
        found = self.health(SiteId(failover.plan.instance, failover.plan.source))
        return Health.UNKNOWN if found is None else found.health

    def votes_seen(self, instance: Instance, now: Instant) -> tuple[VoteSeen, ...]:
        """Every vote on every site of the instance, as counted."""
        return tuple(vote for site in _sites(instance) for vote in self.votes.tally(site, now).votes)

    def first_down(self, site: SiteId, now: Instant) -> list[FirstDown]:
        """When each vantage that counts as saying DOWN began to, earliest first: one that is cut off is no witness."""
        return self.votes.first_down(site, self.votes.tally(site, now).down_vantages())

    def serves_as_primary(self, site: SiteId, now: Instant) -> bool:
        """Whether a vote that counts says that the site is up and a primary."""
        up = {vote.vantage for vote in self.votes.tally(site, now).votes if vote.counted is Verdict.UP}
        voted = (vote.observation for vote in self.votes.votes(site))
        return any(seen.vantage in up and seen.role is Role.PRIMARY for seen in voted)

    def is_at_rest(self, instance: Instance) -> bool:
        """Nothing about it is to be done, and nothing will be before something changes."""
        if any(self._health.get(site, _UNKNOWN).health is not Health.UP for site in _sites(instance)):
            return False
        if instance.dns is not None and self.records.of(instance.id) is None:
            return False
        journal = self.journal.journal
        begun = journal.last_begun(instance.id)
        if journal.open(instance.id) is not None or instance.id in journal.blocked:
            return False
        return begun is None or not (begun.owes_unfencing or self._is_back(begun))

    def _is_back(self, failover: Failover) -> bool:
        site = SiteId(failover.plan.instance, failover.plan.source)
        return any(v.observation.role is Role.PRIMARY for v in self.votes.votes(site))

    def view(self, instance: Instance, now: Instant, apart_from: FailoverId | None = None) -> InstanceView:
        """The instance as it stands; `apart_from` is a failover that doesn't count as being in the way."""
        sites = {site.datacenter: site for site in _sites(instance)}
        opened = self.journal.journal.open(instance.id)
        unknown = SiteHealth(Health.UNKNOWN, now)
        newest = {dc: freshest_up(self.votes.votes(s), now, self.settings.vote_max_age) for dc, s in sites.items()}
        return InstanceView(
            instance=instance.id,
            promotes=instance.promotes,
            values=instance.values,
            health={dc: self._health.get(site, unknown) for dc, site in sites.items()},
            tallies={dc: self.votes.tally(site, now) for dc, site in sites.items()},
            freshest={dc: vote for dc, vote in newest.items() if vote is not None},
            record=self.records.of(instance.id),
            ttl=instance.dns.ttl if instance.dns else 0,
            paused=self.switch.reason(instance.id),
            in_flight=None if opened is None or opened.id == apart_from else opened.id,
            last_ended=self.journal.journal.last_moved(instance.id),
            now=now,
            heard={dc: self.votes.heard[site] for dc, site in sites.items() if site in self.votes.heard},
            half_moved_to=self._half_moved_to(instance),
        )

    def _half_moved_to(self, instance: Instance) -> Datacenter | None:
        last = self.journal.journal.last_begun(instance.id)
        return last.plan.target if last is not None and last.stage in (Stage.ABORTED, Stage.FAILED) else None


_UNKNOWN = SiteHealth(Health.UNKNOWN, Instant(timedelta()))


def _sites(instance: Instance) -> Iterable[SiteId]:
    return (SiteId(instance.id, dc) for dc in instance.values)
