"""Events -> what people are told.

An alert's id comes from what it tells of (the anomaly's, the failover's), never from the configuration: a restart or a
changed route still resolves what was opened before. Texts are cut here: a notification repeats them for every receiver,
and must fit into a record.
"""

from collections.abc import Collection
from dataclasses import replace

from notifier.core.message import cut
from redis_agent.model import (
    Alert,
    AlertId,
    AlertKind,
    AlertState,
    Anomaly,
    AnomalyState,
    EventKind,
    FailoverEvent,
    Finding,
    FindingState,
    InstanceId,
    Plan,
    Severity,
    Stage,
)
from redis_agent.topics import FLEET

TITLE_AT_MOST = 300
DETAIL_AT_MOST = 10_000


def of_anomaly(anomaly: Anomaly) -> Alert:
    """What an anomaly's event says."""
    closed = anomaly.state is AnomalyState.CLOSED
    title = f"{anomaly.site} behaves normally again" if closed else f"{anomaly.site} does not behave normally"
    ratio = anomaly.peak_score / anomaly.threshold if anomaly.threshold > 0 else 0.0
    return Alert(
        id=AlertId(f"anomaly/{anomaly.id}"),
        group=anomaly.site.instance,
        kind=AlertKind.ANOMALY,
        state=AlertState.RESOLVED if closed else AlertState.FIRING,
        severity=anomaly.severity,
        instance=anomaly.site.instance,
        title=cut(title, TITLE_AT_MOST),
        detail=cut(anomaly.explanation, DETAIL_AT_MOST) + f" (at its worst {ratio:.1f} times the threshold)",
        opened_at=anomaly.opened_at,
        at=anomaly.at,
        route_key=AlertKind.ANOMALY.value,
    )


def of_failover(event: FailoverEvent, opened: Alert | None) -> Alert | None:
    """What a journal event says, given the alert that its failover opened before; None when it's nobody's news."""
    match event.kind:
        case EventKind.DECIDED if event.plan is not None:
            return _decided(event, event.plan)
        case EventKind.REFUSED:
            return _blocked(event)
        case EventKind.ENDED if opened is not None:
            return _ended(event, opened)
        case EventKind.FENCED_LATE if opened is not None:
            return _fenced_late(event)
        case _:
            return None


def of_finding(finding: Finding, instances: Collection[str]) -> Alert:
    """What a finding says. Each opening is an alert of its own: one that comes again is told again."""
    closed = finding.state is FindingState.CLOSED
    instance = finding.subject.partition("/")[0]
    mend = f"\nTo do: {finding.command}" if finding.command and not closed else ""
    since = finding.since.isoformat(timespec="microseconds")
    return Alert(
        id=AlertId(f"finding/{finding.key}/{since}"),
        group=instance if instance in instances else FLEET,
        kind=AlertKind.FINDING,
        state=AlertState.RESOLVED if closed else AlertState.FIRING,
        severity=finding.severity,
        instance=InstanceId(instance if instance in instances else ""),
        title=cut(f"over: {finding.text}" if closed else finding.text, TITLE_AT_MOST),
        detail=cut(f"{finding.evidence or finding.subject} (found by {finding.reporter}){mend}", DETAIL_AT_MOST),
        opened_at=finding.since,
        at=finding.at,
        route_key=finding.kind.value,
    )


def alert_of(event: FailoverEvent) -> AlertId:
    """The alert that a failover's events belong to."""
    return AlertId(f"failover/{event.failover}")


def _decided(event: FailoverEvent, plan: Plan) -> Alert:
    waiting = event.stage is Stage.AWAITING_APPROVAL
    doing = "needs your approval to move" if waiting else "is being moved"
    told = f"{event.reason}. {plan.kind.value} by {event.actor}; expected loss: {plan.expected_loss}."
    hint = f" Approve with: redis-agent approve {event.failover}" if waiting else ""
    title = f"{event.instance} {doing} from {plan.source} to {plan.target}"
    return _alert(event, AlertKind.FAILOVER, AlertState.FIRING, Severity.CRITICAL, title, told + hint)


def _ended(event: FailoverEvent, opened: Alert) -> Alert:
    if opened.kind is AlertKind.BLOCKED:
        return _changed(opened, event, AlertState.RESOLVED, Severity.INFO, f"{event.instance}: {event.reason}", "")
    route = f"from {event.plan.source} to {event.plan.target}" if event.plan is not None else ""
    if event.stage is Stage.DONE:
        spans = ", ".join(f"{phase.name} {phase.seconds:.1f} s" for phase in event.phases)
        title = f"{event.instance} was moved {route}"
        return _changed(
            opened, event, AlertState.RESOLVED, opened.severity, title, f"{event.reason}. Since first seen: {spans}."
        )
    if event.stage is Stage.ABORTED:
        title = f"{event.instance} was not moved {route}"
        return _changed(opened, event, AlertState.RESOLVED, opened.severity, title, event.reason)
    return _changed(
        opened, event, AlertState.FIRING, Severity.CRITICAL, f"{event.instance}: the move {route} failed", event.reason
    )


def _blocked(event: FailoverEvent) -> Alert:
    title = f"{event.instance} has a site down, and traffic was not moved"
    return _alert(event, AlertKind.BLOCKED, AlertState.FIRING, Severity.CRITICAL, title, event.reason)


def _fenced_late(event: FailoverEvent) -> Alert:
    title = f"{event.instance}: the old site was fenced"
    alert = _alert(event, AlertKind.FAILOVER, AlertState.RESOLVED, Severity.INFO, title, event.reason)
    return replace(alert, id=AlertId(f"fence/{event.failover}"))


def _alert(
    event: FailoverEvent, kind: AlertKind, state: AlertState, severity: Severity, title: str, detail: str
) -> Alert:
    return Alert(
        id=alert_of(event),
        group=event.instance,
        kind=kind,
        state=state,
        severity=severity,
        instance=event.instance,
        title=cut(title, TITLE_AT_MOST),
        detail=cut(detail, DETAIL_AT_MOST),
        opened_at=event.at,
        at=event.at,
        route_key=kind.value,
    )


def _changed(
    opened: Alert, event: FailoverEvent, state: AlertState, severity: Severity, title: str, detail: str
) -> Alert:
    return replace(
        opened,
        state=state,
        severity=severity,
        title=cut(title, TITLE_AT_MOST),
        detail=cut(detail, DETAIL_AT_MOST),
        at=event.at,
    )
