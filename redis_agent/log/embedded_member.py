"""A member's place in a group of the embedded log: which partitions are its own, and how far it has read them.

Partitions move when their holder lets them go, which it does between reads, or when its session ran out. Claims only
spare members from working twice; that work counts once is decided by the positions, which a commit moves by compare
and swap: a member that was silent for too long and comes back can no longer commit what another one has done.
"""

import sqlite3
from collections.abc import Sequence

from redis_agent.clock import boot_seconds
from redis_agent.errors import LogUnavailable, Rebalanced
from redis_agent.log import Delivered, Member, Outgoing, Start
from redis_agent.log.balance import Slot, hand_over, share
from redis_agent.log.store import Store, check_writer, is_writer
from redis_agent.log.waiting import Waiting
from redis_agent.topics import Topic, TopicName
from redis_agent.worker_thread import WorkerThread

_View = tuple[dict[str, frozenset[str]], dict[Slot, str]]  # who is in the group and reads which topics; who holds what


class Membership:
    """Blocking. `session_seconds`: how long a member that says nothing keeps its partitions."""

    def __init__(
        self, store: Store, group: str, topics: Sequence[Topic], start: Start, name: str, session_seconds: float
    ) -> None:
        self.store = store
        self.waiting = Waiting(store)
        self._group = group
        self._topics = topics
        self._start = start
        self._name = name
        self._session = session_seconds
        self._epoch = 0
        self._committed: dict[Slot, int] = {}
        self._positions: dict[Slot, int] = {}
        self._before: dict[Slot, int] = {}  # positions before the last read
        self._beat_due = 0.0
        self._seen: _View | None = None
        self._lost_work = False

    def join(self) -> None:
        """Take the name over, fix where the group starts, and claim a share of the partitions."""
        slots = self.store.slots(self._topics)
        self._epoch = self.store.open_writer(self._name)
        # Every partition's, not only the own ones': a group that starts now starts everywhere when its first member joins.
        first = self.store.first(self._start)
        begins = [(self._group, *slot, first) for slot in slots]
        with self.store.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO positions VALUES (?, ?, ?, ?)", begins)
        self._beat()

    # --- reading

    def read(self, limit: int, timeout: float) -> list[Delivered]:
        """As `Member.read`."""
        self._before = dict(self._positions)
        deadline = boot_seconds() + timeout
        while True:
            found = self.waiting.records(lambda: self._fetch(limit), limit, min(deadline, self._beat_due))
            if found or boot_seconds() >= deadline or self.waiting.stopped:
                return found

    def _fetch(self, limit: int) -> list[Delivered]:
        if boot_seconds() >= self._beat_due or self._view() != self._seen:
            self._beat()
        return self.store.fetch(self._positions, limit)

    def unread(self) -> None:
        """Undo the last read, whose records nobody got to see."""
        self.waiting.resume()
        self._positions = {slot: self._before.get(slot, self._committed[slot]) for slot in self._positions}

    def rewind(self) -> None:
        """As `Member.rewind`."""
        self._lost_work = False
        self._positions = dict(self._committed)

    # --- the group

    def _beat(self) -> None:
        """Say that this member lives, drop the ones that don't, let go of what others shall have, take what is free."""
        now = boot_seconds()
        with self.store.transaction() as db:
            check_writer(db, (self._name, self._epoch))
            self._sign(db, now)
            subscriptions, held = self._view()
            mine = hand_over(held, self._shares(subscriptions, held), self._name)
            if mine != {slot for slot, who in held.items() if who == self._name}:
                db.execute("DELETE FROM claims WHERE grp = ? AND member = ?", (self._group, self._name))
                rows = [(self._group, *slot, self._name) for slot in mine]
                db.executemany("INSERT INTO claims VALUES (?, ?, ?, ?)", rows)
            seen, gained = self._view(), self._stored(mine - self._positions.keys())
        self._beat_due = now + self._session / 3
        self._seen = seen
        for slot in self._positions.keys() - mine:
            self._lost_work |= self._positions.pop(slot) != self._committed.pop(slot)
        self._positions |= gained
        self._committed |= gained

    def _sign(self, db: sqlite3.Connection, now: float) -> None:
        topics = ",".join(sorted(topic.name for topic in self._topics))
        row = (self._group, self._name, topics, now + self._session)
        db.execute("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)", row)
        # A deadline further off than any session is from before this machine's last start.
        db.execute(
            "DELETE FROM members WHERE grp = ? AND (deadline < ? OR deadline > ?)",
            (self._group, now, now + 10 * self._session),
        )
        db.execute(
            "DELETE FROM claims WHERE grp = ? AND member NOT IN (SELECT member FROM members WHERE grp = ?)",
            (self._group, self._group),
        )

    def _view(self) -> _View:
        members = self.store.rows("SELECT member, topics FROM members WHERE grp = ?", self._group)
        claims = self.store.rows("SELECT topic, partition, member FROM claims WHERE grp = ?", self._group)
        subscriptions = {member: frozenset(topics.split(",")) for member, topics in members}
        return subscriptions, {(topic, partition): member for topic, partition, member in claims}

    def _shares(self, subscriptions: dict[str, frozenset[str]], held: dict[Slot, str]) -> dict[Slot, str]:
        topics = sorted(set().union(*subscriptions.values()))
        return share(held, {topic: self.store.partitions(TopicName(topic)) for topic in topics}, subscriptions)

    def _stored(self, slots: set[Slot]) -> dict[Slot, int]:
        rows = self.store.rows("SELECT topic, partition, next FROM positions WHERE grp = ?", self._group)
        return {(topic, partition): nxt for topic, partition, nxt in rows if (topic, partition) in slots}

    # --- committing

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
                self.store.insert(db, outputs)
        except Rebalanced:
            self._positions, self._committed, self._seen = {}, {}, None  # all to be asked again
            raise
        except BaseException:
            self.rewind()
            raise
        self._committed |= moved

    def _move(self, db: sqlite3.Connection, slot: Slot, nxt: int) -> None:
        moved = db.execute(
            "UPDATE positions SET next = ? WHERE grp = ? AND topic = ? AND partition = ? AND next = ?",
            (nxt, self._group, *slot, self._committed[slot]),
        )
        if moved.rowcount != 1:
            raise Rebalanced(
                f"group {self._group}: {slot[0]}[{slot[1]}] moved away from {self._name} before the commit"
            )

    def leave(self) -> None:
        """Give the partitions back and close. A fenced member leaves its successor's claims alone."""
        try:
            with self.store.transaction() as db:
                if is_writer(db, (self._name, self._epoch)):
                    db.execute("DELETE FROM members WHERE grp = ? AND member = ?", (self._group, self._name))
                    db.execute("DELETE FROM claims WHERE grp = ? AND member = ?", (self._group, self._name))
        except LogUnavailable:
            pass  # the session runs out by itself
        finally:
            self.store.close()


class EmbeddedMember(Member):
    """A `Membership` on its thread."""

    def __init__(self, membership: Membership, thread: WorkerThread) -> None:
        self._membership = membership
        self._thread = thread
        self.closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        membership = self._membership
        return await self._thread.run_or_undo(
            lambda: membership.read(limit, timeout), membership.unread, interrupt=membership.waiting.stop
        )

    async def commit(self, outputs: Sequence[Outgoing] = ()) -> None:
        await self._thread.run(self._membership.commit, outputs)

    async def rewind(self) -> None:
        await self._thread.run(self._membership.rewind)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            try:
                await self._thread.run(self._membership.leave)
            finally:
                self._thread.close()
