"""Errors as RFC 9457 problem documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis_agent.errors import AgentError, Malformed, NotFound, Permanent, Refused, Unreachable

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
        match self.status:
            case 503:
                return {"Retry-After": str(RETRY_AFTER_SECONDS)}
            case 401:
                return {"WWW-Authenticate": "Bearer"}
            case _:
                return {}


NO_KEY = Problem(401, "No or wrong key", "send the API key in the header api-key, X-API-Key or Authorization: Bearer")
OUR_FAULT = Problem(500, "An error of ours", "this request met an error that is not its own; the log has more")


def of(fault: AgentError) -> Problem:
    """Our errors in HTTP's terms. A service that is away is 503, never an empty 200."""
    match fault:
        case NotFound():
            return Problem(404, "Not found", str(fault))
        case Refused():
            return Problem(409, "Refused by policy", "; ".join(fault.reasons), fault.reasons)
        case Malformed():
            return Problem(400, "Bad request", str(fault))
        case Unreachable():
            return Problem(503, "A service behind this one is not reachable", str(fault))
        case Permanent():
            return Problem(502, "A service behind this one failed", str(fault))
        case _:
            return Problem(503, "Try again", str(fault))
