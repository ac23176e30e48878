"""AlertService: the alert log as people ask for it, newest first."""

from collections import deque
from typing import Any, Protocol

import grpc

from redis_agent.errors import AgentError, Malformed
from redis_agent.model import Alert, AlertEvent, AlertEventKind, AlertId, AlertKind, Severity
from redis_agent.rpc.channel import abort
from redis_agent.v1 import alert_pb2, types_pb2
from redis_agent.v1 import alert_service_pb2 as pb
from redis_agent.v1 import alert_service_pb2_grpc as pb_grpc
from redis_agent.wire import alert_event_to, alert_to, enum_from

NAME = "redis_agent.v1.AlertService"
Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 100
_PAGE_AT_MOST = 1000


class History(Protocol):
    """What the servicer needs of the service."""

    @property
    def events(self) -> deque[AlertEvent]:
        """Entries of the alert log, oldest first. Raises Unreachable."""


class Servicer(pb_grpc.AlertServiceServicer):
    """Serves the alert log."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: Context) -> pb.ListAlertsResponse:
        """Newest first; the token is the position of the page's first alert."""
        try:
            wanted = self._wanted(request)
            start = _start(request.page_token)
        except AgentError as fault:
            await abort(context, fault)
        size = min(request.page_size or _PAGE, _PAGE_AT_MOST)
        page = wanted[start : start + size]
        deliveries = self._deliveries({alert.id for alert in page})
        reply = pb.ListAlertsResponse(next_page_token=str(start + size) if start + size < len(wanted) else "")
        for alert in page:
            entry = reply.alerts.add(alert=alert_to(alert))
            entry.deliveries.extend(alert_event_to(event) for event in deliveries.get(alert.id, ()))
        return reply

    def _wanted(self, request: pb.ListAlertsRequest) -> list[Alert]:
        severity = enum_from(types_pb2.Severity, request.severity, Severity) if request.severity else None
        kind = enum_from(alert_pb2.AlertKind, request.kind, AlertKind) if request.kind else None
        newest: dict[AlertId, Alert] = {}
        for event in self._history.events:
            if event.alert is not None:
                newest[event.alert.id] = event.alert
        chosen = [a for a in newest.values() if severity in (None, a.severity) and kind in (None, a.kind)]
        return sorted(chosen, key=lambda alert: alert.at, reverse=True)

    def _deliveries(self, wanted: set[AlertId]) -> dict[AlertId, list[AlertEvent]]:
        found: dict[AlertId, list[AlertEvent]] = {}
        for event in self._history.events:
            if event.notification is None or event.kind is AlertEventKind.CHANGED:
                continue
            for alert_id in {alert.id for alert in event.notification.alerts} & wanted:
                found.setdefault(alert_id, []).append(event)
        return found


def _start(page_token: str) -> int:
    if page_token and not (page_token.isascii() and page_token.isdigit()):
        raise Malformed(f"page_token: {page_token!r} is none of ours; give next_page_token of the last answer")
    return int(page_token or 0)
