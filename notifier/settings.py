"""What the notifier takes of the fleet's file."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import httpx

from notifier.core.grouping import Receiver
from notifier.core.outbox import Attempt
from notifier.edges.mail import Mail, MailServer
from notifier.edges.pagerduty import PagerDuty
from notifier.edges.slack import Slack
from notifier.edges.webhooks import TIMEOUT_SECONDS
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet
from redis_agent.fleet_alerting import EmailReceiver, ReceiverSection
from redis_agent.model import Notification, Severity


class Channel(Protocol):
    """A way to tell somebody: one attempt, and what came of it. Never raises for what the receiver does."""

    async def send(self, notification: Notification) -> Attempt:
        """One attempt."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Who is told how, and how long things wait."""

    receivers: tuple[Receiver, ...]
    channels: dict[str, Channel]
    group_wait: timedelta
    give_up: timedelta
    instances: frozenset[str]
    client: httpx.AsyncClient


def read(fleet: Fleet) -> Settings:
    """The notifier's part. Raises ConfigurationError for a secret that can't be read."""
    client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)
    alerting = fleet.alerting
    return Settings(
        receivers=tuple(Receiver(r.name, Severity(r.min_severity)) for r in alerting.receivers),
        channels={r.name: _channel(client, r) for r in alerting.receivers},
        group_wait=timedelta(seconds=alerting.group_wait_seconds),
        give_up=timedelta(seconds=alerting.give_up_seconds),
        instances=frozenset(instance.id for instance in fleet.instances),
        client=client,
    )


def _channel(client: httpx.AsyncClient, section: ReceiverSection) -> Channel:
    if section.slack is not None:
        return Slack(client, section.slack.reveal("webhook_url") or "")
    if section.pagerduty is not None:
        return PagerDuty(client, section.pagerduty.url, section.pagerduty.reveal("routing_key") or "")
    if section.email is not None:
        return _mail(section.email)
    raise ConfigurationError([f"alerting.receivers: {section.name} has no way to tell anybody"])


def _mail(section: EmailReceiver) -> Mail:
    server = MailServer(section.host, section.port, section.tls, section.username, section.reveal("password"))
    return Mail(server, section.sender, section.to)
