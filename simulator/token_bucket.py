"""The rate limit that AWS documents: a bucket of tokens, refilled at a constant rate."""

from collections.abc import Callable


class TokenBucket:
    """Full at first. Each request takes one token; `burst` is the most it holds. `clock` tells monotonic seconds."""

    def __init__(self, burst: float, refill_per_second: float, clock: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._refill_per_second = refill_per_second
        self._clock = clock
        self._tokens = float(burst)
        self._counted_at = clock()

    def take(self) -> bool:
        """Takes a token, or says that there is none."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._refill_per_second)
        self._counted_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
