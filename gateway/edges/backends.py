"""The services behind: one method a question, a deadline on each, errors as ours."""

from datetime import UTC, datetime, timedelta

import grpc

from redis_agent.fleet import GrpcSection
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer, channel, metadata
from redis_agent.v1 import alert_service_pb2 as alerts
from redis_agent.v1 import alert_service_pb2_grpc, detector_service_pb2_grpc, failover_service_pb2_grpc
from redis_agent.v1 import detector_service_pb2 as detector
from redis_agent.v1 import failover_service_pb2 as failovers
from redis_agent.wire import instant_to


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
        request = failovers.GetFleetStatusRequest()
        return await answer(self._failovers.GetFleetStatus(request, timeout=DEADLINE_SECONDS, metadata=self._key))

    async def instance(self, instance: str) -> failovers.InstanceStatus:
        """One instance. Raises NotFound."""
        request = failovers.GetInstanceStatusRequest(instance=instance)
        call = self._failovers.GetInstanceStatus(request, timeout=DEADLINE_SECONDS, metadata=self._key)
        return (await answer(call)).status

    async def plan(self, request: failovers.PlanFailoverRequest) -> failovers.PlanFailoverResponse:
        """What a failover would do."""
        return await answer(self._failovers.PlanFailover(request, timeout=DEADLINE_SECONDS, metadata=self._key))

    async def execute(self, request: failovers.ExecuteFailoverRequest) -> failovers.Failover:
        """Begin a failover. Raises NotFound, Refused."""
        call = self._failovers.ExecuteFailover(request, timeout=DEADLINE_SECONDS, metadata=self._key)
        return (await answer(call)).failover

    async def failover(self, failover_id: str) -> failovers.Failover:
        """One failover. Raises NotFound."""
        request = failovers.GetFailoverRequest(id=failover_id)
        call = self._failovers.GetFailover(request, timeout=DEADLINE_SECONDS, metadata=self._key)
        return (await answer(call)).failover

    async def failovers(self, instance: str) -> failovers.ListFailoversResponse:
        """Newest first."""
        request = failovers.ListFailoversRequest(instance=instance)
        return await answer(self._failovers.ListFailovers(request, timeout=DEADLINE_SECONDS, metadata=self._key))

    async def anomalies(self, instance: str, *, open_only: bool) -> detector.ListAnomaliesResponse:
        """Newest first."""
        request = detector.ListAnomaliesRequest(instance=instance, open_only=open_only)
        return await answer(self._detector.ListAnomalies(request, timeout=DEADLINE_SECONDS, metadata=self._key))

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
        return await answer(self._metrics.QueryMetrics(request, timeout=4 * DEADLINE_SECONDS, metadata=self._key))

    async def alerts(self, request: alerts.ListAlertsRequest) -> alerts.ListAlertsResponse:
        """Newest first, a page."""
        return await answer(self._alerts.ListAlerts(request, timeout=DEADLINE_SECONDS, metadata=self._key))

    async def close(self) -> None:
        """Close the channels."""
        for opened in self._channels:
            await opened.close()
