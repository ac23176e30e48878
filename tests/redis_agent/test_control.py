"""The control topic folded: which record pauses what, and what can't be read pauses rather than not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from redis_agent.control import ControlState
from redis_agent.log import Delivered
from redis_agent.model import ControlRecord, Origin, Pause
from redis_agent.topics import CONTROL, pause_key
from redis_agent.wire import control_to

NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)


def paused(instance: str | None, reason: str = "maintenance", *, on: bool = True) -> Delivered:
    value = control_to(ControlRecord(Origin("cli@here", 1), NOON, "kim", Pause(paused=on, reason=reason)))
    headers = (("schema", CONTROL.schema.encode()),)
    return Delivered(CONTROL.name, 0, 0, NOON, pause_key(instance), value.SerializeToString(), headers)


def resumed(instance: str | None) -> Delivered:
    return paused(instance, on=False)


def state_of(*records: Delivered) -> ControlState:
    state = ControlState()
    for each in records:
        state.note(each)
    return state


def test_nothing_is_paused_at_first() -> None:
    assert ControlState().paused("orders") is None


def test_one_instance_or_the_fleet() -> None:
    state = state_of(paused("orders"))
    assert (state.paused("orders"), state.paused("sessions")) == ("maintenance", None)
    state.note(paused(None, "big maintenance"))
    assert (state.paused("orders"), state.paused("sessions")) == ("big maintenance", "big maintenance")
    state.note(resumed(None))
    assert (state.paused("orders"), state.paused("sessions")) == ("maintenance", None)
    state.note(resumed("orders"))
    assert state.paused("orders") is None


def test_one_without_a_reason_says_so() -> None:
    assert state_of(paused(None, "")).paused("orders") == "no reason given"


@pytest.mark.parametrize("instance", [None, "orders"])
@pytest.mark.parametrize(
    "spoilt",
    [
        lambda r: replace(r, headers=(("schema", b"redis_agent.v2.ControlRecord"),)),
        lambda r: replace(r, value=b"\xff\xff"),
        lambda r: replace(r, headers=()),
        lambda r: replace(r, value=b""),
    ],
    ids=["a newer schema", "no protobuf", "no schema", "empty"],
)
def test_a_switch_that_cannot_be_read_counts_as_set_until_it_is_written_anew(
    spoilt: Callable[[Delivered], Delivered], instance: str | None
) -> None:
    state = state_of(spoilt(resumed(instance)))
    reason = state.paused("orders")
    assert reason is not None and reason.startswith("the switch can't be read")
    assert list(state.unreadable) == [pause_key(instance)]
    state.note(resumed(instance))
    assert (state.paused("orders"), state.unreadable) == (None, {})


def test_a_key_of_a_later_version_is_told_and_pauses_nothing() -> None:
    state = state_of(replace(paused(None), key="leader/controller"))
    assert state.paused("orders") is None
    (told,) = state.unreadable.values()
    assert "'leader/controller'" in told and "none of this version's" in told


def test_what_was_just_written_holds_as_if_it_was_read() -> None:
    state = state_of(replace(paused(None), headers=()))
    state.set(pause_key(None), Pause(paused=True, reason="now"))
    assert (state.paused("orders"), state.unreadable) == ("now", {})
    state.set(pause_key(None), Pause(paused=False, reason=""))
    assert state.paused("orders") is None
