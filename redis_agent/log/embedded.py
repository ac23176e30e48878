"""The embedded log: one SQLite file, several processes, nothing to install.

Every reader and writer has a connection and a thread of its own. A reader that waits asks SQLite's `data_version` every
few milliseconds: one read of shared memory that tells when another process committed, so a record reaches a waiting
reader about one such pause after its commit.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from redis_agent.errors import LogUnavailable, Rebalanced
from redis_agent.log import Cursor, Delivered, Log, Member, Outgoing, Start, Writer
from redis_agent.log.balance import Slot, balance
from redis_agent.log.store import Store, check_writer, monotonic
from redis_agent.log.thread import Lane
from redis_agent.topics import ALL, Topic

T = TypeVar("T", Writer, Member, Cursor)
R = TypeVar("R")

_PAUSE_SECONDS = 0.005
_SWEEP_EVERY_SECONDS = 600.0


class EmbeddedLog(Log):
    """Opens readers and writers of one file. `session_seconds`: how long a silent member keeps its partitions."""

    def __init__(self, path: Path, patience_seconds: float = 5.0, session_seconds: float = 10.0) -> None:
        self._path = path
        self._patience = patience_seconds
        self._session = session_seconds
        self._open: list[Writer | Member | Cursor] = []

    async def prepare(self) -> None:
        lane = Lane("log-prepare")
        try:
            await lane.run(self._prepare)
        finally:
            lane.close()

    def _prepare(self) -> None:
        store = Store(self._path, self._patience)
        try:
            store.prepare(ALL)
        finally:
            store.close()

    async def writer(self, name: str | None = None) -> Writer:
        lane = Lane(f"log-writer-{name or 'plain'}")
        store = await _opened(lane, lambda: Store(self._path, self._patience, every_commit_synced=name is not None))
        fence = None if name is None else (name, await lane.run(store.open_writer, name))
        return self._kept(_Writer(store, lane, fence))

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        lane = Lane(f"log-member-{name}")
        store = await _opened(lane, lambda: Store(self._path, self._patience))
        seat = Seat(store, group, topics, start, name, self._session)
        await _or_close(lane, seat.join)
        return self._kept(_Member(seat, lane))

    async def cursor(self, topics: Sequence[Topic], start: Start | datetime) -> Cursor:
        lane = Lane("log-cursor")
        store = await _opened(lane, lambda: Store(self._path, self._patience))
        slots = await _or_close(lane, lambda: store.slots(topics))
        positions = {slot: await lane.run(store.first, slot, start) for slot in slots}
        ends = {slot: await lane.run(store.head, slot) for slot in slots}
        return self._kept(_Cursor(store, lane, positions, ends))

    def _kept(self, opened: T) -> T:
        self._open.append(opened)
        return opened

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()


async def _opened(lane: Lane, make: Callable[[], Store]) -> Store:
    return await _or_close(lane, make)


async def _or_close(lane: Lane, call: Callable[[], R]) -> R:
    try:
        return await lane.run(call)
    except BaseException:
        lane.close()
        raise


class _Writer(Writer):
    def __init__(self, store: Store, lane: Lane, fence: tuple[str, int] | None) -> None:
        self._store = store
        self._lane = lane
        self._fence = fence
        self._swept = monotonic()
        self._closed = False

    async def append(self, records: Sequence[Outgoing]) -> None:
        await self._lane.run(self._append, records)

    def _append(self, records: Sequence[Outgoing]) -> None:
        now = datetime.now(UTC)
        self._store.append(records, now, self._fence)
        if monotonic() - self._swept > _SWEEP_EVERY_SECONDS:
            self._swept = monotonic()
            self._store.sweep(ALL, now)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._lane.run(self._store.close)
            self._lane.close()


class _Cursor(Cursor):
    def __init__(self, store: Store, lane: Lane, positions: dict[Slot, int], ends: dict[Slot, int]) -> None:
        self._store = store
        self._lane = lane
        self._positions = positions
        self._ends = ends
        self._closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._lane.run(_wait, self._store, lambda: self._store.fetch(self._positions, limit), timeout)

    @property
    def caught_up(self) -> bool:
        return all(self._positions[slot] >= end for slot, end in self._ends.items())

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._lane.run(self._store.close)
            self._lane.close()


def _wait(store: Store, fetch: Callable[[], list[Delivered]], timeout: float) -> list[Delivered]:
    """Fetch, and while that gives nothing, again after each commit of others, until `timeout` seconds have passed."""
    deadline = monotonic() + timeout
    while True:
        seen = store.version()
        if found := fetch():
            return found
        while store.version() == seen:
            if monotonic() >= deadline:
                return []
            time.sleep(_PAUSE_SECONDS)
        if monotonic() >= deadline:
            return []


class Seat:
    """A member's place in its group: which partitions are its own, and how far it has read them. Blocking."""

    def __init__(
        self, store: Store, group: str, topics: Sequence[Topic], start: Start, name: str, session_seconds: float
    ) -> None:
        self.store = store
        self._group = group
        self._topics = topics
        self._start = start
        self._name = name
        self._session = session_seconds
        self._epoch = 0
        self._committed: dict[Slot, int] = {}
        self._positions: dict[Slot, int] = {}
        self._beat_due = 0.0
        self._lost_work = False

    def join(self) -> None:
        """Take the name over and claim a share of the partitions."""
        self._epoch = self.store.open_writer(self._name)
        self._beat()

    def read(self, limit: int, timeout: float) -> list[Delivered]:
        """As `Member.read`."""
        return _wait(self.store, lambda: self._fetch(limit), timeout)

    def _fetch(self, limit: int) -> list[Delivered]:
        if monotonic() >= self._beat_due or self._claims_moved():
            self._beat()
        return self.store.fetch(self._positions, limit)

    def _claims_moved(self) -> bool:
        return self.store.claimed(self._group, self._name) != set(self._positions)

    def _beat(self) -> None:
        """Say that this member lives, drop the ones that don't, and share the partitions out again."""
        now = monotonic()
        slots = self.store.slots(self._topics)
        with self.store.transaction() as db:
            check_writer(db, (self._name, self._epoch))
            db.execute(
                "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)",
                (self._group, self._name, ",".join(t.name for t in self._topics), now + self._session),
            )
            # A deadline further off than a session is from before this machine's last start.
            db.execute(
                "DELETE FROM members WHERE grp = ? AND (deadline < ? OR deadline > ?)",
                (self._group, now, now + 10 * self._session),
            )
            members = [r[0] for r in db.execute("SELECT member FROM members WHERE grp = ?", (self._group,))]
            rows = db.execute("SELECT topic, partition, member FROM claims WHERE grp = ?", (self._group,)).fetchall()
            held = {(topic, partition): member for topic, partition, member in rows}
            given = balance(held, slots, members)
            if given != held:
                db.execute("DELETE FROM claims WHERE grp = ?", (self._group,))
                db.executemany(
                    "INSERT INTO claims VALUES (?, ?, ?, ?)", [(self._group, *slot, who) for slot, who in given.items()]
                )
        self._beat_due = now + self._session / 3
        self._settle({slot for slot, who in given.items() if who == self._name})

    def _settle(self, mine: set[Slot]) -> None:
        for slot in set(self._positions) - mine:
            self._lost_work |= self._positions[slot] != self._committed[slot]
            del self._positions[slot], self._committed[slot]
        for slot in mine - set(self._positions):
            self._committed[slot] = self._positions[slot] = self._position(slot)

    def _position(self, slot: Slot) -> int:
        begin = self.store.first(slot, self._start)
        with self.store.transaction() as db:
            db.execute("INSERT OR IGNORE INTO positions VALUES (?, ?, ?, ?)", (self._group, *slot, begin))
            row = db.execute(
                "SELECT next FROM positions WHERE grp = ? AND topic = ? AND partition = ?", (self._group, *slot)
            ).fetchone()
        return int(row[0])

    def commit(self, outputs: Sequence[Outgoing]) -> None:
        """As `Member.commit`."""
        if self._lost_work:
            self.rewind()
            raise Rebalanced(f"group {self._group}: partitions moved away from {self._name} before the commit")
        moved = {slot: nxt for slot, nxt in self._positions.items() if nxt != self._committed[slot]}
        if not moved and not outputs:
            return
        try:
            with self.store.transaction() as db:
                check_writer(db, (self._name, self._epoch))
                for slot, nxt in moved.items():
                    self._move(db, slot, nxt)
                self.store.insert(db, outputs, datetime.now(UTC))
        except Rebalanced:
            self._positions, self._committed = {}, {}
            raise
        except BaseException:
            self.rewind()
            raise
        self._committed.update(moved)

    def _move(self, db: sqlite3.Connection, slot: Slot, nxt: int) -> None:
        # Compare and swap: whoever else worked on this partition meanwhile moved the position, and this commit is void.
        # Claims only spare members from working twice; that work counts once is decided here.
        moved = db.execute(
            "UPDATE positions SET next = ? WHERE grp = ? AND topic = ? AND partition = ? AND next = ?",
            (nxt, self._group, *slot, self._committed[slot]),
        )
        if moved.rowcount != 1:
            raise Rebalanced(
                f"group {self._group}: {slot[0]}[{slot[1]}] moved away from {self._name} before the commit"
            )

    def rewind(self) -> None:
        """As `Member.rewind`."""
        self._lost_work = False
        self._positions = dict(self._committed)

    def leave(self) -> None:
        """Give the partitions back and close. A fenced member leaves its successor's claims alone."""
        with self.store.transaction() as db:
            row = db.execute("SELECT epoch FROM writers WHERE name = ?", (self._name,)).fetchone()
            if row is not None and row[0] == self._epoch:
                db.execute("DELETE FROM members WHERE grp = ? AND member = ?", (self._group, self._name))
                db.execute("DELETE FROM claims WHERE grp = ? AND member = ?", (self._group, self._name))
        self.store.close()


class _Member(Member):
    def __init__(self, seat: Seat, lane: Lane) -> None:
        self._seat = seat
        self._lane = lane
        self._closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._lane.run(self._seat.read, limit, timeout)

    async def commit(self, outputs: Sequence[Outgoing] = ()) -> None:
        await self._lane.run(self._seat.commit, outputs)

    async def rewind(self) -> None:
        await self._lane.run(self._seat.rewind)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                await self._lane.run(self._seat.leave)
            except LogUnavailable:
                pass  # the session runs out by itself
            finally:
                self._lane.close()
