"""The notifier's loop: events to alerts, alerts to notifications, attempts to the log.

One task owns all state and is the only writer, through its membership: what it read, what it made of it and what came of
earlier attempts are committed together. A notification is sent only after its NOTIFY entry is in the log, so a crash at
any point sends it again under the same id, never not at all.
"""

import asyncio
import logging
import socket
from collections import deque
from datetime import UTC, datetime, timedelta

from opentelemetry.trace import Span, SpanKind
from prometheus_client import Counter

from notifier.core import grouping, outbox
from notifier.core.alerts import alert_of, of_anomaly, of_failover
from notifier.core.outbox import Attempt, Owed
from notifier.settings import Settings
from redis_agent import telemetry, topics
from redis_agent.errors import LogUnavailable, Malformed, Rebalanced
from redis_agent.log import Delivered, Log, Member, Outgoing, Start
from redis_agent.log.deadletter import dead_letter
from redis_agent.model import Alert, AlertEvent, AlertEventKind, AlertId, Notification
from redis_agent.process import Life
from redis_agent.wire import alert_event_to, decode_alert_event, decode_anomaly, decode_failover_event

logger = logging.getLogger(__name__)
_READ_SECONDS = 0.1
_REMEMBERED = timedelta(days=30)
_EVENTS_HELD = 50_000


