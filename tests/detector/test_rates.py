"""Counters to rates."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.core.rates import MICROSECONDS, Readings, rates, restarted, unread


def reading(
    seconds: float, counter: float, *, run: int = 7, uptime: float = 1000.0, vantage: int = 3, other: float = 0.0
) -> Readings:
    return Readings(
        np.array([int(seconds * MICROSECONDS)], np.int64),
        np.zeros(1, np.int64),
        np.array([vantage], np.uint64),
        np.array([run], np.uint64),
        np.array([uptime]),
        np.array([[counter, other]]),
    )


def rate(before: Readings, now: Readings) -> float:
    return float(rates(before, now)[0, 0])


def test_a_counter_that_grew_by_thirty_in_two_seconds_grows_by_fifteen_a_second() -> None:
    assert rate(reading(10, 100), reading(12, 130)) == 15


def test_the_first_reading_has_no_rate() -> None:
    assert np.isnan(rates(unread(1, 2), reading(10, 100))).all()


def test_after_a_restart_there_is_no_rate_however_it_shows() -> None:
    before = reading(10, 100)
    for now in (reading(12, 130, run=8), reading(12, 130, uptime=1.0), reading(12, 99), reading(12, 130, other=-1)):
        assert restarted(before, now).all()
        assert np.isnan(rates(before, now)).all()


def test_a_run_id_that_is_not_known_is_no_restart() -> None:
    assert rate(reading(10, 100, run=0), reading(11, 130)) == 30
    assert rate(reading(10, 100), reading(11, 130, run=0)) == 30


def test_two_vantages_are_not_compared() -> None:
    assert np.isnan(rate(reading(10, 100, vantage=1), reading(12, 130, vantage=2)))


def test_a_missing_counter_has_no_rate_and_leaves_the_others_theirs() -> None:
    found = rates(reading(10, 100, other=5), reading(12, np.nan, other=9))
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 2


counters = st.one_of(st.floats(0, 1e15), st.just(np.nan))
readings = st.builds(
    reading,
    st.floats(0, 1e6),
    counters,
    run=st.integers(0, 3),
    uptime=st.one_of(st.floats(0, 1e6), st.just(np.nan)),
    vantage=st.integers(1, 2),
    other=counters,
)


@given(readings, readings)
def test_a_rate_is_never_negative_and_never_invented(before: Readings, now: Readings) -> None:
    found = rates(before, now)
    assert not (found < 0).any()
    assert not np.isinf(found).any()
    same = replace(now, at=before.at)
    assert np.isnan(rates(before, same)).all()
    for column in range(2):
        if np.isnan(before.counters[0, column]) or np.isnan(now.counters[0, column]):
            assert np.isnan(found[0, column])
