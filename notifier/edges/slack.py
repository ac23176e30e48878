"""Slack by incoming webhook: one message a notification, with a plain-text fallback."""

import httpx

from notifier.core.message import slack_fallback, slack_sections
from notifier.core.outbox import Attempt
from notifier.edges.webhooks import post
from redis_agent.model import Notification


class Slack:
    """One channel."""

    def __init__(self, client: httpx.AsyncClient, webhook_url: str) -> None:
        self._client = client
        self._url = webhook_url

    async def send(self, notification: Notification) -> Attempt:
        """One attempt."""
        sections = [
            {"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in slack_sections(notification)
        ]
        return await post(self._client, self._url, {"text": slack_fallback(notification), "blocks": sections})
