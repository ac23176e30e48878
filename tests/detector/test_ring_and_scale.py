"""The recent past of many sites, and their scales."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.core.ring import Ring
from detector.core.scale import CLIP, Scales, measured

one = np.array([0], np.intp)


def filled(values: list[float], length: int) -> Ring:
    ring = Ring(2, length, 1)
    for value in values:
        ring.push(one, np.array([[value]], np.float32))
    return ring


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40), st.integers(1, 12))
def test_a_ring_gives_the_last_rows_oldest_first(values: list[float], length: int) -> None:
    ring = filled(values, length)
    wanted = min(length, len(values))
    assert ring.last(one, wanted)[0, :, 0].tolist() == values[-wanted:]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40), st.integers(1, 12))
def test_what_a_ring_holds_is_what_it_was_given_and_nothing_for_the_rest(values: list[float], length: int) -> None:
    held = filled(values, length).held(one)[0, :, 0]
    assert sorted(held[np.isfinite(held)].tolist()) == sorted(values[-length:])


def test_slots_do_not_mix_and_a_forgotten_one_is_empty() -> None:
    ring = Ring(3, 4, 2)
    ring.push(np.array([2, 0]), np.array([[1, 2], [3, 4]], np.float32))
    assert ring.last(np.array([0, 2]), 1)[:, 0].tolist() == [[3, 4], [1, 2]]
    ring.forget(np.array([2]))
    assert np.isnan(ring.held(np.array([2]))).all()
    assert not np.isnan(ring.held(np.array([0]))[0, 0]).any()


def test_a_scale_is_median_and_spread_but_never_less_than_the_floor() -> None:
    history = np.stack([np.arange(101, dtype=np.float32), np.full(101, 7, np.float32)], axis=1)[None]
    middle, spread = measured(history, np.array([0.5, 0.5], np.float32))
    assert middle[0].tolist() == [50, 7]
    assert 35 < spread[0, 0] < 40
    assert spread[0, 1] == 0.5


def test_a_few_wild_ticks_do_not_move_a_scale_much() -> None:
    calm = np.random.default_rng(1).normal(10, 1, 96).astype(np.float32)
    wild = calm.copy()
    wild[:5] = 16
    floors = np.array([0.1], np.float32)
    (calm_middle, calm_spread), (middle, spread) = (measured(h[None, :, None], floors) for h in (calm, wild))
    assert abs(middle - calm_middle) < 0.3
    assert spread < 1.5 * calm_spread


def test_missing_values_are_left_out_and_a_feature_that_never_came_has_no_scale() -> None:
    history = np.array([[[1, np.nan], [np.nan, np.nan], [3, np.nan], [2, np.nan]]], np.float32)
    middle, spread = measured(history, np.array([0.1, 0.1], np.float32))
    assert middle[0, 0] == 2
    assert np.isnan(middle[0, 1])
    assert np.isnan(spread[0, 1])


def test_scaled_values_are_clipped_and_can_be_undone() -> None:
    scales = Scales(1, np.array([1, 1], np.float32))
    scales.measure(one, np.zeros((1, 4, 2), np.float32))
    scaled = scales.apply(one, np.array([[[3, 1e6]]], np.float32))
    assert scaled[0, 0].tolist() == [3, CLIP]
    assert scales.undo(0, scaled[0, 0]).tolist() == [3, CLIP]
