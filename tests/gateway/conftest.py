"""The services behind the gateway as small gRPC servers that do as their protos say, and the gateway as a process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from redis_agent import model as m
from redis_agent.errors import AgentError, NotFound, Refused
from redis_agent.rpc.channel import abort
from redis_agent.testing_process import ServiceProcess
from redis_agent.v1 import (
    alert_service_pb2,
    alert_service_pb2_grpc,
    anomaly_pb2,
    detector_service_pb2,
    detector_service_pb2_grpc,
    failover_pb2,
    failover_service_pb2,
    failover_service_pb2_grpc,
    observation_pb2,
)
from redis_agent.wire import (
    alert_event_to,
    alert_to,
    anomaly_to,
    enum_to,
    failover_event_to,
    instant_to,
    plan_to,
    vote_to,
)
from simulator.ports import free_ports

HOST = "127.0.0.1"
KEY = "the-key-of-these-tests-0123456789"
NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
Context = grpc.aio.ServicerContext[Any, Any]
ORDERS = m.InstanceId("orders")
EAST = m.SiteId(ORDERS, m.Datacenter("dc-east"))
HEALTH = {
    "up": failover_service_pb2.SITE_HEALTH_UP,
    "down": failover_service_pb2.SITE_HEALTH_DOWN,
    "suspect": failover_service_pb2.SITE_HEALTH_SUSPECT,
    "unknown": failover_service_pb2.SITE_HEALTH_UNKNOWN,
}


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def vote(datacenter: str, vantage: str, verdict: m.Verdict, counted: m.Verdict | None = None) -> failover_pb2.VoteSeen:
    up = verdict is m.Verdict.UP
    return vote_to(
        m.VoteSeen(
            site=m.SiteId(ORDERS, m.Datacenter(datacenter)),
            vantage=m.Vantage(vantage),
            verdict=verdict,
            counted=counted or verdict,
            reason=m.Reason.ANSWERED if up else m.Reason.TIMEOUT,
            age=timedelta(seconds=0.4),
            why="PONG in 0.3 ms" if up else "no answer from 10.0.0.1:12000 within 0.50 s",
        )
    )


def site(datacenter: str, health: str, *, active: bool = False) -> failover_service_pb2.SiteStatus:
    verdict = m.Verdict.UP if health == "up" else m.Verdict.DOWN
    return failover_service_pb2.SiteStatus(
        datacenter=datacenter,
        health=HEALTH[health],
        since=instant_to(NOON),
        active=active,
        role=observation_pb2.ROLE_PRIMARY if active else observation_pb2.ROLE_REPLICA,
        votes=[vote(datacenter, vantage, verdict) for vantage in ("dc-east", "dc-west", "witness")],
    )


BEFORE = m.Record("orders.example.test.", "CNAME", "east.example.test.", 30, 1)
PLAN = m.Plan(
    instance=ORDERS,
    source=EAST.datacenter,
    target=m.Datacenter("dc-west"),
    kind=m.Kind.EMERGENCY,
    before=BEFORE,
    after=BEFORE,
    promote=True,
    checks=("2 of 3 vantages say down", "dc-west is up"),
    expected_loss="less than 1 s of writes",
)
STEPS = ("suspected", "confirmed", "decided", "fenced", "promoted", "accepted", "authoritative", "verified")


def failover(steps: int, stage: m.Stage = m.Stage.REDIRECTING) -> failover_service_pb2.Failover:
    """A failover that has come so many steps far."""
    kinds = (m.EventKind.DECIDED, m.EventKind.INTENT, m.EventKind.OUTCOME)
    events = [
        m.FailoverEvent(
            m.FailoverId("fo-1"), ORDERS, kind, stage, after(4 + number), f"step {number}", m.Origin("test", number)
        )
        for number, kind in enumerate(kinds)
    ]
    return failover_service_pb2.Failover(
        id="fo-1",
        instance="orders",
        stage=enum_to(failover_pb2.Stage, stage),
        plan=plan_to(PLAN),
        reason="dc-east is down: 3 of 3 vantages say so, for 3.2 s",
        actor="controller",
        decided_at=instant_to(after(4)),
        ended_at=instant_to(after(9)) if stage.ended else None,
        phases=[failover_pb2.Phase(name=name, seconds=n * 0.7) for n, name in enumerate(STEPS[:steps])],
        events=[failover_event_to(event) for event in events],
    )


def instance(**changes: Any) -> failover_service_pb2.InstanceStatus:
    status = failover_service_pb2.InstanceStatus(
        instance="orders",
        record="orders.example.test.",
        active_datacenter="dc-east",
        mode="auto",
        sites=[site("dc-east", "up", active=True), site("dc-west", "up")],
    )
    status.MergeFrom(failover_service_pb2.InstanceStatus(**changes))
    return status


def anomaly(anomaly_id: str = "a-1", state: m.AnomalyState = m.AnomalyState.OPENED) -> anomaly_pb2.Anomaly:
    return anomaly_to(
        m.Anomaly(
            id=m.AnomalyId(anomaly_id),
            site=EAST,
            state=state,
            opened_at=NOON,
            at=after(30),
            score=4.0,
            peak_score=5.0,
            threshold=2.0,
            severity=m.Severity.WARNING,
            contributions=(),
            explanation="PING takes 40 ms, usually 0.3 ms; commands per second are as usual",
            model="base",
            origin=m.Origin("detector@test", 1),
        )
    )


def alert(
    number: int, kind: m.AlertKind = m.AlertKind.ANOMALY, severity: m.Severity = m.Severity.WARNING
) -> alert_service_pb2.AlertHistory:
    told = m.Alert(
        id=m.AlertId(f"anomaly/a-{number}"),
        group="orders",
        kind=kind,
        state=m.AlertState.FIRING,
        severity=severity,
        instance=ORDERS,
        route_key=kind.value,
        title=f"orders/dc-east does not behave normally ({number})",
        detail="PING takes 40 ms, usually 0.3 ms",
        opened_at=after(number),
        at=after(number),
    )
    done = m.AlertEvent(
        m.AlertEventKind.DELIVERED, "orders", after(number), m.Origin("notifier@test", 1), attempt=1, detail="200 ok"
    )
    return alert_service_pb2.AlertHistory(alert=alert_to(told), deliveries=[alert_event_to(done)])


def series(metric: str, *values: float) -> detector_service_pb2.Series:
    return detector_service_pb2.Series(
        datacenter="dc-east",
        vantage="witness",
        metric=metric,
        unit="By",
        at=[instant_to(after(number)) for number in range(len(values))],
        value=values,
    )


@dataclass
class Behind:
    """What the services behind know, refuse and were asked; a test changes it while they run."""

    instances: dict[str, failover_service_pb2.InstanceStatus] = field(default_factory=lambda: {"orders": instance()})
    failovers: list[failover_service_pb2.Failover] = field(default_factory=lambda: [failover(8, m.Stage.DONE)])
    refusals: list[str] = field(default_factory=list)
    anomalies: list[anomaly_pb2.Anomaly] = field(default_factory=lambda: [anomaly()])
    alerts: list[alert_service_pb2.AlertHistory] = field(default_factory=lambda: [alert(n) for n in range(5, 0, -1)])
    series: list[detector_service_pb2.Series] = field(default_factory=lambda: [series("memory_used_bytes", 1, 2.5)])
    executed: list[failover_service_pb2.ExecuteFailoverRequest] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    fault: tuple[grpc.StatusCode, str] | None = None
    stalled: set[str] = field(default_factory=set)

    async def meet(self, service: str, context: Context, request: Any) -> None:
        """Note the question; stall or fail if told to."""
        self.asked.append(request)
        if service in self.stalled:
            await asyncio.sleep(60)
        if self.fault is not None:
            await context.abort(*self.fault)


class Controller(failover_service_pb2_grpc.FailoverServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    async def GetFleetStatus(
        self, request: failover_service_pb2.GetFleetStatusRequest, context: Context
    ) -> failover_service_pb2.GetFleetStatusResponse:
        await self._behind.meet("controller", context, request)
        return failover_service_pb2.GetFleetStatusResponse(instances=self._behind.instances.values())

    async def GetInstanceStatus(
        self, request: failover_service_pb2.GetInstanceStatusRequest, context: Context
    ) -> failover_service_pb2.GetInstanceStatusResponse:
        await self._behind.meet("controller", context, request)
        await self._known(request.instance, context)
        return failover_service_pb2.GetInstanceStatusResponse(status=self._behind.instances[request.instance])

    async def PlanFailover(
        self, request: failover_service_pb2.PlanFailoverRequest, context: Context
    ) -> failover_service_pb2.PlanFailoverResponse:
        await self._behind.meet("controller", context, request)
        await self._known(request.instance, context, request.target)
        if self._behind.refusals:
            return failover_service_pb2.PlanFailoverResponse(refusals=self._behind.refusals)
        return failover_service_pb2.PlanFailoverResponse(plan=plan_to(PLAN))

    async def ExecuteFailover(
        self, request: failover_service_pb2.ExecuteFailoverRequest, context: Context
    ) -> failover_service_pb2.ExecuteFailoverResponse:
        await self._behind.meet("controller", context, request)
        await self._known(request.instance, context, request.target)
        if self._behind.refusals:
            await abort(context, Refused(self._behind.refusals))
        same = [r for r in self._behind.executed if r.request_id and r.request_id == request.request_id]
        if not same:
            self._behind.executed.append(request)
        begun = failover(3)
        begun.id = f"fo-{self._behind.executed.index(same[0] if same else request) + 1}"
        return failover_service_pb2.ExecuteFailoverResponse(failover=begun)

    async def GetFailover(
        self, request: failover_service_pb2.GetFailoverRequest, context: Context
    ) -> failover_service_pb2.GetFailoverResponse:
        await self._behind.meet("controller", context, request)
        known = next((one for one in self._behind.failovers if one.id == request.id), None)
        if known is None:
            await abort(context, NotFound(f"no failover {request.id!r}"))
        return failover_service_pb2.GetFailoverResponse(failover=known)

    async def ListFailovers(
        self, request: failover_service_pb2.ListFailoversRequest, context: Context
    ) -> failover_service_pb2.ListFailoversResponse:
        await self._behind.meet("controller", context, request)
        return failover_service_pb2.ListFailoversResponse(failovers=self._behind.failovers)

    async def _known(self, instance_id: str, context: Context, target: str = "dc-west") -> None:
        fault: AgentError | None = None
        if instance_id not in self._behind.instances:
            fault = NotFound(f"no instance {instance_id!r} in this fleet")
        elif target not in ("dc-east", "dc-west"):
            fault = NotFound(f"{instance_id} has no site in {target!r}")
        if fault is not None:
            await abort(context, fault)


class Detector(detector_service_pb2_grpc.DetectorServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    async def ListAnomalies(
        self, request: detector_service_pb2.ListAnomaliesRequest, context: Context
    ) -> detector_service_pb2.ListAnomaliesResponse:
        await self._behind.meet("detector", context, request)
        wanted = [
            found
            for found in self._behind.anomalies
            if request.instance in ("", found.site.instance)
            and not (request.open_only and found.state == anomaly_pb2.ANOMALY_STATE_CLOSED)
        ]
        return detector_service_pb2.ListAnomaliesResponse(anomalies=wanted)


class Metrics(detector_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    async def QueryMetrics(
        self, request: detector_service_pb2.QueryMetricsRequest, context: Context
    ) -> detector_service_pb2.QueryMetricsResponse:
        await self._behind.meet("detector", context, request)
        if request.instance not in self._behind.instances:
            await abort(context, NotFound(f"no samples of {request.instance}"))
        wanted = [s for s in self._behind.series if not request.metrics or s.metric in request.metrics]
        return detector_service_pb2.QueryMetricsResponse(series=wanted)


class Notifier(alert_service_pb2_grpc.AlertServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    async def ListAlerts(
        self, request: alert_service_pb2.ListAlertsRequest, context: Context
    ) -> alert_service_pb2.ListAlertsResponse:
        await self._behind.meet("notifier", context, request)
        found = [
            history
            for history in self._behind.alerts
            if request.severity in (0, history.alert.severity) and request.kind in (0, history.alert.kind)
        ]
        start = int(request.page_token or 0)
        stop = start + (request.page_size or 100)
        token = str(stop) if stop < len(found) else ""
        return alert_service_pb2.ListAlertsResponse(alerts=found[start:stop], next_page_token=token)


class Services:
    """The three servers behind, each on its port. `stop` and `start` take one away and bring it back."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind
        self.ports = dict(zip(("controller", "detector", "notifier"), free_ports(3), strict=True))
        self._servers: dict[str, grpc.aio.Server] = {}

    async def start(self, name: str) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        if name == "controller":
            controller = Controller(self.behind)  # type: ignore[abstract]  # the others are UNIMPLEMENTED
            failover_service_pb2_grpc.add_FailoverServiceServicer_to_server(controller, server)
        elif name == "detector":
            detector = Detector(self.behind)  # type: ignore[abstract]
            detector_service_pb2_grpc.add_DetectorServiceServicer_to_server(detector, server)
            detector_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(self.behind), server)
        else:
            alert_service_pb2_grpc.add_AlertServiceServicer_to_server(Notifier(self.behind), server)
        server.add_insecure_port(f"{HOST}:{self.ports[name]}")
        await server.start()
        self._servers[name] = server

    async def stop(self, name: str) -> None:
        await self._servers.pop(name).stop(None)

    async def stop_all(self) -> None:
        for name in list(self._servers):
            await self.stop(name)


