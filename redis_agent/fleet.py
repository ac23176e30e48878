"""The configuration of a fleet: one file, one schema, read once at the start and frozen.

Every service reads the same file and takes its part. Durations are in seconds and say so in their names. A secret `x` may
stand in the file (`x`), in a file of its own (`x_file`) or in the environment (`x_env`), once; it is read by `reveal`
when a service needs it and never printed. Relative paths start at the working directory.
"""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from redis_agent.fleet_types import Fqdn, Name, Port, RedisUrl, Seconds, Section
from redis_agent.model import Datacenter, InstanceId, Mode, SiteId, Vantage

STATE = Path(".redis-agent")
SERVICES = ("collector", "detector", "controller", "notifier", "gateway")


class EmbeddedLogSection(Section):
    path: Path = STATE / "log.db"


class KafkaSecurity(Section):
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: str | None = None

    def properties(self) -> dict[str, str]:
        """In librdkafka's names."""
        named = {
            "security.protocol": self.protocol,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.cert_file,
            "ssl.key.location": self.key_file,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.reveal("password"),
        }
        return {key: str(value) for key, value in named.items() if value is not None}


class KafkaLogSection(Section):
    bootstrap_servers: Annotated[str, Field(min_length=3, examples=["b1:9092,b2:9092"])]
    security: KafkaSecurity = KafkaSecurity()
    replication_factor: Annotated[int, Field(ge=1, le=9)] = 1
    group_protocol: Literal["classic", "consumer"] = "classic"


class LogSection(Section):
    """Exactly one of the two."""

    embedded: EmbeddedLogSection | None = None
    kafka: KafkaLogSection | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.embedded is None) == (self.kafka is None):
            raise ValueError("give exactly one of embedded and kafka")
        return self


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


class CollectorSection(Section):
    vantage: Name
    interval_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    timeout_seconds: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    heartbeat_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0


class DetectorSection(Section):
    model_dir: Path = STATE / "models"
    vantage: Name | None = Field(
        default=None, description="score only what this vantage saw; none: each site's nearest"
    )
    retrain_after_seconds: Annotated[float, Field(ge=0)] = 900.0


class SlackReceiver(Section):
    webhook_url: SecretStr | None = None
    webhook_url_file: Path | None = None
    webhook_url_env: str | None = None


class PagerDutyReceiver(Section):
    routing_key: SecretStr | None = None
    routing_key_file: Path | None = None
    routing_key_env: str | None = None
    url: str = "https://events.pagerduty.com/v2/enqueue"


class EmailReceiver(Section):
    host: str
    port: Port = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: str
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: str | None = None


class ReceiverSection(Section):
    """Exactly one of slack, pagerduty, email."""

    name: Name
    min_severity: Literal["info", "warning", "error", "critical"] = "info"
    slack: SlackReceiver | None = None
    pagerduty: PagerDutyReceiver | None = None
    email: EmailReceiver | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(kind is not None for kind in (self.slack, self.pagerduty, self.email)) != 1:
            raise ValueError("give exactly one of slack, pagerduty and email")
        return self


class AlertingSection(Section):
    receivers: tuple[ReceiverSection, ...] = ()
    group_wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    give_up_seconds: Seconds = 3600.0


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

    @property
    def vantage(self) -> Vantage:
        """Where this file's collector looks from."""
        return Vantage(self.collector.vantage)
