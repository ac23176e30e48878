"""HTTP posts to receivers: one attempt, and what its answer means for another.

2xx is delivered; 429 and 5xx and no answer are worth another try (a `Retry-After` is obeyed); any other answer is final.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from notifier.core.outbox import Attempt, Fate

TIMEOUT_SECONDS = 5.0
_SHOWN = 200
_SECONDS = re.compile(r"\s*[0-9]{1,9}\s*")
_WAIT_AT_MOST = timedelta(days=1)


async def post(client: httpx.AsyncClient, url: str, payload: Mapping[str, Any]) -> Attempt:
    """Post JSON once. The URL may be a secret: it is never part of the result."""
    try:
        answer = await client.post(url, json=payload)
    except httpx.HTTPError as fault:
        return Attempt(Fate.RETRY, f"no answer: {type(fault).__name__}")
    except httpx.InvalidURL:
        return Attempt(Fate.REJECTED, "the configured URL is not one")
    told = f"{answer.status_code} {answer.text[:_SHOWN]}".strip()
    if answer.is_success:
        return Attempt(Fate.DELIVERED, told)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        return Attempt(Fate.RETRY, told, _retry_after(answer.headers.get("retry-after"), answer.headers.get("date")))
    return Attempt(Fate.REJECTED, told)


def _retry_after(value: str | None, date: str | None) -> timedelta | None:
    """Seconds or a date (RFC 9110); what is neither, or lies beyond a day, is our own back-off's business.

    A date is taken against the receiver's own clock (its `Date` header), where it tells it.
    """
    if value is None:
        return None
    try:
        wait = (
            timedelta(seconds=int(value)) if _SECONDS.fullmatch(value) else _until(parsedate_to_datetime(value), date)
        )
    except (ValueError, OverflowError):
        return None
    return wait if timedelta() <= wait <= _WAIT_AT_MOST else None


def _until(at: datetime, date: str | None) -> timedelta:
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return at.replace(tzinfo=at.tzinfo or UTC) - now.replace(tzinfo=now.tzinfo or UTC)
