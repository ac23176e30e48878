"""What the page shows, fetched at most once a refresh however many people look."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.edges.backends import Backends
from redis_agent.errors import AgentError
from redis_agent.rpc.plain import plain
from redis_agent.v1.alert_service_pb2 import ListAlertsRequest

_FRESH_SECONDS = 0.4
_ALERTS_SHOWN = 8
_WAIT_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at one moment; `missing` says which parts could not be had, and why."""

    at: datetime
    instances: list[dict[str, Any]] = field(default_factory=list)
    anomalies: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class Snapshots:
    """Gives the newest snapshot, refetched when it is older than a moment."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._held: Snapshot | None = None
        self._fetched_at = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def current(self) -> Snapshot:
        """The snapshot to show now."""
        async with self._one_at_a_time:
            now = asyncio.get_running_loop().time()
            if self._held is None or now - self._fetched_at > _FRESH_SECONDS:
                self._held = await self._fetch()
                self._fetched_at = asyncio.get_running_loop().time()
            return self._held

    async def _fetch(self) -> Snapshot:
        missing: dict[str, str] = {}
        fleet, anomalies, alerts = await asyncio.gather(
            self._or_missing("controller", self._fleet(), missing),
            self._or_missing("detector", self._anomalies(), missing),
            self._or_missing("notifier", self._alerts(), missing),
        )
        known = fleet or {"instances": [], "findings": []}
        return Snapshot(
            datetime.now(UTC), known["instances"], anomalies or [], alerts or [], known["findings"], missing
        )

    async def _or_missing(self, service: str, question: Any, missing: dict[str, str]) -> Any:
        try:
            # One that stands still must not hold back what the others know.
            async with asyncio.timeout(_WAIT_SECONDS):
                found = await question
        except AgentError as fault:
            missing[service] = str(fault)
        except TimeoutError:
            missing[service] = f"the {service} does not answer: not within {_WAIT_SECONDS} s"
        else:
            return found
        return None

    async def _fleet(self) -> Any:
        return plain(await self._backends.fleet())

    async def _anomalies(self) -> Any:
        return plain(await self._backends.anomalies("", open_only=True))["anomalies"]

    async def _alerts(self) -> Any:
        found = await self._backends.alerts(ListAlertsRequest(page_size=_ALERTS_SHOWN))
        return [plain(history.alert) for history in found.alerts]
