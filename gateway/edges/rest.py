"""The REST routes: requests -> the services behind -> JSON. Keys are `authentication`'s business."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from gateway.core import problem
from gateway.core.problem import OUR_FAULT, Problem
from gateway.edges import export
from gateway.edges.answers import PROBLEM_JSON, said
from gateway.edges.backends import Backends
from redis_agent.errors import AgentError, NotFound, Refused, Unreachable
from redis_agent.rpc.plain import plain
from redis_agent.v1 import alert_pb2, failover_pb2, types_pb2
from redis_agent.v1.alert_service_pb2 import ListAlertsRequest
from redis_agent.v1.failover_service_pb2 import ExecuteFailoverRequest, PlanFailoverRequest

Severity = Literal["info", "warning", "error", "critical"]
AlertType = Literal["anomaly", "failover", "blocked", "finding"]


_REASON_AT_MOST = 1000
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reasons": {"type": "array", "items": {"type": "string"}},
    },
}
_TOLD: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {PROBLEM_JSON: {"schema": _PROBLEM_SCHEMA}}}
    for status, title in (
        (401, "No or wrong key"),
        (404, "Not found"),
        (409, "Refused by policy, with every reason"),
        (422, "The request isn't right, with every fault"),
        (502, "A service behind this one failed"),
        (503, "A service behind this one is not reachable; see Retry-After"),
    )
}


_KINDS = {
    True: failover_pb2.FAILOVER_KIND_PLANNED,
    False: failover_pb2.FAILOVER_KIND_EMERGENCY,
    None: failover_pb2.FAILOVER_KIND_UNSPECIFIED,
}


class FailoverOrder(BaseModel):
    """An order to move an instance's traffic. Without `planned` it is planned while the source is up."""

    model_config = ConfigDict(extra="forbid")
    target_dc: Annotated[str, Field(min_length=1, max_length=63)]
    reason: Annotated[str, Field(max_length=_REASON_AT_MOST)] = "ordered through the API"
    planned: bool | None = None
    dry_run: bool = False


def build(backends: Backends, registry: CollectorRegistry) -> FastAPI:
    """The app with every route but the page's."""
    app = FastAPI(title="redis-agent", docs_url=None, redoc_url=None)
    # Said for the OpenAPI document; who asks without the key doesn't come this far.
    key = Security(APIKeyHeader(name="api-key", auto_error=False))
    api = APIRouter(prefix="/api", dependencies=[key], responses=_TOLD)
    _status(api, backends)
    _failovers(api, backends)
    _history(api, backends)
    _nothing_else(app, api)
    app.include_router(api)
    _probes(app, backends, registry)
    _errors(app)
    return app


def _status(api: APIRouter, backends: Backends) -> None:
    @api.get("/status")
    async def status() -> Any:
        """Health of all instances."""
        return plain(await backends.fleet())

    @api.get("/status/{instance_id}")
    async def instance_status(instance_id: str) -> Any:
        """One instance in detail. `anomalies` is null, not empty, while the detector doesn't answer."""
        found = plain(await backends.instance(instance_id))
        try:
            anomalies = plain(await backends.anomalies(instance_id, open_only=True))["anomalies"]
        except Unreachable:
            anomalies = None
        return {**found, "anomalies": anomalies}


