"""The embedded log's own time: it runs while the machine does, and nobody sets it.

It begins with the wall clock at the file's making and goes on with the machine's monotonic clock. When the machine starts
anew it goes on from the newest record, so the time for which it was off doesn't count. A wall clock that jumps, or stands
at 1970 or 2100, therefore ages nothing: what shall be kept for a day is kept for a day of the log's time.
"""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redis_agent.clock import wall

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
Ticks = Callable[[], int]


class LogTime:
    """The time of one file, in microseconds since 1970 as the file counts them. `ticks` is the machine's monotonic clock."""

    def __init__(self, ahead: int, ticks: Ticks) -> None:
        self._ahead = ahead
        self._ticks = ticks

    def now(self) -> int:
        """Never before what any record says."""
        return self._ahead + self._ticks()


def begun(db: sqlite3.Connection, ticks: Ticks) -> LogTime | None:
    """The time of the file if it goes on since this start of the machine; None when it must be begun."""
    row = db.execute("SELECT boot, ahead, seen FROM clock").fetchone()
    # Without a boot id (not Linux) a monotonic clock that went back tells of a new start.
    if row is None or row[0] != boot_id() or ticks() < row[2]:
        return None
    return LogTime(row[1], ticks)


def begin(db: sqlite3.Connection, ticks: Ticks) -> LogTime:
    """Begin it, or go on from the newest record, within the caller's transaction."""
    newest = "SELECT at FROM records WHERE seq = (SELECT max(seq) FROM records)"
    known = [row[0] for query in ("SELECT ahead + seen FROM clock", newest) for row in db.execute(query)]
    start = max(known, default=to_microseconds(wall()))
    seen = ticks()
    db.execute("DELETE FROM clock")
    db.execute("INSERT INTO clock VALUES (?, ?, ?)", (boot_id(), start - seen, seen))
    return LogTime(start - seen, ticks)


def boot_id() -> str:
    """What tells this start of the machine from others; empty where the system doesn't say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def to_microseconds(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(at: int) -> datetime:
    """The instant of so many microseconds since 1970."""
    return _EPOCH + at * _MICROSECOND
