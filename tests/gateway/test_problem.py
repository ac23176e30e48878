"""Our errors in HTTP's terms."""

import pytest

from gateway.core import problem
from gateway.core.problem import NO_KEY, Problem
from redis_agent.errors import (
    AgentError,
    LogUnavailable,
    Malformed,
    NotFound,
    Permanent,
    Refused,
    Unreachable,
)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (NotFound("no instance 'carts'"), 404),
        (Refused(["paused", "cooling down"]), 409),
        (Malformed("page_token: 'x'"), 400),
        (Unreachable("the controller does not answer"), 503),
        (LogUnavailable("the log is away"), 503),
        (Permanent("UNAUTHENTICATED: no or wrong api-key"), 502),
    ],
)
def test_each_kind_of_error_has_its_status(fault: AgentError, status: int) -> None:
    told = problem.of(fault)
    assert told.status == status
    assert told.document()["status"] == status
    assert told.detail


def test_a_refusal_carries_every_reason() -> None:
    told = problem.of(Refused(["paused", "cooling down"])).document()
    assert told["reasons"] == ["paused", "cooling down"]
    assert told["detail"] == "paused; cooling down"


def test_a_document_has_the_fields_of_rfc_9457() -> None:
    told = Problem(404, "Not found", "no instance 'carts'").document()
    assert told == {"type": "about:blank", "title": "Not found", "status": 404, "detail": "no instance 'carts'"}


def test_who_may_come_again_is_told_when_and_who_has_no_key_how() -> None:
    assert problem.of(Unreachable("x")).headers() == {"Retry-After": "2"}
    assert NO_KEY.headers() == {"WWW-Authenticate": "Bearer"}
    assert problem.of(NotFound("x")).headers() == {}
