"""The configuration of the log: a file on one machine, or Kafka."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from redis_agent.fleet_types import STATE, Section
from redis_agent.topics import ALERTS, ANOMALIES, FAILOVERS, METRICS, OBSERVATIONS, Topic


class RetentionSection(Section):
    """How long the embedded log keeps what grows, by the log's own time."""

    metrics_hours: Annotated[float, Field(gt=0, le=24 * 400)] = 24.0
    observations_hours: Annotated[float, Field(gt=0, le=24 * 400)] = 1.0
    anomalies_days: Annotated[float, Field(ge=1, le=3660)] = 30.0
    failovers_days: Annotated[float, Field(ge=1, le=3660)] = 400.0
    alerts_days: Annotated[float, Field(ge=1, le=3660)] = 400.0

    def of(self, topics: Sequence[Topic]) -> tuple[Topic, ...]:
        """The topics with these times; the others as they are."""
        kept = {
            METRICS.name: timedelta(hours=self.metrics_hours),
            OBSERVATIONS.name: timedelta(hours=self.observations_hours),
            ANOMALIES.name: timedelta(days=self.anomalies_days),
            FAILOVERS.name: timedelta(days=self.failovers_days),
            ALERTS.name: timedelta(days=self.alerts_days),
        }
        return tuple(replace(topic, kept=kept.get(topic.name, topic.kept)) for topic in topics)


class EmbeddedLogSection(Section):
    path: Path = STATE / "log.db"
    partitions: Annotated[
        int | None, Field(ge=1, le=256, description="of what is keyed by instance; chosen when the log is made")
    ] = None
    max_bytes: Annotated[
        int | None, Field(ge=16 * 1024 * 1024, description="samples and votes are kept for shorter beyond this size")
    ] = None
    retention: RetentionSection = RetentionSection()


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
    partitions: Annotated[
        int | None, Field(ge=1, le=1000, description="of what is keyed by instance; chosen when the log is made")
    ] = None
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