@dataclass
class Gateway:
    """A gateway that runs, and what is behind it."""

    url: str
    services: Services
    process: ServiceProcess

    @property
    def behind(self) -> Behind:
        return self.services.behind


Running = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """`python -m gateway` before the three services."""
    begun: list[ServiceProcess] = []

    @asynccontextmanager
    async def run(**api: Any) -> AsyncIterator[Gateway]:
        services = Services(Behind())
        for name in services.ports:
            await services.start(name)
        (port,) = free_ports(1)
        process = ServiceProcess("gateway", _fleet(port, services.ports, api or {"api_key": KEY}), tmp_path)
        begun.append(process)
        try:
            await process.start()
            yield Gateway(f"http://{HOST}:{port}", services, process)
        finally:
            process.kill()
            await services.stop_all()

    yield run
    for process in begun:
        process.kill()


def _fleet(port: int, grpc_ports: dict[str, int], api: dict[str, Any]) -> dict[str, Any]:
    return {
        "log": {"embedded": {"path": "log.db"}},
        "datacenters": [{"name": "dc-east"}],
        "instances": [
            {
                "id": "orders",
                "sites": [{"datacenter": "dc-east", "url": "redis://127.0.0.1:1", "dns_value": "east.example.test."}],
            }
        ],
        "collector": {"vantage": "witness"},
        "api": {"enabled": True, "port": port, **api},
        "grpc": {"ports": grpc_ports},
    }
