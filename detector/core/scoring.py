"""How unlike the expected a tick is: per-feature residuals in units of the model's hold-out error, then one number.

The number is the root mean square of the three largest residuals, smoothed by an EWMA. The mean over all features would
let one feature at its clip drown in two dozen quiet ones; the maximum follows noise. (On SMD and ASD the mean of the top
three with EWMA was as good as the mean over all or better, the maximum half as good.)
"""

import numpy as np
from numpy.typing import NDArray

from detector.core.ring import Floats32, Slots

TOP = 3
ALPHA = 0.3
FEATURES_AT_LEAST = 6


KNOWN = 4.0
"""Beyond this many spreads a window shows the model nothing that healthy traffic taught it."""


def model_input(windows: Floats32) -> Floats32:
    """Windows [n, ticks, F] as the model is shown them: +-4 spreads, and the median where nothing was observed.

    Residuals are taken from what was observed (+-10 spreads), so the model can't copy an extreme and so explain it.
    """
    shown: Floats32 = np.nan_to_num(np.clip(windows, -KNOWN, KNOWN), nan=0.0)
    return shown


def residuals(observed: Floats32, expected: Floats32, error: Floats32) -> Floats32:
    """(observed - expected) / error [n, F]; NaN where nothing was observed."""
    found: Floats32 = (observed - expected) / error
    return found


def scores(residual: Floats32) -> Floats32:
    """One score a row [n]; NaN where fewer than six features were observed."""
    squares = np.where(np.isfinite(residual), residual * residual, 0)
    top = np.partition(squares, squares.shape[1] - TOP, axis=1)[:, -TOP:]
    enough = np.isfinite(residual).sum(axis=1) >= FEATURES_AT_LEAST
    found: Floats32 = np.where(enough, np.sqrt(top.mean(axis=1)), np.nan).astype(np.float32)
    return found


class Smoothed:
    """The EWMA of each slot's scores. The first score of a slot stands as it is."""

    def __init__(self, slots: int) -> None:
        self._mean = np.zeros(slots, np.float32)
        self._begun = np.zeros(slots, np.bool_)

    def add(self, slots: Slots, score: Floats32) -> Floats32:
        """Note each slot's newest score [n] and give the smoothed ones."""
        before = np.where(self._begun[slots], self._mean[slots], score)
        self._mean[slots] = before + np.float32(ALPHA) * (score - before)
        self._begun[slots] = True
        smooth: Floats32 = self._mean[slots]
        return smooth

    def forget(self, slots: Slots) -> None:
        """Those slots have no score yet."""
        self._begun[slots] = False


def normalised_error(residual: Floats32, floor: float) -> NDArray[np.float32]:
    """The root mean square of hold-out residuals [windows, F] a feature, at least `floor`: what `residuals` divides by."""
    known = np.isfinite(residual)
    squares = np.where(known, residual * residual, 0).sum(axis=0)
    error = np.sqrt(squares / np.maximum(known.sum(axis=0), 1))
    found: NDArray[np.float32] = np.maximum(error, floor).astype(np.float32)
    return found
