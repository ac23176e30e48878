"""Alerts, anomalies and failovers to tell of, the vendors' fakes, and the notifier itself as a process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from redis_agent.instants import Instant
from redis_agent.model import (
    Alert,
    AlertId,
    AlertKind,
    AlertState,
    Anomaly,
    AnomalyId,
    AnomalyState,
    Datacenter,
    EventKind,
    FailoverEvent,
    FailoverId,
    Finding,
    FindingKind,
    FindingState,
    InstanceId,
    Kind,
    Notification,
    Origin,
    Phase,
    Plan,
    Record,
    Severity,
    SiteId,
    Stage,
)
from redis_agent.testing_process import ServiceProcess
from simulator.receivers import MailBox, PagerDutyEvents, SlackWebhook

HOST = "127.0.0.1"
NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
ORDERS = InstanceId("orders")
EAST, WEST = Datacenter("dc-east"), Datacenter("dc-west")
ROUTING_KEY = "0123456789abcdef0123456789abcdef"
SECRET = "T0SECRET/B0SECRET/secretsecretsecretsecret"


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def at(seconds: float) -> Instant:
    """So long after noon, as the notifier measures."""
    return Instant(timedelta(hours=12, seconds=seconds))


def alert(name: str = "anomaly/1", seconds: float = 0, **changes: Any) -> Alert:
    """A warning about orders, opened at noon and told of `seconds` later."""
    plain = Alert(
        id=AlertId(name),
        group="orders",
        kind=AlertKind.ANOMALY,
        state=AlertState.FIRING,
        severity=Severity.WARNING,
        instance=ORDERS,
        route_key=AlertKind.ANOMALY.value,
        title="orders/dc-east does not behave normally",
        detail="PING takes 40 ms, usually 0.3 ms",
        opened_at=NOON,
        at=after(seconds),
    )
    return replace(plain, **changes)


def resolved(opened: Alert, seconds: float) -> Alert:
    return replace(opened, state=AlertState.RESOLVED, title="orders/dc-east behaves normally again", at=after(seconds))


def notification(*alerts: Alert, name: str = "orders#1@chat", receiver: str = "chat") -> Notification:
    return Notification(name, "orders", receiver, alerts or (alert(),))


def anomaly(state: AnomalyState = AnomalyState.OPENED, seconds: float = 0, **changes: Any) -> Anomaly:
    plain = Anomaly(
        id=AnomalyId("a-1"),
        site=SiteId(ORDERS, EAST),
        state=state,
        opened_at=NOON,
        at=after(seconds),
        score=3.0,
        peak_score=4.0,
        threshold=2.0,
        severity=Severity.WARNING,
        contributions=(),
        explanation="PING takes 40 ms, usually 0.3 ms",
        model="base",
        origin=Origin("detector@test", 1),
    )
    return replace(plain, **changes)


def finding(state: FindingState = FindingState.OPEN, seconds: float = 0, **changes: Any) -> Finding:
    """A vantage that is away, found by a controller at noon and written `seconds` later."""
    plain = Finding(
        kind=FindingKind.VANTAGE_AWAY,
        subject="dc-east",
        reporter="controller@test:1",
        state=state,
        severity=Severity.WARNING,
        since=NOON,
        at=after(seconds),
        text="vantage dc-east says nothing any more",
        evidence="two others are heard",
        command="look at the collector at dc-east",
        origin=Origin("controller@test", 1 + int(seconds)),
    )
    return replace(plain, **changes)


_RECORD = Record("orders.example.test.", "CNAME", "dc-east.example.test.", 30, 1)
PLAN = Plan(
    instance=ORDERS,
    source=EAST,
    target=WEST,
    kind=Kind.EMERGENCY,
    before=_RECORD,
    after=replace(_RECORD, value="dc-west.example.test.", epoch=2),
    promote=True,
    expected_loss="less than 1 s of writes",
)


def event(kind: EventKind, stage: Stage, seconds: float = 0, **changes: Any) -> FailoverEvent:
    plain = FailoverEvent(
        failover=FailoverId("fo-1"),
        instance=ORDERS,
        kind=kind,
        stage=stage,
        at=after(seconds),
        reason="2 of 3 vantages say that dc-east is down",
        origin=Origin("controller@test", int(seconds * 10) + 1),
        actor="controller",
        plan=PLAN,
    )
    return replace(plain, **changes)


def journal_of_a_failover() -> list[FailoverEvent]:
    """A failover as the controller writes it, from the decision to the end."""
    steps = (Stage.FENCING, Stage.PROMOTING, Stage.REDIRECTING, Stage.PROPAGATING, Stage.VERIFYING)
    acts = [
        event(kind, stage, number + offset)
        for number, stage in enumerate(steps, 1)
        for offset, kind in ((0.0, EventKind.INTENT), (0.5, EventKind.OUTCOME))
    ]
    spans = (Phase("suspected", 0.4), Phase("verified", 6.0))
    end = event(EventKind.ENDED, Stage.DONE, 7, reason="clients reach dc-west", phases=spans)
    return [event(EventKind.DECIDED, Stage.FENCING), *acts, end]


@dataclass
class Vendors:
    """Slack, PagerDuty and a mail server, and how a fleet's file names them as receivers."""

    slack: SlackWebhook
    pagerduty: PagerDutyEvents
    mail: MailBox

    def receivers(self) -> list[dict[str, Any]]:
        mail = {"host": HOST, "port": self.mail.port, "tls": "none", "sender": "redis-agent@example.test"}
        webhook = f"http://{HOST}:{self.slack.port}/services/{SECRET}"
        return [
            {"name": "chat", "slack": {"webhook_url": webhook}},
            {"name": "pager", "pagerduty": {"routing_key": ROUTING_KEY, "url": self.pagerduty.url}},
            {"name": "mail", "email": {**mail, "to": ["oncall@example.test"]}},
        ]


Fakes = Callable[[], AbstractAsyncContextManager[Vendors]]


@pytest.fixture
def vendors() -> Fakes:
    """The three fakes, running for as long as the context lasts."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Vendors]:
        fakes = Vendors(SlackWebhook(HOST), PagerDutyEvents(HOST), MailBox(HOST))
        for fake in (fakes.slack, fakes.pagerduty, fakes.mail):
            await fake.start()
        try:
            yield fakes
        finally:
            for fake in (fakes.slack, fakes.pagerduty, fakes.mail):
                await fake.stop()
            await asyncio.sleep(0)

    return run


Notifying = Callable[..., ServiceProcess]


@pytest.fixture
def notifying(tmp_path: Path) -> Iterator[Notifying]:
    """`python -m notifier` with these receivers; its log is `log.db` in the test's directory."""
    begun: list[ServiceProcess] = []

    def make(receivers: list[dict[str, Any]], grpc_port: int, **alerting: Any) -> ServiceProcess:
        fleet = {
            "log": {"embedded": {"path": "log.db"}},
            "datacenters": [{"name": EAST}],
            "instances": [
                {
                    "id": "orders",
                    "sites": [{"datacenter": EAST, "url": "redis://127.0.0.1:1", "dns_value": "east.example.test."}],
                }
            ],
            "collector": {"vantage": "witness"},
            "alerting": {"receivers": receivers, "group_wait_seconds": 0.3, **alerting},
            "grpc": {"ports": {"notifier": grpc_port}},
        }
        begun.append(ServiceProcess("notifier", fleet, tmp_path))
        return begun[-1]

    yield make
    for process in begun:
        process.kill()
