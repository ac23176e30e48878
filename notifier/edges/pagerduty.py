"""PagerDuty by Events API v2: one incident an alert, its `dedup_key` the alert's id, so a repeat is never a second page."""

from typing import Any

import httpx

from notifier.core.message import PAGERDUTY_SUMMARY, cut
from notifier.core.outbox import Attempt, Fate
from notifier.edges.webhooks import post
from redis_agent.model import Alert, AlertState, Notification

_DEDUP_KEY = 255


class PagerDuty:
    """One integration."""

    def __init__(self, client: httpx.AsyncClient, url: str, routing_key: str) -> None:
        self._client = client
        self._url = url
        self._routing_key = routing_key

    async def send(self, notification: Notification) -> Attempt:
        """One attempt: every alert of the notification in order; the first that isn't taken ends it."""
        attempt = Attempt(Fate.DELIVERED, "nothing to send")
        for alert in notification.alerts:
            attempt = await post(self._client, self._url, self._event(alert))
            if attempt.fate is not Fate.DELIVERED:
                return attempt
        return attempt

    def _event(self, alert: Alert) -> dict[str, Any]:
        event = {
            "routing_key": self._routing_key,
            "event_action": "trigger" if alert.state is AlertState.FIRING else "resolve",
            "dedup_key": alert.id[:_DEDUP_KEY],
        }
        payload = {
            "summary": cut(alert.title, PAGERDUTY_SUMMARY),
            "source": alert.instance,
            "severity": alert.severity.value,
            "timestamp": alert.at.isoformat(),
            "group": alert.group,
            "class": alert.kind.value,
            "custom_details": {"detail": alert.detail},
        }
        return {**event, "payload": payload}
