"""What the collector takes of the fleet's file."""

import ssl
from dataclasses import dataclass
from datetime import timedelta

from collector.edges.resp import Endpoint
from redis_agent.fleet import Fleet, SiteSection
from redis_agent.model import Datacenter, InstanceId, SiteId, Vantage


@dataclass(frozen=True, slots=True)
class Target:
    """Where a site answers, and how often it is asked for INFO besides PING."""

    endpoint: Endpoint
    info_every: timedelta


@dataclass(frozen=True, slots=True)
class Settings:
    """Where this collector looks from, at what, and how often."""

    vantage: Vantage
    interval_seconds: float
    timeout_seconds: float
    targets: dict[SiteId, Target]


def read(fleet: Fleet) -> Settings:
    """The collector's part. Raises ConfigurationError for a secret that can't be read."""
    section = fleet.collector
    targets = {
        SiteId(InstanceId(instance.id), Datacenter(site.datacenter)): _target(fleet, site)
        for instance in fleet.instances
        for site in instance.sites
    }
    return Settings(fleet.vantage, section.interval_seconds, section.timeout_seconds, targets)


def _target(fleet: Fleet, site: SiteSection) -> Target:
    seconds = fleet.samples_seconds(home=str(fleet.vantage) == site.datacenter)
    return Target(_endpoint(site), timedelta(seconds=seconds))


def _endpoint(site: SiteSection) -> Endpoint:
    tls = ssl.create_default_context(cafile=str(site.ca_file) if site.ca_file else None) if site.tls else None
    return Endpoint(site.host, site.port, tls, site.username, site.reveal("password"))
