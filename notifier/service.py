"""The notifier's loop: events to alerts, alerts to notifications, attempts to the log.

One task owns all state and is the only writer, through its membership: what it read, what it made of it and what came of
earlier attempts are committed together. A notification is sent only after its NOTIFY entry is in the log, so a crash at
any point sends it again under the same id, never not at all.
"""

import asyncio
import logging
import socket
from collections import deque
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from opentelemetry.trace import Span, SpanKind
from prometheus_client import Counter

from notifier.core import grouping, outbox
from notifier.core.alerts import alert_of, of_anomaly, of_failover, of_finding
from notifier.core.memory import Memory
from notifier.core.outbox import Attempt, Fate, Owed
from notifier.settings import Settings
from redis_agent import telemetry, topics
from redis_agent.clock import instant, wall
from redis_agent.deadletters import DeadLetters
from redis_agent.errors import LogUnavailable, Malformed, Rebalanced, Unreachable
from redis_agent.findings import OpenFindings, read
from redis_agent.instants import after
from redis_agent.log import Delivered, Log, Member, Outgoing, Start
from redis_agent.model import Alert, AlertEvent, AlertEventKind, FindingState, Notification
from redis_agent.process import Runtime
from redis_agent.retries import patiently
from redis_agent.wire import (
    alert_event_to,
    decode_alert_event,
    decode_anomaly,
    decode_failover_event,
    decode_finding,
)

logger = logging.getLogger(__name__)
_READ_SECONDS = 0.1
_TOPICS = (topics.ANOMALIES, topics.FAILOVERS, topics.FINDINGS)
_REMEMBERED = timedelta(days=30)
_ATTEMPT_SECONDS = 30.0
_LAST_ATTEMPTS_SECONDS = 1.5


