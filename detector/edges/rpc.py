"""DetectorService and MetricsService: requests -> the service's state and the log's history -> replies."""

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import grpc

from detector.core.features import NAMES
from detector.edges.history import Question, Series
from detector.edges.store import Card
from redis_agent.errors import AgentError
from redis_agent.model import Anomaly
from redis_agent.rpc.channel import abort
from redis_agent.v1 import detector_service_pb2 as pb
from redis_agent.v1 import detector_service_pb2_grpc as pb_grpc
from redis_agent.wire import anomaly_to, instant_from

NAMES_SERVED = ("redis_agent.v1.DetectorService", "redis_agent.v1.MetricsService")
Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 100
_PAGE_AT_MOST = 1000
_ONE_HOUR = timedelta(hours=1)


class Detection(Protocol):
    """What the servicers need of the service."""

    def listed(self, instance: str, *, open_only: bool) -> list[Anomaly]:
        """The anomalies known, newest first. Raises Unreachable before they are."""

    @property
    def card(self) -> Card:
        """The model in use. Raises Unreachable before one is."""

    async def history(self, question: Question) -> list[Series]:
        """Samples of the past. Raises Refused, NotFound, Unreachable, LogUnavailable."""


class DetectorServicer(pb_grpc.DetectorServiceServicer):
    """What isn't normal, and which model says so."""

    def __init__(self, detection: Detection) -> None:
        self._detection = detection

    async def ListAnomalies(self, request: pb.ListAnomaliesRequest, context: Context) -> pb.ListAnomaliesResponse:
        """Newest first."""
        try:
            found = self._detection.listed(request.instance, open_only=request.open_only)
        except AgentError as fault:
            await abort(context, fault)
        page = found[: min(request.page_size or _PAGE, _PAGE_AT_MOST)]
        return pb.ListAnomaliesResponse(anomalies=[anomaly_to(anomaly) for anomaly in page])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """The model in use."""
        try:
            card = self._detection.card
        except AgentError as fault:
            await abort(context, fault)
        return pb.GetModelResponse(
            version=card.version, origin=card.origin, trained_windows=card.windows_trained, features=NAMES
        )


class MetricsServicer(pb_grpc.MetricsServiceServicer):
    """History of samples, read back from the log."""

    def __init__(self, detection: Detection) -> None:
        self._detection = detection

    async def QueryMetrics(self, request: pb.QueryMetricsRequest, context: Context) -> pb.QueryMetricsResponse:
        """Several vantages give several series. Without `since` the last hour, without `until` up to now."""
        try:
            found = await self._detection.history(_question(request, datetime.now(UTC)))
        except AgentError as fault:
            await abort(context, fault)
        reply = pb.QueryMetricsResponse()
        for series in found:
            _add(reply, series)
        return reply


def _question(request: pb.QueryMetricsRequest, now: datetime) -> Question:
    until = instant_from(request.until) if request.HasField("until") else now
    since = instant_from(request.since) if request.HasField("since") else until - _ONE_HOUR
    return Question(
        request.instance, request.datacenter, since, until, tuple(request.metrics), int(request.step_seconds)
    )


def _add(reply: pb.QueryMetricsResponse, series: Series) -> None:
    added = reply.series.add(
        datacenter=series.datacenter,
        vantage=series.vantage,
        metric=series.metric,
        unit=series.unit,
        value=series.value,
    )
    for at in series.at:
        added.at.add(seconds=at // 1_000_000, nanos=at % 1_000_000 * 1000)
