"""The configuration of a fleet: one file, one schema, read once at the start and frozen.

Every service reads the same file and takes its part. Durations are in seconds and say so in their names. A secret `x` may
stand in the file (`x`), in a file of its own (`x_file`) or in the environment (`x_env`), once; it is read by `reveal`
when a service needs it and never printed. Relative paths start at the working directory.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from redis_agent.fleet_alerting import AlertingSection
from redis_agent.fleet_log import EmbeddedLogSection, LogSection
from redis_agent.fleet_types import STATE, Fqdn, Name, Port, RedisUrl, Seconds, Section
from redis_agent.model import Datacenter, InstanceId, Mode, SiteId, Vantage

SMALL_FLEET_SITES = 200
_SAMPLES_HOME, _SAMPLES_OTHER = 15.0, 60.0
SERVICES = ("collector", "detector", "controller", "notifier", "gateway")


class DatacenterSection(Section):
    name: Name


class Route53Section(Section):
    hosted_zone_id: Annotated[
        str, Field(pattern=r"^(/hostedzone/)?Z[A-Z0-9]+$", description="an id like Z0123456789ABCDEFGHIJ")
    ]
    endpoint_url: str | None = None
    region: str = "us-east-1"
    nameservers: tuple[str, ...] = Field(
        default=(), description="host:port to ask instead of the zone's own delegation set"
    )
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    secret_access_key_file: Path | None = None
    secret_access_key_env: str | None = None


class DnsProvider(Section):
    route53: Route53Section


class DnsName(Section):
    provider: str
    record: Fqdn
    type: Literal["CNAME", "A"] = "CNAME"
    ttl: Annotated[int, Field(ge=1, le=3600)] = 30


class SiteSection(Section):
    datacenter: str
    url: RedisUrl
    dns_value: str = Field(default="", description="what the instance's name says when traffic goes here")
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: str | None = None
    ca_file: Path | None = None

    @property
    def host(self) -> str:
        """Host of the endpoint."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the endpoint."""
        return urlsplit(self.url).port or 0

    @property
    def tls(self) -> bool:
        """Whether the endpoint speaks TLS."""
        return self.url.startswith("rediss://")


class FailoverSection(Section):
    """What the controller may do, and how sure it must be. An instance may override any of it."""

    mode: Mode = Mode.OBSERVE
    quorum: Annotated[int, Field(ge=1, le=15)] = 2
    confirm_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    cooldown_seconds: Annotated[float, Field(ge=0, le=86_400 * 7)] = 3600.0
    vote_max_age_seconds: Seconds = 5.0
    fence_seconds: Seconds = 0.5
    step_seconds: Annotated[
        float, Field(gt=0, le=3600, description="how long a step may take before it is given up")
    ] = 60.0
    max_data_loss_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    pause_dir: Path = STATE / "pause"


class FailoverOverride(Section):
    mode: Mode | None = None
    quorum: Annotated[int, Field(ge=1, le=15)] | None = None
    confirm_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    cooldown_seconds: Annotated[float, Field(ge=0, le=86_400 * 7)] | None = None
    max_data_loss_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None


class InstanceSection(Section):
    id: Name
    kind: Literal["plain", "active-active"] = "plain"
    dns: DnsName | None = Field(default=None, description="none: watched, never moved")
    preferred: str | None = None
    sites: Annotated[tuple[SiteSection, ...], Field(min_length=1)]
    failover: FailoverOverride = FailoverOverride()

    def site(self, datacenter: str) -> SiteSection | None:
        """The site in that datacenter."""
        return next((site for site in self.sites if site.datacenter == datacenter), None)

    def site_ids(self) -> list[SiteId]:
        """The ids of its sites, in the file's order."""
        return [SiteId(InstanceId(self.id), Datacenter(site.datacenter)) for site in self.sites]


class SamplesSection(Section):
    """How often INFO is asked, by the vantage in a site's own datacentre and by the others; between, PING alone is.

    Without them, at every interval in a fleet of up to 200 sites, and every 15 and 60 s in a larger one.
    """

    home: Annotated[float, Field(ge=0.05, le=3600)] | None = None
    other: Annotated[float, Field(ge=0.05, le=3600)] | None = None


