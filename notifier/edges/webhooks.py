"""HTTP posts to receivers: one attempt, and what its answer means for another.

2xx is delivered; 429 and 5xx and no answer are worth another try (a `Retry-After` is obeyed); any other answer is final.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx

from notifier.core.outbox import Attempt, Fate

TIMEOUT_SECONDS = 5.0
_SHOWN = 200


async def post(client: httpx.AsyncClient, url: str, payload: Mapping[str, Any]) -> Attempt:
    """Post JSON once. The URL may be a secret: it is never part of the result."""
    try:
        answer = await client.post(url, json=payload)
    except httpx.HTTPError as fault:
        return Attempt(Fate.RETRY, f"no answer: {type(fault).__name__}")
    told = f"{answer.status_code} {answer.text[:_SHOWN]}".strip()
    if answer.is_success:
        return Attempt(Fate.DELIVERED, told)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        return Attempt(Fate.RETRY, told, _retry_after(answer.headers.get("retry-after")))
    return Attempt(Fate.REJECTED, told)


def _retry_after(value: str | None) -> timedelta | None:
    if value is None or not value.strip().isdigit():
        return None
    return timedelta(seconds=int(value))
