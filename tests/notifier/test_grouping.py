"""What is told together, and when; and that the alert log, read back, gives the same as it gave live."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from notifier.core import grouping
from notifier.core.grouping import Groups, Receiver, change, due, is_news
from redis_agent.model import (
    Alert,
    AlertEvent,
    AlertEventKind,
    AlertKind,
    AlertState,
    Notification,
    Origin,
    Severity,
)

from .conftest import NOON, after, alert, at, resolved

WAIT = timedelta(seconds=5)
CHAT = Receiver("chat", Severity.INFO)
PAGER = Receiver("pager", Severity.CRITICAL)


def changed(*alerts: Alert, groups: Groups | None = None) -> Groups:
    """The groups after these alerts changed, each at its own time."""
    now = groups or {}
    for each in alerts:
        now = change(now, each, at((each.at - NOON).total_seconds()), WAIT)
    return now


def told(groups: Groups, seconds: float, receivers: Sequence[Receiver] = (CHAT,)) -> list[Notification]:
    return due(groups, receivers, at(seconds))[1]


# --- news


def test_a_new_alert_is_news_and_the_same_again_is_not() -> None:
    assert is_news({}, alert())
    assert not is_news(changed(alert()), alert())
    assert not is_news(changed(alert()), alert(seconds=30, detail="another number")), "only the detail differs"


def test_another_severity_title_or_state_is_news() -> None:
    groups = changed(alert())
    assert is_news(groups, alert(severity=Severity.CRITICAL))
    assert is_news(groups, alert(title="worse"))
    assert is_news(groups, resolved(alert(), 9))


def test_an_old_event_that_comes_twice_does_not_open_again_what_has_ended() -> None:
    groups = changed(alert(), resolved(alert(), 9))
    assert not is_news(groups, alert())
    assert not is_news(groups, resolved(alert(), 9))
    assert is_news(groups, alert(seconds=10)), "one that began after the end is another"


def test_a_finding_that_was_closed_for_its_silent_reporter_opens_again_whatever_that_ones_clock_says() -> None:
    found = alert("finding/x", kind=AlertKind.FINDING)
    groups = changed(found, resolved(found, 900))
    assert is_news(groups, replace(found, at=after(300)))


# --- when, and to whom


def test_a_group_waits_and_then_tells_everything_at_once() -> None:
    groups = changed(alert("a"), alert("b", seconds=3))
    assert told(groups, 4.9) == []
    (only,) = told(groups, 5)
    assert (only.id, only.group, only.receiver) == ("orders#1@chat", "orders", "chat")
    assert [a.id for a in only.alerts] == ["a", "b"]


def test_what_was_told_is_not_told_again() -> None:
    groups, _ = due(changed(alert()), [CHAT], at(5))
    assert told(groups, 1000) == []
    (second,) = told(changed(resolved(alert(), 60), groups=groups), 65)
    assert second.id == "orders#2@chat"
    assert [a.state for a in second.alerts] == [AlertState.RESOLVED]


def test_groups_wait_for_themselves() -> None:
    groups = changed(alert("a"), alert("b", seconds=3, group="carts"))
    assert [n.group for n in told(groups, 5)] == ["orders"]
    assert sorted(n.group for n in told(groups, 8)) == ["carts", "orders"]


def test_one_that_fired_and_was_resolved_within_the_wait_is_told_as_both() -> None:
    (only,) = told(changed(alert(), resolved(alert(), 2)), 5)
    assert [a.state for a in only.alerts] == [AlertState.FIRING, AlertState.RESOLVED]


def test_of_one_that_only_got_worse_within_the_wait_the_last_state_is_told() -> None:
    (only,) = told(changed(alert(), alert(seconds=2, severity=Severity.CRITICAL)), 5)
    assert [a.severity for a in only.alerts] == [Severity.CRITICAL]


def test_a_receiver_hears_of_what_is_severe_enough_for_it() -> None:
    groups = changed(alert("mild"), alert("grave", severity=Severity.CRITICAL))
    heard = {n.receiver: [a.id for a in n.alerts] for n in told(groups, 5, [CHAT, PAGER])}
    assert heard == {"chat": ["mild", "grave"], "pager": ["grave"]}
    assert told(changed(alert("mild")), 5, [PAGER]) == []


def test_who_was_told_of_the_beginning_is_told_of_the_end_however_mild_it_is() -> None:
    grave = alert(severity=Severity.CRITICAL)
    groups, _ = due(changed(grave), [PAGER], at(5))
    milder = alert(seconds=20, severity=Severity.WARNING)
    groups, (second,) = due(changed(milder, groups=groups), [PAGER], at(25))
    assert second.alerts[0].severity is Severity.WARNING
    (third,) = told(changed(resolved(milder, 40), groups=groups), 45, [PAGER])
    assert third.alerts[0].state is AlertState.RESOLVED


def test_what_ended_long_ago_is_forgotten_and_what_fires_is_not() -> None:
    month = 31 * 86_400
    groups, _ = due(changed(alert("over"), resolved(alert("over"), 9), alert("open")), [CHAT], at(10))
    groups, _ = due(changed(alert("new", month), groups=groups), [CHAT], at(month + 5))
    assert set(groups["orders"].alerts) == {"open", "new"}


# --- the alert log, read back


def live(steps: Sequence[tuple[float, Alert | None]]) -> tuple[Groups, list[AlertEvent], list[Notification]]:
    """What the notifier does at these instants: take an alert in, and tell what is due. Its log, and what it told."""
    groups: Groups = {}
    log: list[AlertEvent] = []
    owed: list[Notification] = []
    for seconds, each in steps:
        now, read_at = at(seconds), after(seconds)
        if each is not None and is_news(groups, each):
            groups = _take(
                groups, log, AlertEvent(AlertEventKind.CHANGED, each.group, read_at, _origin(log), alert=each)
            )
        groups, due_now = due(groups, [CHAT, PAGER], now)
        for one in due_now:
            entry = AlertEvent(AlertEventKind.NOTIFY, one.group, read_at, _origin(log), notification=one)
            groups = _take(groups, log, entry)
        owed += due_now
    return groups, log, owed


def _take(groups: Groups, log: list[AlertEvent], entry: AlertEvent) -> Groups:
    log.append(entry)
    return grouping.replay(groups, entry, at((entry.at - NOON).total_seconds()), WAIT)


def _origin(log: list[AlertEvent]) -> Origin:
    return Origin("notifier@test", len(log))


def read_back(log: Sequence[AlertEvent]) -> Groups:
    groups: Groups = {}
    for entry in log:
        groups = grouping.replay(groups, entry, at((entry.at - NOON).total_seconds()), WAIT)
    return groups


ALERTS = st.builds(
    lambda name, group, severity, state, title: alert(
        f"{group}/{name}", group=group, severity=severity, state=state, title=title
    ),
    st.sampled_from("abc"),
    st.sampled_from(["orders", "carts"]),
    st.sampled_from(Severity),
    st.sampled_from(AlertState),
    st.sampled_from(["one", "two"]),
)
STEPS = st.lists(st.tuples(st.floats(0, 4), st.none() | ALERTS), max_size=30)


def _at_increasing_times(steps: list[tuple[float, Alert | None]]) -> list[tuple[float, Alert | None]]:
    placed: list[tuple[float, Alert | None]] = []
    clock = 0.0
    for pause, each in steps:
        clock += pause
        placed.append((clock, None if each is None else _at(each, clock)))
    return placed


def _at(each: Alert, seconds: float) -> Alert:
    return alert(
        each.id,
        seconds,
        group=each.group,
        severity=each.severity,
        state=each.state,
        title=each.title,
    )


@given(STEPS, st.integers(0, 30))
def test_the_log_read_back_goes_on_as_if_there_had_been_no_restart(
    steps: list[tuple[float, Alert | None]], crash: int
) -> None:
    placed = _at_increasing_times(steps)
    groups, log, _ = live(placed[:crash])
    again = read_back(log)
    later = at(timedelta(days=1).total_seconds())
    # A group that had nobody to tell counts on in memory only; what it tells next is numbered by what the log knows.
    whole, restarted = due(groups, [CHAT, PAGER], later)[1], due(again, [CHAT, PAGER], later)[1]
    assert [n.alerts for n in whole] == [n.alerts for n in restarted]
    assert [n.id for n in whole] == [n.id for n in restarted], "chat hears of all, so every number is in the log"


@given(STEPS)
def test_every_change_is_told_to_who_hears_of_all_and_no_id_is_given_twice(
    steps: list[tuple[float, Alert | None]],
) -> None:
    placed = [*_at_increasing_times(steps), (10_000.0, None)]
    groups, log, owed = live(placed)
    chat = [n for n in owed if n.receiver == "chat"]
    last: dict[str, Alert] = {a.id: a for n in chat for a in n.alerts}
    assert last == {e.alert.id: e.alert for e in log if e.alert is not None}, "the last told is the last that was"
    assert len({n.id for n in owed}) == len(owed)
    assert all(group.untold == () for group in groups.values())
