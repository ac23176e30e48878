"""The configuration of who is told, and how."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from redis_agent.fleet_types import Name, Port, Seconds, Section


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
