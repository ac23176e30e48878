"""Each site's own normal: a median and a spread for each feature, from what it showed before the tick being judged.

Spread is the largest of IQR / 1.349 (a normal distribution's standard deviation), half the standard deviation (for what is
mostly still and bursts now and then) and the feature's floor.
"""

import numpy as np
from numpy.typing import NDArray

from detector.core.ring import Floats32, Slots

CLIP = 10.0
_IQR_OF_NORMAL = 1.349


class Scales:
    """Median and spread of every slot [slots, F]. A slot is ready once it was measured."""

    def __init__(self, slots: int, floors: Floats32) -> None:
        self._floors = floors
        self._median = np.zeros((slots, len(floors)), np.float32)
        self._spread = np.ones((slots, len(floors)), np.float32)
        self.ready = np.zeros(slots, np.bool_)

    def measure(self, slots: Slots, history: Floats32) -> None:
        """Take the scale of those slots from their history [n, ticks, F]."""
        self._median[slots], self._spread[slots] = measured(history, self._floors)
        self.ready[slots] = True

    def apply(self, slots: Slots, windows: Floats32) -> Floats32:
        """Windows [n, ticks, F] in spreads from the median, clipped at +-10; NaN stays."""
        scaled = (windows - self._median[slots][:, None, :]) / self._spread[slots][:, None, :]
        clipped: Floats32 = np.clip(scaled, -CLIP, CLIP)
        return clipped

    def undo(self, slot: int, row: Floats32) -> Floats32:
        """A scaled row [F] of one slot, back on the features' curves."""
        values: Floats32 = row * self._spread[slot] + self._median[slot]
        return values

    def forget(self, slots: Slots) -> None:
        """Those slots have no scale any more."""
        self.ready[slots] = False


def measured(history: Floats32, floors: Floats32) -> tuple[Floats32, Floats32]:
    """Median and spread [n, F] of a history [n, ticks, F]; NaN in both where a feature was never given."""
    ordered = np.sort(history, axis=1)
    given = np.isfinite(ordered).sum(axis=1)
    low, middle, high = (quantile(ordered, given, q) for q in (0.25, 0.5, 0.75))
    spread = np.maximum((high - low) / _IQR_OF_NORMAL, 0.5 * _deviation(ordered, given))
    return middle, np.maximum(spread, floors)


def quantile(ordered: Floats32, given: NDArray[np.int64], q: float) -> Floats32:
    """The q-quantile along axis 1 of values sorted with NaN last, `given` of each column real; nearest rank below."""
    rank = np.maximum((given - 1) * q, 0).astype(np.intp)
    found: Floats32 = np.take_along_axis(ordered, rank[:, None], axis=1)[:, 0]
    return found


def _deviation(ordered: Floats32, given: NDArray[np.int64]) -> Floats32:
    count = np.maximum(given, 1).astype(np.float32)
    known = np.isfinite(ordered)
    mean = np.sum(ordered, axis=1, where=known) / count
    off = ordered - mean[:, None]
    deviation: Floats32 = np.sqrt(np.sum(off * off, axis=1, where=known) / count)
    return deviation
