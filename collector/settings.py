"""What the collector takes of the fleet's file."""

import ssl
from dataclasses import dataclass

from collector.edges.resp import Endpoint
from redis_agent.fleet import Fleet, SiteSection
from redis_agent.model import Datacenter, InstanceId, SiteId, Vantage


@dataclass(frozen=True, slots=True)
class Settings:
    """Where this collector looks from, at what, and how often."""

    vantage: Vantage
    interval_seconds: float
    timeout_seconds: float
    heartbeat_seconds: float
    targets: dict[SiteId, Endpoint]


def read(fleet: Fleet) -> Settings:
    """The collector's part. Raises ConfigurationError for a secret that can't be read."""
    section = fleet.collector
    targets = {
        SiteId(InstanceId(instance.id), Datacenter(site.datacenter)): _endpoint(site)
        for instance in fleet.instances
        for site in instance.sites
    }
    return Settings(
        fleet.vantage, section.interval_seconds, section.timeout_seconds, section.heartbeat_seconds, targets
    )


def _endpoint(site: SiteSection) -> Endpoint:
    tls = ssl.create_default_context(cafile=str(site.ca_file) if site.ca_file else None) if site.tls else None
    return Endpoint(site.host, site.port, tls, site.username, site.reveal("password"))