def _failovers(api: APIRouter, backends: Backends) -> None:
    @api.post("/failover/{instance_id}", status_code=202)
    async def failover(
        instance_id: str,
        order: FailoverOrder,
        response: Response,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Any:
        """Move an instance's traffic. `dry_run` gives the plan and changes nothing."""
        kind = _KINDS[order.planned]
        if order.dry_run:
            asked = PlanFailoverRequest(instance=instance_id, target=order.target_dc, kind=kind)
            planned = await backends.plan(asked)
            if planned.refusals:
                raise Refused(list(planned.refusals))
            response.status_code = 200
            return {"status": "success", "message": "This would be done; nothing was", "plan": plain(planned.plan)}
        begun = await backends.execute(
            ExecuteFailoverRequest(
                instance=instance_id,
                target=order.target_dc,
                kind=kind,
                reason=order.reason,
                actor="api",
                request_id=idempotency_key or "",
            )
        )
        location = f"/api/failovers/{begun.id}"
        response.headers["Location"] = location
        message = f"Failover initiated to {order.target_dc}"
        return {"status": "success", "message": message, "failover": begun.id, "location": location}

    @api.get("/failover/{instance_id}")
    async def journal(instance_id: str) -> Any:
        """The instance's failovers and decisions, newest first."""
        await backends.instance(instance_id)
        return plain(await backends.failovers(instance_id))

    @api.get("/failovers/{failover_id}")
    async def one(failover_id: str) -> Any:
        """One failover with its journal."""
        return plain(await backends.failover(failover_id))


def _history(api: APIRouter, backends: Backends) -> None:
    @api.get("/alerts")
    async def alerts(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        severity: Severity | None = None,
        alert_type: AlertType | None = None,
        cursor: str = "",
    ) -> Any:
        """Newest first. `next_cursor` of one answer is `cursor` of the next request."""
        request = ListAlertsRequest(page_size=limit, page_token=cursor)
        if severity is not None:
            request.severity = types_pb2.Severity.Value(f"SEVERITY_{severity.upper()}")
        if alert_type is not None:
            request.kind = alert_pb2.AlertKind.Value(f"ALERT_KIND_{alert_type.upper()}")
        found = await backends.alerts(request)
        entries = [{**plain(h.alert), "deliveries": [plain(d) for d in h.deliveries]} for h in found.alerts]
        return {"alerts": entries, "next_cursor": found.next_page_token or None}

    @api.get("/anomalies")
    async def anomalies(instance: str = "", *, open_only: Annotated[bool, Query(alias="open")] = False) -> Any:
        """Newest first."""
        return plain(await backends.anomalies(instance, open_only=open_only))

    @api.get("/metrics/{instance_id}")
    async def metrics(
        instance_id: str,
        hours: Annotated[float, Query(gt=0, le=24, allow_inf_nan=False)] = 1.0,
        metric: Annotated[list[str] | None, Query()] = None,
        site: str = "",
        step: Annotated[int, Query(ge=0, le=86_400)] = 0,
        shape: Annotated[Literal["json", "csv", "arrow"], Query(alias="format")] = "json",
    ) -> Any:
        """History of samples; `step` in seconds gives the mean of each such span."""
        found = await backends.metrics(instance_id, site, timedelta(hours=hours), metric or [], step)
        if not found.series:
            raise NotFound(f"no samples of {instance_id} in the last {hours:g} h that were asked for")
        # On a thread: a day of everything takes seconds to write out.
        if shape == "csv":
            return Response(await asyncio.to_thread(export.csv_of, found), media_type=export.CSV)
        if shape == "arrow":
            return Response(await asyncio.to_thread(export.arrow_of, found), media_type=export.ARROW)
        return JSONResponse({"instance_id": instance_id, **await asyncio.to_thread(plain, found)})


def _nothing_else(app: FastAPI, api: APIRouter) -> None:
    # Without it, what is not here would be the page's to answer, in HTML.
    @app.api_route("/api", methods=_METHODS, include_in_schema=False)
    @api.api_route("/{path:path}", methods=_METHODS, include_in_schema=False)
    async def nothing(request: Request) -> None:
        others = [route for route in api.routes if route.matches(request.scope)[0] is Match.PARTIAL]
        raise HTTPException(405 if others else 404, "Method not allowed" if others else "Not found")


def _probes(app: FastAPI, backends: Backends, registry: CollectorRegistry) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> dict[str, str]:
        await backends.fleet()
        return {"status": "ok"}

    @app.get("/metrics", include_in_schema=False)
    async def own_metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(AgentError)
    async def ours(_request: Request, fault: AgentError) -> JSONResponse:
        return said(problem.of(fault))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, fault: RequestValidationError) -> JSONResponse:
        faults = tuple(f"{_field(error['loc'])}: {error['msg']}" for error in fault.errors())
        return said(Problem(422, "The request isn't right", "; ".join(faults), faults))

    @app.exception_handler(HTTPException)
    async def plain_http(request: Request, fault: HTTPException) -> JSONResponse:
        detail = f"{request.method} {request.url.path}: {fault.detail}"
        return said(Problem(fault.status_code, str(fault.detail), detail))

    @app.exception_handler(Exception)
    async def our_fault(_request: Request, _fault: Exception) -> JSONResponse:
        return said(OUR_FAULT)  # uvicorn logs it


def _field(at: tuple[int | str, ...]) -> str:
    """`target_dc` for ("body", "target_dc"); the part itself where it is wrong as a whole, or isn't JSON."""
    where, *path = at
    return str(where) if not path or isinstance(path[0], int) else ".".join(map(str, path))
