"""A bounded, even sample of the healthy windows since the last training."""

import numpy as np

from detector.core.ring import Floats32


class Reservoir:
    """Keeps every k-th window in order of arrival; when full, every second one goes and k doubles. No dice needed."""

    def __init__(self, room: int, ticks: int, width: int) -> None:
        self._kept = np.zeros((room, ticks, width), np.float32)
        self._size = 0
        self._stride = 1
        self._offered = 0

    def __len__(self) -> int:
        return self._size

    def offer(self, windows: Floats32) -> None:
        """Consider windows [n, ticks, width], oldest first."""
        numbers = self._offered + np.arange(len(windows))
        self._offered += len(windows)
        chosen = windows[numbers % self._stride == 0]
        while len(chosen):
            part = chosen[: len(self._kept) - self._size]
            self._kept[self._size : self._size + len(part)] = part
            self._size += len(part)
            chosen = chosen[len(part) :]
            if self._size == len(self._kept):
                self._thin()
                chosen = chosen[::2]

    def _thin(self) -> None:
        half = self._kept[::2].copy()
        self._size = len(half)
        self._kept[: self._size] = half
        self._stride *= 2

    def windows(self) -> Floats32:
        """What was kept, oldest first (a copy)."""
        return self._kept[: self._size].copy()

    def clear(self) -> None:
        """Begin anew."""
        self._size, self._stride, self._offered = 0, 1, 0
