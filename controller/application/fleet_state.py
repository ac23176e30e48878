"""How every instance stands: what the votes make of its sites, its record, its failovers."""

import logging
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge

from controller.application.records import Records
from controller.core.failover import Failover
from controller.core.health import Health, SiteHealth, step
from controller.core.policy import InstanceView, freshest_up
from controller.core.votes import Tally, tally
from controller.edges.ballots import Ballots, FirstDown
from controller.edges.journal import JournalLog
from controller.settings import Instance, Settings
from redis_agent import pause
from redis_agent.model import Datacenter, FailoverId, InstanceId, Observation, Role, SiteId, Stage, Verdict, VoteSeen

logger = logging.getLogger(__name__)


class FleetState:
    """One owner: the service's loop counts; everybody else looks. `refusals`: why traffic stays, while a site is down."""

    def __init__(self, settings: Settings, journal: JournalLog, records: Records, registry: CollectorRegistry) -> None:
        self.settings = settings
        self.journal = journal
        self.records = records
        self.ballots = Ballots()
        self.refusals: dict[InstanceId, tuple[str, ...]] = {}
        self._tallies: dict[SiteId, Tally] = {}
        self._health: dict[SiteId, SiteHealth] = {}
        self._down = Gauge("redis_agent_site_down", "1 while a quorum says DOWN", ["site"], registry=registry)

    def count(self, now: datetime) -> None:
        """Count the votes on every site."""
        sites = [SiteId(instance.id, dc) for instance in self.settings.instances.values() for dc in instance.values]
        self._tallies = tally(self.ballots.latest, sites, now, self.settings.vote_max_age)
        for site, votes in self._tallies.items():
            policy = self.settings.instances[site.instance].policy
            before = self._health.get(site, SiteHealth(Health.UNKNOWN, now))
            after = step(before, votes, policy.quorum, policy.confirm, now)
            if after.health is not before.health:
                logger.info("%s: %s -> %s", site, before.health.value, after.health.value)
            self._health[site] = after
            self._down.labels(str(site)).set(after.health in (Health.SUSPECT, Health.DOWN))

    def health(self, site: SiteId) -> SiteHealth | None:
        """What the votes make of a site; None for one that isn't configured, or before the first count."""
        return self._health.get(site)

    def health_of_source(self, failover: Failover) -> Health:
        """What the votes make of the site that a failover leaves."""
        found = self.health(SiteId(failover.plan.instance, failover.plan.source))
        return Health.UNKNOWN if found is None else found.health

    def votes(self, instance: Instance) -> tuple[VoteSeen, ...]:
        """Every vote on every site of the instance, as counted."""
        return tuple(vote for dc in instance.values for vote in self._tally(SiteId(instance.id, dc)).votes)

    def first_down(self, site: SiteId) -> list[FirstDown]:
        """When each vantage that counts as saying DOWN began to, earliest first: one that is cut off is no witness."""
        return self.ballots.first_down(site, self._tally(site).down_vantages())

    def serves_as_primary(self, site: SiteId) -> bool:
        """Whether a vote that counts says that the site is up and a primary."""
        return any(seen.role is Role.PRIMARY for seen in self._up(site))

    def view(self, instance: Instance, now: datetime, apart_from: FailoverId | None = None) -> InstanceView:
        """The instance as it stands; `apart_from` is a failover that doesn't count as being in the way."""
        sites = {dc: SiteId(instance.id, dc) for dc in instance.values}
        opened = self.journal.journal.open(instance.id)
        unknown = SiteHealth(Health.UNKNOWN, now)
        return InstanceView(
            instance=instance.id,
            promotes=instance.promotes,
            values=instance.values,
            health={dc: self._health.get(site, unknown) for dc, site in sites.items()},
            tallies={dc: self._tally(site) for dc, site in sites.items()},
            freshest=freshest_up({site: self._up(site) for site in sites.values()}),
            record=self.records.of(instance.id),
            ttl=instance.dns.ttl if instance.dns else 0,
            paused=pause.reason(self.settings.pause_dir, instance.id),
            in_flight=None if opened is None or opened.id == apart_from else opened.id,
            last_ended_at=self.journal.journal.last_moved_at(instance.id),
            now=now,
            heard={dc: self.ballots.heard[site] for dc, site in sites.items() if site in self.ballots.heard},
            half_moved_to=self._half_moved_to(instance),
        )

    def _half_moved_to(self, instance: Instance) -> Datacenter | None:
        last = self.journal.journal.last_begun(instance.id)
        return last.plan.target if last is not None and last.stage in (Stage.ABORTED, Stage.FAILED) else None

    def _tally(self, site: SiteId) -> Tally:
        return self._tallies.get(site, Tally(site, ()))

    def _up(self, site: SiteId) -> list[Observation]:
        up = [vote.vantage for vote in self._tally(site).votes if vote.counted is Verdict.UP]
        return [self.ballots.latest[(site, vantage)] for vantage in up]
