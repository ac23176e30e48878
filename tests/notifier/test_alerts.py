"""Events of the detector and the controller -> what people are told."""

import pytest

from notifier.core.alerts import DETAIL_AT_MOST, TITLE_AT_MOST, alert_of, of_anomaly, of_failover, of_finding
from redis_agent.model import AlertKind, AlertState, AnomalyState, EventKind, FindingState, Severity, Stage
from redis_agent.topics import FLEET

from .conftest import EAST, NOON, ORDERS, after, anomaly, event, finding, journal_of_a_failover


def test_an_anomaly_fires_and_its_end_resolves_the_same_alert() -> None:
    opened = of_anomaly(anomaly())
    closed = of_anomaly(anomaly(AnomalyState.CLOSED, 60))
    assert opened.id == closed.id == "anomaly/a-1"
    assert (opened.state, closed.state) == (AlertState.FIRING, AlertState.RESOLVED)
    assert (opened.group, opened.kind, opened.severity) == ("orders", AlertKind.ANOMALY, Severity.WARNING)
    assert (closed.opened_at, closed.at) == (NOON, after(60))
    assert "orders/dc-east" in opened.title
    assert opened.detail == "PING takes 40 ms, usually 0.3 ms (at its worst 2.0 times the threshold)"


def test_an_anomaly_without_a_threshold_is_still_told() -> None:
    assert "0.0 times" in of_anomaly(anomaly(threshold=0.0)).detail
    assert of_anomaly(anomaly(threshold=float("nan"), peak_score=float("inf"))).state is AlertState.FIRING


def test_a_failover_is_told_at_its_decision_and_at_its_end_and_not_between() -> None:
    journal = journal_of_a_failover()
    opened = of_failover(journal[0], None)
    assert opened is not None
    assert (opened.state, opened.severity) == (AlertState.FIRING, Severity.CRITICAL)
    assert opened.title == "orders is being moved from dc-east to dc-west"
    assert "expected loss: less than 1 s of writes" in opened.detail
    assert [told for step in journal[1:-1] if (told := of_failover(step, opened)) is not None] == []
    ended = of_failover(journal[-1], opened)
    assert ended is not None
    assert (ended.id, ended.state) == (opened.id, AlertState.RESOLVED)
    assert ended.title == "orders was moved from dc-east to dc-west"
    assert "suspected 0.4 s, verified 6.0 s" in ended.detail
    assert (ended.opened_at, ended.at) == (NOON, after(7))


def test_one_that_waits_for_approval_says_how_to_give_it() -> None:
    told = of_failover(event(EventKind.DECIDED, Stage.AWAITING_APPROVAL), None)
    assert told is not None
    assert "needs your approval" in told.title
    assert "redis-agent approve fo-1" in told.detail


def test_one_that_failed_goes_on_firing() -> None:
    opened = of_failover(event(EventKind.DECIDED, Stage.FENCING), None)
    told = of_failover(event(EventKind.ENDED, Stage.FAILED, 9, reason="the DNS service refused"), opened)
    assert told is not None
    assert (told.state, told.severity) == (AlertState.FIRING, Severity.CRITICAL)
    assert "failed" in told.title
    assert told.detail == "the DNS service refused"


def test_one_that_was_aborted_is_over() -> None:
    opened = of_failover(event(EventKind.DECIDED, Stage.FENCING), None)
    told = of_failover(event(EventKind.ENDED, Stage.ABORTED, 9), opened)
    assert told is not None
    assert (told.state, told.title) == (AlertState.RESOLVED, "orders was not moved from dc-east to dc-west")


def test_a_decision_not_to_act_is_told_with_its_reasons_and_so_is_its_end() -> None:
    refused = event(EventKind.REFUSED, Stage.REFUSED, plan=None, reason="dc-east is down, and traffic stays: paused")
    opened = of_failover(refused, None)
    assert opened is not None
    assert (opened.kind, opened.state, opened.severity) == (AlertKind.BLOCKED, AlertState.FIRING, Severity.CRITICAL)
    assert opened.detail == "dc-east is down, and traffic stays: paused"
    over = of_failover(event(EventKind.ENDED, Stage.REFUSED, 30, plan=None, reason="dc-east is up again"), opened)
    assert over is not None
    assert (over.id, over.kind, over.state) == (opened.id, AlertKind.BLOCKED, AlertState.RESOLVED)
    assert "dc-east is up again" in over.title


def test_an_end_whose_beginning_nobody_was_told_of_is_no_news() -> None:
    assert of_failover(event(EventKind.ENDED, Stage.DONE), None) is None
    assert of_failover(event(EventKind.FENCED_LATE, Stage.DONE), None) is None


def test_a_late_fence_is_an_alert_of_its_own_that_opens_nothing() -> None:
    opened = of_failover(event(EventKind.DECIDED, Stage.FENCING), None)
    told = of_failover(event(EventKind.FENCED_LATE, Stage.DONE, 90), opened)
    assert told is not None
    assert told.id != alert_of(event(EventKind.DECIDED, Stage.FENCING))
    assert (told.state, told.severity) == (AlertState.RESOLVED, Severity.INFO)


@pytest.mark.parametrize("kind", list(EventKind))
@pytest.mark.parametrize("stage", list(Stage))
def test_every_event_is_told_or_left_out_and_never_fails(kind: EventKind, stage: Stage) -> None:
    opened = of_failover(event(EventKind.DECIDED, Stage.FENCING), None)
    for before in (None, opened):
        for plan in (None, event(kind, stage).plan):
            told = of_failover(event(kind, stage, plan=plan), before)
            assert told is None or told.title


def test_texts_of_any_length_fit_into_an_alert() -> None:
    told = of_anomaly(anomaly(explanation="x" * 15_000_000))
    assert len(told.detail) < DETAIL_AT_MOST + 100
    assert "(cut)" in told.detail
    assert told.detail.endswith("2.0 times the threshold)"), "what is known for sure is kept"
    blocked = of_failover(event(EventKind.REFUSED, Stage.REFUSED, reason="y" * 200_000, instance=EAST * 1000), None)
    assert blocked is not None
    assert len(blocked.detail) <= DETAIL_AT_MOST
    assert len(blocked.title) <= TITLE_AT_MOST


def test_a_finding_fires_under_one_id_while_it_lasts_and_its_end_resolves_it() -> None:
    opened, renewed = of_finding(finding(), [ORDERS]), of_finding(finding(seconds=60), [ORDERS])
    closed = of_finding(finding(FindingState.CLOSED, 90), [ORDERS])
    assert (opened.state, closed.state) == (AlertState.FIRING, AlertState.RESOLVED)
    assert opened.id == renewed.id == closed.id
    assert opened.id != of_finding(finding(since=after(100)), [ORDERS]).id
    assert (opened.kind, opened.route_key) == (AlertKind.FINDING, "vantage-away")
    assert (opened.instance, opened.group) == ("", FLEET)


def test_a_finding_about_an_instance_goes_with_that_instances_alerts() -> None:
    told = of_finding(finding(subject="orders/dc-east"), [ORDERS])
    assert (told.instance, told.group) == (ORDERS, "orders")