class Service:
    """Owns what the alert log tells, and the attempts on their way."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings
        self._memory = Memory(settings.group_wait)
        self._recovered = False
        self._dead = DeadLetters(runtime.telemetry, runtime.findings)
        self._findings = OpenFindings()
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._results: list[tuple[str, Attempt]] = []
        self._attempts = Counter(
            "redis_agent_notifications", "Attempts to tell", ["receiver", "fate"], registry=runtime.telemetry.registry
        )

    @property
    def events(self) -> deque[AlertEvent]:
        """The newest entries of the alert log, oldest first. Raises Unreachable before they were read."""
        if not self._recovered:
            raise Unreachable("the notifier has not read the alert log yet")
        return self._memory.events

    async def run(self) -> None:
        """Tell people until cancelled. Attempts on their way then get a moment, and what came of them is kept."""
        async with self._runtime.log() as log, self._settings.client:
            await self._recover_patiently(log)
            name = f"notifier@{socket.gethostname()}"
            member = await log.member("notifier", _TOPICS, Start.NOW, name)
            await self._runtime.ready()
            async with asyncio.TaskGroup() as group:
                try:
                    while True:
                        await self._turn(log, member, group)
                except asyncio.CancelledError:
                    await self._finish(member)
                    raise

    async def _turn(self, log: Log, member: Member, group: asyncio.TaskGroup) -> None:
        try:
            records = await member.read(200, _READ_SECONDS)
            settling = len(self._results)
            outputs = [*self._taken(records), *self._owed(), *self._settled()]
            if records or outputs:
                await member.commit(outputs)
            del self._results[:settling]
            await self._retire(log)
        except (LogUnavailable, Rebalanced) as fault:
            # Memory must equal the log: what was made of uncommitted records is forgotten and made again.
            logger.warning("starting over from the log: %s", fault)
            await asyncio.sleep(0.5)
            await self._begin_anew(log, member)
            return
        self._send(group)

    async def _begin_anew(self, log: Log, member: Member) -> None:
        """Memory from the log, once the log has decided about the last commit: a read settles one without an answer."""
        async for attempt in patiently("starting over from the log", LogUnavailable, Rebalanced, longest_seconds=1.0):
            with attempt:
                await member.read(1, _READ_SECONDS)
                await member.rewind()
                await self._recover(log)

    async def _finish(self, member: Member) -> None:
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=_LAST_ATTEMPTS_SECONDS)
        if outputs := self._settled():
            with suppress(LogUnavailable, Rebalanced):
                # What was read and is not committed is the next one's: its outputs may not have been written.
                await member.rewind()
                await member.commit(outputs)

    async def _recover_patiently(self, log: Log) -> None:
        async for attempt in patiently("waiting for the alert log", LogUnavailable, longest_seconds=1.0):
            with attempt:
                await self._recover(log)

    async def _recover(self, log: Log) -> None:
        """Alerts, groups and the outbox as the log tells them. Until all is read, the old memory answers questions."""
        memory = Memory(self._settings.group_wait)
        # Ages are by the log's own time: what waits or is owed goes on where it was, whatever the wall clock says now.
        log_now, now = await log.now(), instant()
        cursor = await log.cursor([topics.ALERTS], _REMEMBERED)
        try:
            while not cursor.caught_up:
                for record in await cursor.read(500, 0.2):
                    at = after(now, -max(timedelta(), log_now - record.at))
                    try:
                        memory.remember(decode_alert_event(record.value), at, record.header("traceparent") or "")
                    except Malformed as fault:
                        logger.warning("an alert record can't be read back: %s", fault)
        finally:
            await cursor.close()
        memory.forget(after(instant(), -self._settings.give_up))
        findings = OpenFindings()
        for finding in (await read(log)).values():
            findings.note(finding, instant())
        self._memory, self._findings, self._recovered = memory, findings, True

    # --- events to alerts

    def _taken(self, records: list[Delivered]) -> list[Outgoing]:
        outputs: list[Outgoing] = []
        for record in records:
            span = telemetry.process_span(self._runtime.telemetry.tracer, record)
            try:
                alert = self._alert(record)
            except Malformed as fault:
                outputs.append(self._dead.letter(record, str(fault)))
                continue
            finally:
                span.end()
            if alert is not None and grouping.is_news(self._memory.groups, alert):
                outputs.append(self._entry(AlertEventKind.CHANGED, alert.group, span, alert=alert))
        return outputs

    def _alert(self, record: Delivered) -> Alert | None:
        if record.topic == topics.ANOMALIES.name:
            return of_anomaly(decode_anomaly(record.value))
        if record.topic == topics.FINDINGS.name:
            finding = decode_finding(record.value)
            self._findings.note(finding, instant())
            self._runtime.findings.heard(finding)
            return of_finding(finding, self._settings.instances)
        event = decode_failover_event(record.value)
        group = self._memory.groups.get(event.instance)
        return of_failover(event, group.alerts.get(alert_of(event)) if group is not None else None)

    async def _retire(self, log: Log) -> None:
        """Findings that nobody renews any more: they are closed for their reporters, and their silence is told.

        The topic is asked first: a renewal may stand there that this process hasn't read, or that isn't its to read.
        """
        silent = self._findings.silent(instant())
        newest = await read(log) if silent else {}
        for finding in silent:
            if (renewed := newest.get(finding.key, finding)).origin != finding.origin:
                self._findings.note(renewed, instant())
                continue
            self._findings.note(replace(finding, state=FindingState.CLOSED), instant())
            self._runtime.findings.retire(finding)

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
        origin = self._runtime.origins.next()
        event = AlertEvent(kind, group, wall(), origin, alert, notification, number, detail, final)
        if kind in (AlertEventKind.CHANGED, AlertEventKind.NOTIFY):
            self._memory.remember(event, instant(), telemetry.traceparent_of(span))
        else:
            self._memory.events.append(event)
        headers = telemetry.headers(topics.ALERTS, origin, span)
        return Outgoing(topics.ALERTS, group, alert_event_to(event).SerializeToString(), headers)

    # --- alerts to notifications

    def _owed(self) -> list[Outgoing]:
        outputs = []
        for notification in self._memory.due(self._settings.receivers, instant()):
            span = self._span("notify", notification)
            outputs.append(self._entry(AlertEventKind.NOTIFY, notification.group, span, notification=notification))
            span.end()
        return outputs

    def _span(self, name: str, notification: Notification) -> Span:
        *others, newest = self._memory.traces(notification)
        return self._runtime.telemetry.tracer.start_span(
            name,
            context=telemetry.context_of(newest),
            links=telemetry.links_to(others),
            kind=SpanKind.CLIENT,
            attributes={"redis_agent.notification": notification.id, "redis_agent.receiver": notification.receiver},
        )

    # --- attempts

    def _send(self, group: asyncio.TaskGroup) -> None:
        for owed in outbox.ready(self._memory.outbox, instant()):
            if owed.notification.id not in self._sending:
                self._sending[owed.notification.id] = group.create_task(self._attempt(owed))

    async def _attempt(self, owed: Owed) -> None:
        notification = owed.notification
        span = self._span(f"notify {notification.receiver}", notification)
        try:
            attempt = await self._tried(notification)
            span.set_attribute("redis_agent.fate", attempt.fate.value)
        finally:
            span.end()
        self._attempts.labels(notification.receiver, attempt.fate.value).inc()
        logger.info("%s: %s: %s", notification.id, attempt.fate.value, attempt.detail)
        self._results.append((notification.id, attempt))

    async def _tried(self, notification: Notification) -> Attempt:
        channel = self._settings.channels.get(notification.receiver)
        if channel is None:
            return Attempt(Fate.REJECTED, "this receiver is not configured any more")
        try:
            # A channel bounds each of its steps; a receiver that answers a byte at a time needs a bound on the whole.
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                return await channel.send(notification)
        except TimeoutError:
            return Attempt(Fate.RETRY, f"not done within {_ATTEMPT_SECONDS:.0f} s")
        except Exception as fault:  # one receiver's client must not silence the others
            logger.exception("%s: unforeseen", notification.id)
            return Attempt(Fate.RETRY, f"unforeseen: {type(fault).__name__}: {fault}")

    def _settled(self) -> list[Outgoing]:
        outputs = []
        for name, attempt in self._results:
            self._sending.pop(name, None)
            owed = self._memory.outbox.get(name)
            if owed is None:
                continue
            kind, final = self._memory.settle(name, attempt, instant(), self._settings.give_up)
            span = self._span(kind.value, owed.notification)
            told = (owed.attempts + 1, attempt.detail, final)
            outputs.append(
                self._entry(kind, owed.notification.group, span, notification=owed.notification, attempt=told)
            )
            span.end()
        return outputs
