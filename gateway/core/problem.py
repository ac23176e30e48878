"""Errors as RFC 9457 problem documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis_agent.errors import AgentError, NotFound, Permanent, Refused, Unreachable

RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with a request."""

    status: int
    title: str
    detail: str
    reasons: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As application/problem+json."""
        said = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return {**said, "reasons": list(self.reasons)} if self.reasons else said

    def headers(self) -> Mapping[str, str]:
        """What goes beside it."""
        return {"Retry-After": str(RETRY_AFTER_SECONDS)} if self.status == 503 else {}


def of(fault: AgentError) -> Problem:
    """Our errors in HTTP's terms. A service that is away is 503, never an empty 200."""
    match fault:
        case NotFound():
            return Problem(404, "Not found", str(fault))
        case Refused():
            return Problem(409, "Refused by policy", "; ".join(fault.reasons), fault.reasons)
        case Unreachable():
            return Problem(503, "A service behind this one is not reachable", str(fault))
        case Permanent():
            return Problem(400, "Bad request", str(fault))
        case _:
            return Problem(503, "Try again", str(fault))
