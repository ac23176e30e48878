"""Recorded samples -> the windows that the detector would have judged, through the very same intake."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from detector.core.intake import WIDTH, WINDOW, Intake
from detector.core.ring import Floats32, Slots
from detector.core.scoring import Smoothed
from detector.core.stream import rounds
from detector.core.table import columns


@dataclass(frozen=True, slots=True)
class Recorded:
    """Scaled windows [n, WINDOW, F] in order of time, and whose each is [n]."""

    windows: Floats32
    slots: Slots

    def split(self, held_out: float) -> tuple["Recorded", "Recorded"]:
        """The earlier part to learn from, and the last share `held_out` (0 to 1) to be judged by: by time, not by dice."""
        cut = round(len(self.windows) * (1 - held_out))
        return Recorded(self.windows[:cut], self.slots[:cut]), Recorded(self.windows[cut:], self.slots[cut:])


def windows_of(frame: pl.DataFrame, gap_seconds: float = 15.0) -> Recorded:
    """The windows of all sites of a recording. One vantage's rows, please."""
    table = columns(frame.sort("at"))
    numbers = {site: number for number, site in enumerate(dict.fromkeys(table.sites))}
    slots = np.array([numbers[site] for site in table.sites], np.intp)
    intake = Intake(len(numbers), gap_seconds)
    taken = [intake.take(slots[rows], table.readings.take(rows), table.gauges[rows]) for rows in rounds(slots)]
    windows = np.concatenate([part.windows for part in taken] or [np.zeros((0, WINDOW, WIDTH), np.float32)])
    order = np.argsort(np.concatenate([part.at for part in taken] or [np.zeros(0, np.int64)]), kind="stable")
    return Recorded(windows[order], np.concatenate([part.slots for part in taken] or [slots])[order])


def smoothed(scores: Floats32, slots: Slots) -> Floats32:
    """Scores [n] in order of time, smoothed site by site as the detector does."""
    smooth = Smoothed(int(slots.max(initial=0)) + 1)
    found = np.full(len(scores), np.nan, np.float32)
    for rows in rounds(slots):
        known = rows[np.isfinite(scores[rows])]
        found[known] = smooth.add(slots[known], scores[known])
    return found
