"""Counters -> rates per second, against the reading before of the same site by the same vantage.

No rate is better than a wrong one: after a restart (another run id, less uptime, any counter fell) and from another
vantage there is none at this tick. It is missing, never negative, and never filled with zero.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Readings:
    """What n sites said at one tick each.

    `at` in microseconds on a line that only goes on, `wall` in microseconds since 1970 as the vantage's wall clock had it
    (for people); `vantage` and `run` tell vantages and runs of the server apart (0: not known), `uptime` in seconds [n],
    `counters` [n, C] as they came. NaN where not given.
    """

    at: NDArray[np.int64]
    wall: NDArray[np.int64]
    vantage: NDArray[np.uint64]
    run: NDArray[np.uint64]
    uptime: Floats
    counters: Floats

    def take(self, rows: NDArray[np.intp]) -> "Readings":
        """Those rows, in that order."""
        return Readings(
            self.at[rows],
            self.wall[rows],
            self.vantage[rows],
            self.run[rows],
            self.uptime[rows],
            self.counters[rows],
        )

    def put(self, rows: NDArray[np.intp], values: "Readings") -> None:
        """Overwrite those rows."""
        self.at[rows], self.wall[rows] = values.at, values.wall
        self.vantage[rows], self.run[rows] = values.vantage, values.run
        self.uptime[rows], self.counters[rows] = values.uptime, values.counters


def unread(rows: int, counters: int) -> Readings:
    """Rows that said nothing yet: no rate follows from them."""
    return Readings(
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.uint64),
        np.zeros(rows, np.uint64),
        np.zeros(rows),
        np.zeros((rows, counters)),
    )


def rates(before: Readings, now: Readings) -> Floats:
    """Per second [n, C]; NaN where there is none."""
    seconds = (now.at - before.at) / MICROSECONDS
    grown = now.counters - before.counters
    comparable = (seconds > 0) & (before.vantage == now.vantage) & ~restarted(before, now)
    known = comparable[:, None] & (grown >= 0)
    found: Floats = np.divide(grown, seconds[:, None], out=np.full(grown.shape, np.nan), where=known)
    return found


def restarted(before: Readings, now: Readings) -> NDArray[np.bool_]:
    """Which of the n servers began anew between the readings [n], or had their counters reset."""
    other_run = (before.run != now.run) & (before.run != 0) & (now.run != 0)
    younger = now.uptime < before.uptime
    fell = (now.counters < before.counters).any(axis=1)
    found: NDArray[np.bool_] = other_run | younger | fell
    return found
