"""When sites are due: evenly spread, never twice the same, none made up for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.pacing import next_due, phases

INTERVALS = st.floats(0.05, 60)
INSTANTS = st.floats(0, 1e9)


@given(st.integers(1, 2000), INTERVALS)
def test_sites_are_spread_evenly_over_the_interval(count: int, interval: float) -> None:
    given_phases = phases(count, interval)
    assert given_phases[0] == 0
    assert all(0 <= phase < interval for phase in given_phases)
    gaps = [later - earlier for earlier, later in zip(given_phases, [*given_phases[1:], interval], strict=True)]
    assert gaps == pytest.approx([interval / count] * count)


def test_no_sites_have_no_turns() -> None:
    assert phases(0, 1.0) == []


@given(INSTANTS, st.floats(0, 1), INTERVALS)
def test_the_next_due_is_after_now_and_within_one_interval(now: float, share: float, interval: float) -> None:
    due = next_due(now, share * interval, interval)
    assert now < due <= now + interval + 1e-6 * max(1.0, now * 1e-6)


@given(INSTANTS, st.floats(0, 1), INTERVALS)
def test_who_asks_again_at_its_turn_gets_the_one_after(now: float, share: float, interval: float) -> None:
    first = next_due(now, share * interval, interval)
    assert next_due(first, share * interval, interval) - first == pytest.approx(interval, rel=1e-5)


def test_turns_that_were_missed_are_left_out() -> None:
    assert next_due(17.3, 0.5, 1.0) == 17.5
    assert next_due(17.6, 0.5, 1.0) == 18.5
