"""When each site is due: spread over the interval, so that no poll waits behind another's answer.

Asking a thousand sites at once reports our own queue as their latency; a paced sweep reports theirs.
"""


def phases(count: int, interval_seconds: float) -> list[float]:
    """Offsets within the interval, one a site, evenly apart."""
    return [interval_seconds * index / count for index in range(count)] if count else []


def next_due(now: float, phase: float, interval_seconds: float) -> float:
    """The first instant after `now` that is `phase` past a multiple of the interval. Those that were missed are left out."""
    rounds = (now - phase) // interval_seconds + 1
    due = rounds * interval_seconds + phase
    # Rounding may put that at `now` or before it.
    return due if due > now else (rounds + 1) * interval_seconds + phase
