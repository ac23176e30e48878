"""Scores and thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.scoring import KNOWN, Smoothed, model_input, normalised_error, residuals, scores
from detector.core.threshold import EXTREME, FACTOR, WARM_AFTER, Thresholds

one = np.array([0], np.intp)


def f32(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_a_score_is_the_root_mean_square_of_the_three_largest_residuals() -> None:
    assert scores(f32(0.1, -3, 0, 4, 0.2, 0, 5)[None])[0] == pytest.approx((50 / 3) ** 0.5)


def test_missing_features_weigh_nothing_and_too_few_give_no_score() -> None:
    assert scores(f32(1, 1, 1, 1, 1, 1, np.nan)[None])[0] == pytest.approx(1)
    assert np.isnan(scores(f32(9, 9, 9, 9, 9, np.nan, np.nan)[None])[0])


def test_residuals_are_in_units_of_the_hold_out_error() -> None:
    assert residuals(f32(4, np.nan)[None], f32(1, 1)[None], f32(1.5, 1))[0, 0] == 2
    assert normalised_error(f32(3, np.nan, -3)[:, None], 0.5)[0] == 3
    assert normalised_error(f32(0, 0)[:, None], 0.5)[0] == 0.5


def test_the_model_is_shown_no_gaps_and_no_extremes() -> None:
    assert model_input(f32(np.nan, 9, -9, 1)).tolist() == [0, KNOWN, -KNOWN, 1]


def test_the_first_score_of_a_slot_stands_and_later_ones_are_smoothed() -> None:
    smoothed = Smoothed(2)
    assert smoothed.add(one, f32(10))[0] == 10
    assert smoothed.add(one, f32(0))[0] == pytest.approx(7)
    assert smoothed.add(np.array([1]), f32(4))[0] == 4
    smoothed.forget(one)
    assert smoothed.add(one, f32(2))[0] == 2


def fed(thresholds: Thresholds, values: list[float]) -> None:
    for value in values:
        thresholds.add(one, f32(value), thresholds.limits(one))


def test_a_new_site_is_warming_and_only_an_extreme_score_is_too_much() -> None:
    thresholds = Thresholds(1, 2.0)
    fed(thresholds, [1.0] * (WARM_AFTER - 1))
    assert thresholds.warming(one)[0]
    assert thresholds.limits(one)[0] == pytest.approx(EXTREME * FACTOR * 2.0)
    fed(thresholds, [1.0])
    assert not thresholds.warming(one)[0]
    assert thresholds.limits(one)[0] == pytest.approx(FACTOR * 2.0)


def test_a_site_that_always_scores_high_gets_a_higher_threshold() -> None:
    thresholds = Thresholds(1, 2.0)
    fed(thresholds, [5.0] * WARM_AFTER)
    assert thresholds.limits(one)[0] == pytest.approx(FACTOR * 5.0)


def test_anomalous_ticks_do_not_raise_the_threshold() -> None:
    thresholds = Thresholds(1, 2.0)
    fed(thresholds, [1.0] * 200)
    before = thresholds.limits(one)[0]
    fed(thresholds, [20.0] * 500)
    assert thresholds.limits(one)[0] == before


@given(st.lists(st.floats(0, 30), max_size=200))
def test_a_threshold_is_never_below_the_models_floor(values: list[float]) -> None:
    thresholds = Thresholds(1, 2.0)
    fed(thresholds, values)
    assert thresholds.limits(one)[0] >= np.float32(FACTOR * 2.0)
