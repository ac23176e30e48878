"""Problems as HTTP responses."""

from fastapi.responses import JSONResponse

from gateway.core.problem import Problem

PROBLEM_JSON = "application/problem+json"


def said(fault: Problem) -> JSONResponse:
    """A problem as a response."""
    return JSONResponse(fault.document(), fault.status, dict(fault.headers()), PROBLEM_JSON)
