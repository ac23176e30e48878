"""When each site's turn is: spread over the interval, so that no poll waits behind another's answer.

Asking a thousand sites at once reports our own queue as their latency; a paced sweep reports theirs.
"""


def phases(count: int, interval_seconds: float) -> list[float]:
    """Offsets within the interval, one a site, evenly apart."""
    return [interval_seconds * index / count for index in range(count)] if count else []


def next_turn(now: float, phase: float, interval_seconds: float) -> float:
    """The first instant after `now` that is `phase` past a multiple of the interval. Turns that were missed are left out."""
    turns = (now - phase) // interval_seconds + 1
    turn = turns * interval_seconds + phase
    # Rounding may put that at `now` or before it.
    return turn if turn > now else (turns + 1) * interval_seconds + phase
