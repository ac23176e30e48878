"""How much is too much, for each site: 1.3 times a high quantile of its own past scores, and never below the model's.

Ticks over the threshold are left out, so that an anomaly can't teach its own threshold. A site that has few scores yet is
`warming`: everything below four times the model's threshold counts as its normal, and only more than that as too much.
"""

import numpy as np
from numpy.typing import NDArray

from detector.core.ring import Floats32, Ring, Slots, portions
from detector.core.scale import quantile

QUANTILE = 0.999
FACTOR = 1.3
WARM_AFTER = 60
EXTREME = 4.0
KEPT = 1024
_EVERY = 16


class Thresholds:
    """Each slot's threshold. `floor` is the model's hold-out quantile of smoothed scores."""

    def __init__(self, slots: int, floor: float) -> None:
        self._past = Ring(slots, KEPT, 1)
        self._own = np.zeros(slots, np.float32)
        self._floor = floor

    @property
    def floor(self) -> float:
        """What the model's own hold-out says."""
        return self._floor

    @floor.setter
    def floor(self, floor: float) -> None:
        self._floor = floor

    def warming(self, slots: Slots) -> NDArray[np.bool_]:
        """Which slots have too few scores of their own [n]."""
        found: NDArray[np.bool_] = self._past.counts[slots] < WARM_AFTER
        return found

    def limits(self, slots: Slots) -> Floats32:
        """The threshold of each slot [n]."""
        settled = FACTOR * np.maximum(self._own[slots], self._floor)
        found: Floats32 = np.where(self.warming(slots), EXTREME * FACTOR * self._floor, settled).astype(np.float32)
        return found

    def add(self, slots: Slots, scores: Floats32, limits: Floats32) -> None:
        """Note the scores [n] that are within their limits."""
        calm = scores <= limits
        self._past.push(slots[calm], scores[calm, None])
        counts = self._past.counts[slots[calm]]
        for part in portions(slots[calm][(counts % _EVERY == 0) | (counts == WARM_AFTER)]):
            ordered = np.sort(self._past.held(part), axis=1)
            given = np.minimum(self._past.counts[part], KEPT)[:, None]
            self._own[part] = quantile(ordered, given, QUANTILE)[:, 0]

    def forget(self, slots: Slots) -> None:
        """Those slots have no past."""
        self._past.forget(slots)
        self._own[slots] = 0
