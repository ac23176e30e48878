"""Time as this process may use it: one clock for durations, another for what people read.

Durations are measured by the monotonic clock, which no one sets; it goes on while the machine sleeps. The wall clock is for
timestamps alone: it can be wrong, and it jumps. What outlives the process is kept by the log's own time (`log.Log.now`).
"""

import time
from datetime import UTC, datetime, timedelta

from redis_agent.instants import Instant

# On Linux CLOCK_MONOTONIC stands still while the machine sleeps, and what was heard before would look fresh after it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def instant() -> Instant:
    """Now, for durations."""
    return Instant(timedelta(seconds=time.clock_gettime(_CLOCK)))


def wall() -> datetime:
    """Now, for people; UTC."""
    return datetime.now(UTC)


def wall_of(moment: Instant) -> datetime:
    """The moment as people read it, by the wall clock as it is set now."""
    return wall() - (instant() - moment)


def boot_microseconds() -> int:
    """The monotonic clock as whole microseconds: the same for every process of this machine, anew at each of its starts."""
    return time.clock_gettime_ns(_CLOCK) // 1000


def boot_seconds() -> float:
    """The same in seconds."""
    return time.clock_gettime(_CLOCK)
