"""Features and their curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.features import COUNTERS, FEATURES, GAUGES, NAMES, Curve, curved, features, natural


def row(rates: dict[str, float], gauges: dict[str, float]) -> dict[str, float]:
    """The natural values of the features that those rates and gauges make; NaN where not known."""
    given_rates = np.array([[rates.get(name, np.nan) for name in COUNTERS]])
    given_gauges = np.array([[gauges.get(name, np.nan) for name in GAUGES]])
    made = natural(features(given_rates, given_gauges).astype(np.float64))[0]
    return dict(zip(NAMES, made.tolist(), strict=True))


def test_rates_and_gauges_come_back_in_their_own_units() -> None:
    found = row({"commands_processed_total": 1234.5}, {"clients_connected": 17, "ping_seconds": 0.004})
    assert found["commands_per_second"] == pytest.approx(1234.5, rel=1e-4)
    assert found["clients_connected"] == pytest.approx(17, rel=1e-4)
    assert found["ping_seconds"] == pytest.approx(0.004, rel=1e-3)


def test_what_is_not_given_is_missing_and_not_zero() -> None:
    found = row({"commands_processed_total": 5}, {})
    assert [name for name, value in found.items() if not np.isnan(value)] == ["commands_per_second"]


def test_the_hit_ratio_is_missing_without_lookups() -> None:
    assert np.isnan(row({"keyspace_hits_total": 0, "keyspace_misses_total": 0}, {})["hit_ratio"])
    assert row({"keyspace_hits_total": 3, "keyspace_misses_total": 1}, {})["hit_ratio"] == pytest.approx(0.75)


def test_memory_has_a_share_only_where_it_has_a_limit() -> None:
    assert np.isnan(row({}, {"memory_used_bytes": 5e6, "memory_max_bytes": 0})["memory_used_share"])
    assert row({}, {"memory_used_bytes": 5e6, "memory_max_bytes": 1e7})["memory_used_share"] == pytest.approx(0.5)


def test_redis_says_minus_one_for_never_and_that_counts_as_zero() -> None:
    assert row({}, {"primary_last_io_seconds": -1})["primary_last_io_seconds"] == 0


@given(st.lists(st.floats(0, 1e12), min_size=len(FEATURES), max_size=len(FEATURES)))
def test_a_curve_can_be_undone_and_keeps_the_order(values: list[float]) -> None:
    there = curved(np.array(values))
    assert natural(there) == pytest.approx(np.array(values), rel=1e-6, abs=1e-6)
    more = curved(np.array(values) * 2 + 1)
    assert (more >= there).all()


def test_every_feature_has_a_name_of_its_own_and_a_positive_floor() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.floor > 0 and (feature.curve is Curve.LINEAR or feature.knee > 0) for feature in FEATURES)
