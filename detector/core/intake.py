"""Rows of one tick -> scaled windows of the sites that can be judged. Causal: a tick is scaled by what came before it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.features import COUNTERS, FLOORS, features
from detector.core.rates import MICROSECONDS, Readings, rates, unread
from detector.core.ring import Floats32, Ring, Slots, portions
from detector.core.scale import Scales

WINDOW = 8
WIDTH = len(FLOORS)
HISTORY = 96
"""Rows of history a site keeps to take its scale from: each of the first, then every fourth tick (6.4 minutes at 1 s)."""
_THIN = 4
_SCALE_AFTER = 8
_SCALE_EVERY = 16


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a tick's rows: scaled windows [n, WINDOW, F] of `slots` [n] at `at` and `wall` [n] (see `Readings`), the
    newest tick's features as they were [n, F], and how many rows were no news."""

    slots: Slots
    at: NDArray[np.int64]
    wall: NDArray[np.int64]
    windows: Floats32
    features: Floats32
    duplicates: int
    late: int


class Intake:
    """Each slot's last reading, recent ticks, history and scale. `gap_seconds`: a longer silence begins a new window."""

    def __init__(self, slots: int, gap_seconds: float) -> None:
        self._last = unread(slots, len(COUNTERS))
        self._recent = Ring(slots, WINDOW, WIDTH)
        self._history = Ring(slots, HISTORY, WIDTH)
        self._ticks = np.zeros(slots, np.int64)
        self._gap = int(gap_seconds * MICROSECONDS)
        self.scales = Scales(slots, FLOORS)

    def take(self, slots: Slots, readings: Readings, gauges: NDArray[np.float64]) -> Taken:
        """One row for each of `slots`, all different."""
        before = self._last.at[slots]
        duplicates, late = int((readings.at == before).sum()), int((readings.at < before).sum())
        if duplicates or late:
            news = np.flatnonzero(readings.at > before)
            slots, readings, gauges = slots[news], readings.take(news), gauges[news]
        values = self._featured(slots, readings, gauges)
        self._recent.push(slots, values)
        ready = self.scales.ready[slots] & (self._recent.counts[slots] >= WINDOW)
        judged = slots[ready]
        windows = self.scales.apply(judged, self._recent.last(judged, WINDOW))
        self._remember(slots, values)
        return Taken(judged, readings.at[ready], readings.wall[ready], windows, values[ready], duplicates, late)

    def _featured(self, slots: Slots, readings: Readings, gauges: NDArray[np.float64]) -> Floats32:
        before = self._last.take(slots)
        self._last.put(slots, readings)
        self._recent.forget(slots[readings.at - before.at > self._gap])
        return features(rates(before, readings), gauges)

    def _remember(self, slots: Slots, values: Floats32) -> None:
        self._ticks[slots] += 1
        ticks = self._ticks[slots]
        kept = (ticks <= HISTORY) | (ticks % _THIN == 0)
        self._history.push(slots[kept], values[kept])
        young = (ticks >= _SCALE_AFTER) & (ticks < 4 * _SCALE_EVERY) & (ticks % _THIN == 0)
        # By slot, so that a fleet that began at once isn't measured at once.
        due = slots[young | ((ticks + slots) % _SCALE_EVERY == 0) & (ticks >= _SCALE_AFTER)]
        for part in portions(due):
            self.scales.measure(part, self._history.held(part))

    def heard_at(self, slots: Slots) -> NDArray[np.int64]:
        """When each slot's last row was taken (microseconds, as `Readings.at`)."""
        return self._last.at[slots]

    def forget(self, slots: Slots) -> None:
        """Those slots are nobody's."""
        self._last.put(slots, unread(len(slots), len(COUNTERS)))
        self._recent.forget(slots)
        self._history.forget(slots)
        self.scales.forget(slots)
        self._ticks[slots] = 0
