"""The recent past of many sites in one array: each slot is a ring of the last `length` rows of `width` numbers.

Slots are reused: `forget` empties one without touching its memory, which the system gives page by page as slots come
into use.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.intp]
Floats32 = NDArray[np.float32]
_PORTION = 128


class Ring:
    """`counts` [slots] is how many rows each slot was ever given since it was last forgotten."""

    def __init__(self, slots: int, length: int, width: int) -> None:
        self._data = np.zeros((slots, length, width), np.float32)
        self._length = length
        self.counts = np.zeros(slots, np.int64)

    def push(self, slots: Slots, rows: Floats32) -> None:
        """Give each slot (all different) its newest row [n, width]."""
        self._data[slots, self.counts[slots] % self._length] = rows
        self.counts[slots] += 1

    def last(self, slots: Slots, ticks: int) -> Floats32:
        """The last rows of each slot, oldest first [n, ticks, width]. Each must have been given that many."""
        places = (self.counts[slots, None] - ticks + np.arange(ticks)) % self._length
        rows: Floats32 = self._data[slots[:, None], places]
        return rows

    def held(self, slots: Slots) -> Floats32:
        """All that each slot holds, in no order, with NaN for rows not given yet [n, length, width]."""
        block = self._data[slots]
        block[np.arange(self._length)[None, :] >= self.counts[slots, None]] = np.nan
        return block

    def forget(self, slots: Slots) -> None:
        """Empty those slots."""
        self.counts[slots] = 0


def portions(slots: Slots) -> Iterator[Slots]:
    """The slots, a hundred or so at a time: all rings of a large fleet at once would cost more memory than the fleet."""
    yield from (slots[at : at + _PORTION] for at in range(0, len(slots), _PORTION))
