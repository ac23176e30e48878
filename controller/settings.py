"""What the controller takes of the fleet's file."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from controller.core.policy import Policy
from controller.edges.access import Access
from redis_agent.fleet import DnsName, FailoverSection, Fleet, InstanceSection, Route53Section, SiteSection
from redis_agent.model import Datacenter, InstanceId


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as the controller sees it."""

    id: InstanceId
    promotes: bool
    dns: DnsName | None
    preferred: Datacenter | None
    values: Mapping[Datacenter, str]
    access: Mapping[Datacenter, Access]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Settings:
    """The instances, the zones, and where the pause switch is."""

    instances: Mapping[InstanceId, Instance]
    zones: Mapping[str, Route53Section]
    pause_dir: Path
    vote_max_age: timedelta


def read(fleet: Fleet) -> Settings:
    """The controller's part. Raises ConfigurationError for a secret that can't be read."""
    return Settings(
        {InstanceId(i.id): _instance(fleet, i) for i in fleet.instances},
        {name: provider.route53 for name, provider in fleet.dns.items()},
        fleet.failover.pause_dir,
        timedelta(seconds=fleet.failover.vote_max_age_seconds),
    )


def _instance(fleet: Fleet, section: InstanceSection) -> Instance:
    return Instance(
        id=InstanceId(section.id),
        promotes=section.kind == "plain",
        dns=section.dns,
        preferred=Datacenter(section.preferred) if section.preferred else None,
        values={Datacenter(site.datacenter): site.dns_value for site in section.sites},
        access={Datacenter(site.datacenter): _access(site) for site in section.sites},
        policy=_policy(fleet.policy(section)),
    )


def _access(site: SiteSection) -> Access:
    ca_file = str(site.ca_file) if site.ca_file else None
    return Access(site.host, site.port, site.tls, ca_file, site.username, site.reveal("password"))


def _policy(section: FailoverSection) -> Policy:
    return Policy(
        mode=section.mode,
        quorum=section.quorum,
        confirm=timedelta(seconds=section.confirm_seconds),
        cooldown=timedelta(seconds=section.cooldown_seconds),
        vote_max_age=timedelta(seconds=section.vote_max_age_seconds),
        max_data_loss=timedelta(seconds=section.max_data_loss_seconds),
        fence=timedelta(seconds=section.fence_seconds),
        step=timedelta(seconds=section.step_seconds),
    )