class Service:
    """Owns alerts, groups and the outbox."""

    def __init__(self, life: Life, settings: Settings) -> None:
        self.events: deque[AlertEvent] = deque(maxlen=_EVENTS_HELD)
        self._life = life
        self._settings = settings
        self._groups: grouping.Groups = {}
        self._outbox: outbox.Outbox = {}
        self._traces: dict[AlertId, str] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._results: list[tuple[str, Attempt, str]] = []
        self._attempts = Counter(
            "redis_agent_notifications", "Attempts to tell", ["receiver", "fate"], registry=life.telemetry.registry
        )

    async def run(self) -> None:
        """Tell people until cancelled."""
        async with self._life.log() as log, self._settings.client:
            await self._recover(log)
            name = f"notifier@{socket.gethostname()}"
            member = await log.member("notifier", [topics.ANOMALIES, topics.FAILOVERS], Start.NOW, name)
            await self._life.ready()
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._turn(log, member, group)

    async def _turn(self, log: Log, member: Member, group: asyncio.TaskGroup) -> None:
        try:
            records = await member.read(200, _READ_SECONDS)
            outputs = [*self._taken(records), *self._owed(), *self._settled()]
            if records or outputs:
                await member.commit(outputs)
        except (LogUnavailable, Rebalanced) as fault:
            # Memory must equal the log: what was made of uncommitted records is forgotten and made again.
            logger.warning("starting over from the log: %s", fault)
            await asyncio.sleep(0.5)
            await self._recover_patiently(log)
            return
        self._send(group)

    async def _recover_patiently(self, log: Log) -> None:
        while True:
            try:
                await self._recover(log)
            except LogUnavailable:
                await asyncio.sleep(1)
            else:
                return

    async def _recover(self, log: Log) -> None:
        """Alerts, groups and the outbox as the log tells them."""
        self._groups, self._outbox = {}, {}
        self.events.clear()
        cursor = await log.cursor([topics.ALERTS], datetime.now(UTC) - _REMEMBERED)
        try:
            while not cursor.caught_up:
                for record in await cursor.read(500, 0.2):
                    try:
                        self._remember(decode_alert_event(record.value), record.header("traceparent") or "")
                    except Malformed as fault:
                        logger.warning("an alert record can't be read back: %s", fault)
        finally:
            await cursor.close()

    def _remember(self, event: AlertEvent, traceparent: str) -> None:
        self.events.append(event)
        self._groups = grouping.replay(self._groups, event, self._settings.group_wait)
        self._outbox = outbox.replay(self._outbox, event)
        if event.alert is not None:
            self._traces[event.alert.id] = traceparent

    # --- events to alerts

    def _taken(self, records: list[Delivered]) -> list[Outgoing]:
        outputs: list[Outgoing] = []
        for record in records:
            span = telemetry.process_span(self._life.telemetry.tracer, record)
            try:
                alert = self._alert(record)
            except Malformed as fault:
                self._life.telemetry.deadletters.labels(record.topic).inc()
                outputs.append(dead_letter(record, str(fault)))
                continue
            finally:
                span.end()
            if alert is not None and grouping.is_news(self._groups, alert):
                outputs.append(self._entry(AlertEventKind.CHANGED, alert.group, span, alert=alert))
        return outputs

    def _alert(self, record: Delivered) -> Alert | None:
        if record.topic == topics.ANOMALIES.name:
            return of_anomaly(decode_anomaly(record.value))
        event = decode_failover_event(record.value)
        group = self._groups.get(event.instance)
        return of_failover(event, group.alerts.get(alert_of(event)) if group is not None else None)

    def _entry(
        self,
        kind: AlertEventKind,
        group: str,
        span: Span,
        alert: Alert | None = None,
        notification: Notification | None = None,
        attempt: tuple[int, str, bool] = (0, "", False),
    ) -> Outgoing:
        """An entry of the alert log, remembered at once; `attempt`: number, what was said, whether it was the last."""
        number, detail, final = attempt
        origin = self._life.origins.next()
        event = AlertEvent(kind, group, datetime.now(UTC), origin, alert, notification, number, detail, final)
        if kind in (AlertEventKind.CHANGED, AlertEventKind.NOTIFY):
            self._remember(event, telemetry.traceparent_of(span))
        else:
            self.events.append(event)
        headers = telemetry.headers(topics.ALERTS, origin, span)
        return Outgoing(topics.ALERTS, group, alert_event_to(event).SerializeToString(), headers)

    # --- alerts to notifications

    def _owed(self) -> list[Outgoing]:
        self._groups, owed = grouping.due(self._groups, self._settings.receivers, datetime.now(UTC))
        outputs = []
        for notification in owed:
            span = self._span("notify", notification)
            outputs.append(self._entry(AlertEventKind.NOTIFY, notification.group, span, notification=notification))
            span.end()
        return outputs

    def _span(self, name: str, notification: Notification) -> Span:
        traces = [self._traces.get(alert.id, "") for alert in notification.alerts]
        return self._life.telemetry.tracer.start_span(
            name,
            context=telemetry.context_of(traces[-1]),
            links=telemetry.links_to(traces[:-1]),
            kind=SpanKind.CLIENT,
            attributes={"redis_agent.notification": notification.id, "redis_agent.receiver": notification.receiver},
        )

    # --- attempts

    def _send(self, group: asyncio.TaskGroup) -> None:
        for owed in outbox.ready(self._outbox, datetime.now(UTC)):
            if owed.notification.id not in self._sending:
                self._sending[owed.notification.id] = group.create_task(self._attempt(owed))

    async def _attempt(self, owed: Owed) -> None:
        notification = owed.notification
        channel = self._settings.channels.get(notification.receiver)
        span = self._span(f"notify {notification.receiver}", notification)
        try:
            if channel is None:
                attempt = Attempt(outbox.Fate.REJECTED, "this receiver is not configured any more")
            else:
                attempt = await channel.send(notification)
            span.set_attribute("redis_agent.fate", attempt.fate.value)
        finally:
            span.end()
        self._attempts.labels(notification.receiver, attempt.fate.value).inc()
        logger.info("%s: %s: %s", notification.id, attempt.fate.value, attempt.detail)
        self._results.append((notification.id, attempt, telemetry.traceparent_of(span)))

    def _settled(self) -> list[Outgoing]:
        outputs = []
        results, self._results = self._results, []
        for name, attempt, _ in results:
            self._sending.pop(name, None)
            owed = self._outbox.get(name)
            if owed is None:
                continue
            self._outbox, kind, final = outbox.settle(
                self._outbox, name, attempt, datetime.now(UTC), self._settings.give_up
            )
            span = self._span(kind.value, owed.notification)
            told = (owed.attempts + 1, attempt.detail, final)
            outputs.append(
                self._entry(kind, owed.notification.group, span, notification=owed.notification, attempt=told)
            )
            span.end()
        return outputs
