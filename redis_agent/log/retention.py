"""Removing what is past its time from the embedded log, in steps that hold its lock for a moment only.

One writer at a time sweeps, and only along with its own appends: after each it takes one step, until nothing is left; then
nobody does for a while. Ages are by the log's own time. A log that is bounded in size gives up its oldest samples and votes
first, and nothing else: who must keep more than fits is told, and the log grows.
"""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from redis_agent.clock import boot_seconds
from redis_agent.errors import LogUnavailable
from redis_agent.log.store import Store
from redis_agent.topics import METRICS, OBSERVATIONS, Topic

logger = logging.getLogger(__name__)
EVERY = timedelta(seconds=60)
LOCKED_AT_MOST_SECONDS = 0.010
_STEP = 2000
_MICROSECOND = timedelta(microseconds=1)
_SHED = (METRICS, OBSERVATIONS)
_OLDEST = "SELECT seq, at, key FROM records WHERE topic = ? AND partition = ? ORDER BY seq LIMIT ?"
_Old = tuple[int, int, str]  # offset, topic, key


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: each topic for its time, and no more than so many bytes in all (None: as many as come)."""

    topics: Sequence[Topic]
    max_bytes: int | None = None


class Sweeper:
    """Sweeps for one connection. `step` after each append."""

    def __init__(self, store: Store, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self._active = False
        self._look_at = boot_seconds() + EVERY.total_seconds()
        self._told = False

    def step(self) -> None:
        """One step, if it is time and nobody else sweeps. What goes wrong is the next one's."""
        if not self._active and boot_seconds() < self._look_at:
            return
        try:
            if not self._active:
                self._look_at = boot_seconds() + EVERY.total_seconds()
                self._active = self._claimed()
            if self._active:
                self._active = self.sweep() > 0
        except LogUnavailable as fault:
            self._active = False
            logger.info("not swept now: %s", fault)

    def _claimed(self) -> bool:
        """Whether it is this one's to sweep: nobody did lately."""
        now = self._store.now()
        with self._store.transaction() as db:
            (last,) = db.execute("SELECT max(at) FROM sweeps").fetchone()
            if last is not None and now - last < EVERY // _MICROSECOND // 2:
                return False
            db.execute("DELETE FROM sweeps")
            db.execute("INSERT INTO sweeps VALUES (?)", (now,))
            return True

    def sweep(self) -> int:
        """Remove what a step may; how many records went."""
        old = self._past_their_time()
        if not old and (over := self._too_large()):
            old = self._oldest(_SHED, None, _STEP)
            self._tell(over, len(old))
        return self._remove(old) if old else 0

    def _past_their_time(self) -> list[_Old]:
        found: list[_Old] = []
        for topic in self._retention.topics:
            if len(found) < _STEP:
                before = self._store.now() - topic.kept // _MICROSECOND
                found += self._oldest([topic], before, _STEP - len(found))
        return found

    def _oldest(self, topics: Sequence[Topic], before: int | None, limit: int) -> list[_Old]:
        """The first records of each partition; of those, the ones from before that time."""
        found: list[_Old] = []
        for topic in topics:
            number = self._store.number(topic.name)
            for partition in range(self._store.partitions(topic.name)):
                for many in (1, limit):  # mostly the first one isn't old, and then none is
                    rows = self._store.rows(_OLDEST, number, partition, many)
                    old = [(seq, number, key) for seq, at, key in rows if before is None or at < before]
                    if not old:
                        break
                found += old
        return sorted(found)[:limit]

    def _too_large(self) -> int:
        """By how many bytes the log is larger than it may be; 0 when it isn't."""
        if self._retention.max_bytes is None:
            return 0
        (used,) = self._store.rows(
            "SELECT (page_count - freelist_count) * page_size FROM"
            " pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return max(0, int(used[0]) - self._retention.max_bytes)

    def _tell(self, over: int, going: int) -> None:
        if not self._told:
            self._told = True
            right = "its oldest samples and votes go" if going else "nothing is left that may go; raise the bound"
            logger.warning("log %s is %d bytes over log.embedded.max_bytes: %s", self._store.path, over, right)

    def _remove(self, old: Sequence[_Old]) -> int:
        """As many of these as fit into the time for which the lock may be held."""
        with self._store.transaction() as db:
            until = boot_seconds() + LOCKED_AT_MOST_SECONDS
            for gone, each in enumerate(old, 1):
                _delete(db, *each)
                if boot_seconds() >= until:
                    return gone
        return len(old)


def _delete(db: sqlite3.Connection, seq: int, topic: int, key: str) -> None:
    db.execute("DELETE FROM records WHERE seq = ?", (seq,))
    db.execute("DELETE FROM latest WHERE topic = ? AND key = ? AND seq = ?", (topic, key, seq))