class CollectorSection(Section):
    vantage: Name
    interval_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    timeout_seconds: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    samples_seconds: SamplesSection = SamplesSection()


class DetectorSection(Section):
    model_dir: Path = STATE / "models"
    vantage: Name | None = Field(
        default=None, description="score only what this vantage saw; none: each site's nearest"
    )
    retrain_after_seconds: Annotated[float, Field(ge=0)] = 900.0


class ApiSection(Section):
    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    api_key_env: str | None = None


class GrpcTls(Section):
    """With `client_ca_file` a client must prove itself by a certificate (mTLS); ours show the service's own."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    ca_file: Path | None = Field(
        default=None, description="who signed the services' certificates; none: as client_ca_file, else cert_file"
    )


class GrpcSection(Section):
    """Where each service listens, and where the others find it (`addresses`; by default host and port here)."""

    host: str = "127.0.0.1"
    ports: dict[Literal["collector", "detector", "controller", "notifier"], Port] = Field(default_factory=dict)
    addresses: dict[Literal["collector", "detector", "controller", "notifier"], str] = Field(default_factory=dict)
    tls: GrpcTls | None = None
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    api_key_env: str | None = None

    def port(self, service: str) -> int:
        """The port that the service listens on."""
        chosen: dict[str, int] = {str(name): port for name, port in self.ports.items()}
        return chosen.get(service, _GRPC_PORTS[service])

    def address(self, service: str) -> str:
        """Where a client reaches the service."""
        known: dict[str, str] = {str(name): address for name, address in self.addresses.items()}
        return known.get(service) or self.listens_on(self.port(service))

    def listens_on(self, port: int) -> str:
        """Our host with that port, as gRPC writes it."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


_GRPC_PORTS: dict[str, int] = {"collector": 50051, "detector": 50052, "controller": 50053, "notifier": 50054}


class TelemetrySection(Section):
    otlp_endpoint: Annotated[
        str | None, Field(pattern=r"^https?://[^/@]+/?$", description="an address like http://otel-collector:4317")
    ] = None
    prometheus_port: Annotated[
        int | None, Field(ge=1, le=65500, description="the collector's; the others take the next ports in order")
    ] = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def metrics_port(self, service: str) -> int | None:
        """The port of the service's `/metrics`, or None."""
        return None if self.prometheus_port is None else self.prometheus_port + SERVICES.index(service)


class Fleet(Section):
    """The whole file."""

    log: LogSection = LogSection(embedded=EmbeddedLogSection())
    datacenters: Annotated[tuple[DatacenterSection, ...], Field(min_length=1)]
    dns: dict[str, DnsProvider] = Field(default_factory=dict)
    instances: Annotated[tuple[InstanceSection, ...], Field(min_length=1)]
    collector: CollectorSection
    detector: DetectorSection = DetectorSection()
    failover: FailoverSection = FailoverSection()
    alerting: AlertingSection = AlertingSection()
    api: ApiSection = ApiSection()
    grpc: GrpcSection = GrpcSection()
    telemetry: TelemetrySection = TelemetrySection()

    def instance(self, instance_id: str) -> InstanceSection | None:
        """The instance of that id."""
        return next((instance for instance in self.instances if instance.id == instance_id), None)

    def policy(self, instance: InstanceSection) -> FailoverSection:
        """The failover section as it holds for that instance."""
        return self.failover.model_copy(update=instance.failover.model_dump(exclude_none=True))

    def samples_seconds(self, *, home: bool) -> float:
        """How often INFO is asked by the vantage in a site's own datacentre (`home`), or by the others."""
        section, interval = self.collector.samples_seconds, self.collector.interval_seconds
        small = sum(len(instance.sites) for instance in self.instances) <= SMALL_FLEET_SITES
        chosen = section.home if home else section.other
        return max(interval, chosen or (interval if small else _SAMPLES_HOME if home else _SAMPLES_OTHER))

    @property
    def vantage(self) -> Vantage:
        """Where this file's collector looks from."""
        return Vantage(self.collector.vantage)
