"""What is owed: when to try again, when to give up, and in which order each receiver hears."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from notifier.core.outbox import Attempt, Fate, Outbox, back_off, ready, replay, settle
from redis_agent.model import AlertEvent, AlertEventKind, Notification, Origin

from .conftest import NOON, alert, at

GIVE_UP = timedelta(hours=1)
TAKEN = Attempt(Fate.DELIVERED, "ok")
NOT_NOW = Attempt(Fate.RETRY, "503")
NEVER = Attempt(Fate.REJECTED, "400")


def owed(number: int = 1, receiver: str = "chat") -> Notification:
    return Notification(f"orders#{number}@{receiver}", "orders", receiver, (alert(),))


def entry(kind: AlertEventKind, one: Notification, attempt: int = 0, *, final: bool = False) -> AlertEvent:
    return AlertEvent(kind, "orders", NOON, Origin("notifier@test", 1), None, one, attempt, "", final)


def outbox_of(*notifications: Notification) -> Outbox:
    outbox: Outbox = {}
    for number, one in enumerate(notifications):
        outbox = replay(outbox, entry(AlertEventKind.NOTIFY, one), at(number))
    return outbox


def test_what_is_owed_is_ready_at_once_and_gone_when_delivered() -> None:
    outbox = outbox_of(owed())
    assert [o.notification.id for o in ready(outbox, at(0))] == ["orders#1@chat"]
    outbox, kind, final = settle(outbox, "orders#1@chat", TAKEN, at(1), GIVE_UP)
    assert (outbox, kind, final) == ({}, AlertEventKind.DELIVERED, True)


def test_each_failure_waits_twice_as_long_up_to_two_minutes() -> None:
    assert [back_off(n).total_seconds() for n in range(9)] == [1, 2, 4, 8, 16, 32, 64, 120, 120]
    assert back_off(10_000) == timedelta(minutes=2)
    outbox, kind, final = settle(outbox_of(owed()), "orders#1@chat", NOT_NOW, at(10), GIVE_UP)
    assert (kind, final) == (AlertEventKind.FAILED, False)
    assert ready(outbox, at(10.9)) == []
    assert len(ready(outbox, at(11))) == 1


def test_a_receiver_that_says_how_long_to_wait_is_obeyed() -> None:
    wait = Attempt(Fate.RETRY, "429", retry_after=timedelta(seconds=30))
    outbox, _, _ = settle(outbox_of(owed()), "orders#1@chat", wait, at(10), GIVE_UP)
    assert ready(outbox, at(39.9)) == []
    assert len(ready(outbox, at(40))) == 1


def test_a_rejection_is_the_end() -> None:
    assert settle(outbox_of(owed()), "orders#1@chat", NEVER, at(1), GIVE_UP) == ({}, AlertEventKind.FAILED, True)


def test_it_is_given_up_when_the_next_try_would_come_too_late() -> None:
    outbox, _, final = settle(outbox_of(owed()), "orders#1@chat", NOT_NOW, at(3598), GIVE_UP)
    assert not final
    outbox, kind, final = settle(outbox, "orders#1@chat", NOT_NOW, at(3599), GIVE_UP)
    assert (outbox, kind, final) == ({}, AlertEventKind.FAILED, True)


def test_of_each_receiver_the_oldest_goes_first_and_the_next_waits_for_it() -> None:
    outbox = outbox_of(owed(1), owed(2), owed(1, "pager"))
    assert [o.notification.id for o in ready(outbox, at(60))] == ["orders#1@chat", "orders#1@pager"]
    outbox, _, _ = settle(outbox, "orders#1@chat", NOT_NOW, at(60), GIVE_UP)
    assert [o.notification.id for o in ready(outbox, at(60))] == ["orders#1@pager"], "the other is not overtaken"
    outbox, _, _ = settle(outbox, "orders#1@chat", TAKEN, at(70), GIVE_UP)
    assert [o.notification.id for o in ready(outbox, at(70))] == ["orders#2@chat", "orders#1@pager"]


def test_the_log_read_back_remembers_the_attempts_and_their_patience() -> None:
    outbox = outbox_of(owed())
    for attempt in (1, 2, 3):
        outbox = replay(outbox, entry(AlertEventKind.FAILED, owed(), attempt), at(10 * attempt))
    assert outbox["orders#1@chat"].attempts == 3
    assert ready(outbox, at(33.9)) == []
    assert len(ready(outbox, at(34))) == 1


def test_the_log_read_back_owes_nothing_that_was_delivered_or_given_up() -> None:
    outbox = outbox_of(owed(1), owed(2))
    outbox = replay(outbox, entry(AlertEventKind.DELIVERED, owed(1)), at(9))
    outbox = replay(outbox, entry(AlertEventKind.FAILED, owed(2), attempt=1, final=True), at(9))
    assert outbox == {}
    assert replay({}, entry(AlertEventKind.FAILED, owed(), attempt=1), at(9)) == {}, "of one that it never knew"
    assert replay({}, AlertEvent(AlertEventKind.CHANGED, "orders", NOON, Origin("n", 1), alert()), at(9)) == {}


ATTEMPTS = st.lists(st.tuples(st.sampled_from([TAKEN, NOT_NOW, NEVER]), st.integers(1, 50)), max_size=20)


@given(ATTEMPTS)
def test_live_and_read_back_agree_on_what_is_owed(attempts: list[tuple[Attempt, int]]) -> None:
    live = outbox_of(owed())
    again = live
    clock = 0
    for attempt, pause in attempts:
        clock += pause
        if "orders#1@chat" not in live:
            break
        number = live["orders#1@chat"].attempts + 1
        live, kind, final = settle(live, "orders#1@chat", attempt, at(clock), GIVE_UP)
        again = replay(again, entry(kind, owed(), number, final=final), at(clock))
        assert live == again
