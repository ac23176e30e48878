"""PagerDuty by Events API v2: one incident an alert, its `dedup_key` the alert's id, so a repeat is never a second page."""

from typing import Any

import httpx

from notifier.core.message import PAGERDUTY_DETAIL, PAGERDUTY_SUMMARY, cut
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
        self._taken: dict[str, int] = {}

    async def send(self, notification: Notification) -> Attempt:
        """One attempt: every alert of the notification in order, up to one that isn't taken now.

        The next attempt goes on from there: to trigger an alert anew that was resolved meanwhile would page again.
        """
        attempt = Attempt(Fate.DELIVERED, "nothing to send")
        rejected: Attempt | None = None
        begin = self._taken.pop(notification.id, 0)
        for number, alert in enumerate(notification.alerts[begin:], begin):
            attempt = await post(self._client, self._url, self._event(alert))
            if attempt.fate is Fate.RETRY:
                self._taken[notification.id] = number
                return attempt
            if attempt.fate is Fate.REJECTED:
                rejected = rejected or attempt
        return rejected or attempt

    def _event(self, alert: Alert) -> dict[str, Any]:
        event = {
            "routing_key": self._routing_key,
            "event_action": "trigger" if alert.state is AlertState.FIRING else "resolve",
            "dedup_key": alert.id[:_DEDUP_KEY],
        }
        payload = {
            "summary": cut(alert.title, PAGERDUTY_SUMMARY),
            "source": alert.instance or alert.group,
            "severity": alert.severity.value,
            "timestamp": alert.at.isoformat(),
            "group": alert.group,
            "class": alert.route_key,
            "custom_details": {"detail": cut(alert.detail, PAGERDUTY_DETAIL)},
        }
        return {**event, "payload": payload}
