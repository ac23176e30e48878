"""The services behind: one method a question, a deadline on each, errors as ours."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import grpc

from redis_agent.errors import Unreachable
from redis_agent.fleet import GrpcSection
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer, channel, metadata
from redis_agent.v1 import alert_service_pb2 as alerts
from redis_agent.v1 import alert_service_pb2_grpc, detector_service_pb2_grpc, failover_service_pb2_grpc
from redis_agent.v1 import detector_service_pb2 as detector
from redis_agent.v1 import failover_service_pb2 as failovers
from redis_agent.wire import instant_to

R = TypeVar("R")


class Backends:
    """Channels to controller, detector and notifier."""

    def __init__(self, section: GrpcSection) -> None:
        self._channels: list[grpc.aio.Channel] = [
            channel(section, name) for name in ("controller", "detector", "notifier")
        ]
        controller, detecting, notifier = self._channels
        self._key = metadata(section)
        self._failovers: failover_service_pb2_grpc.FailoverServiceAsyncStub = (
            failover_service_pb2_grpc.FailoverServiceStub(controller)
        )
        self._detector: detector_service_pb2_grpc.DetectorServiceAsyncStub = (
            detector_service_pb2_grpc.DetectorServiceStub(detecting)
        )
        self._metrics: detector_service_pb2_grpc.MetricsServiceAsyncStub = detector_service_pb2_grpc.MetricsServiceStub(
            detecting
        )
        self._alerts: alert_service_pb2_grpc.AlertServiceAsyncStub = alert_service_pb2_grpc.AlertServiceStub(notifier)

    async def fleet(self) -> failovers.GetFleetStatusResponse:
        """Every instance."""
        return await self._ask("controller", self._failovers.GetFleetStatus, failovers.GetFleetStatusRequest())

    async def instance(self, instance: str) -> failovers.InstanceStatus:
        """One instance. Raises NotFound."""
        request = failovers.GetInstanceStatusRequest(instance=instance)
        return (await self._ask("controller", self._failovers.GetInstanceStatus, request)).status

    async def plan(self, request: failovers.PlanFailoverRequest) -> failovers.PlanFailoverResponse:
        """What a failover would do."""
        return await self._ask("controller", self._failovers.PlanFailover, request)

    async def execute(self, request: failovers.ExecuteFailoverRequest) -> failovers.Failover:
        """Begin a failover. Raises NotFound, Refused."""
        return (await self._ask("controller", self._failovers.ExecuteFailover, request)).failover

    async def failover(self, failover_id: str) -> failovers.Failover:
        """One failover. Raises NotFound."""
        request = failovers.GetFailoverRequest(id=failover_id)
        return (await self._ask("controller", self._failovers.GetFailover, request)).failover

    async def failovers(self, instance: str) -> failovers.ListFailoversResponse:
        """Newest first."""
        request = failovers.ListFailoversRequest(instance=instance)
        return await self._ask("controller", self._failovers.ListFailovers, request)

    async def anomalies(self, instance: str, *, open_only: bool) -> detector.ListAnomaliesResponse:
        """Newest first."""
        request = detector.ListAnomaliesRequest(instance=instance, open_only=open_only)
        return await self._ask("detector", self._detector.ListAnomalies, request)

    async def metrics(
        self, instance: str, site: str, span: timedelta, wanted: list[str], step_seconds: int
    ) -> detector.QueryMetricsResponse:
        """History up to now. Raises NotFound."""
        now = datetime.now(UTC)
        request = detector.QueryMetricsRequest(
            instance=instance,
            datacenter=site,
            since=instant_to(now - span),
            until=instant_to(now),
            metrics=wanted,
            step_seconds=step_seconds,
        )
        return await self._ask("detector", self._metrics.QueryMetrics, request, 4 * DEADLINE_SECONDS)

    async def alerts(self, request: alerts.ListAlertsRequest) -> alerts.ListAlertsResponse:
        """Newest first, a page."""
        return await self._ask("notifier", self._alerts.ListAlerts, request)

    async def _ask(
        self, service: str, method: Callable[..., Awaitable[R]], request: object, seconds: float = DEADLINE_SECONDS
    ) -> R:
        try:
            return await answer(method(request, timeout=seconds, metadata=self._key))
        except Unreachable as fault:
            raise Unreachable(f"the {service} does not answer: {fault}") from fault

    async def close(self) -> None:
        """Close the channels."""
        for opened in self._channels:
            await opened.close()
