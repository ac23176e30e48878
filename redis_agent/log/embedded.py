"""The embedded log: one SQLite file, several processes, nothing to install.

Every reader and writer has a connection and a thread of its own. A reader that waits asks SQLite's `data_version` every
few milliseconds: one read of shared memory that tells when another process committed, so a record reaches a waiting
reader about one such pause after its commit.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from redis_agent.errors import LogUnavailable
from redis_agent.log import Cursor, Delivered, Log, Member, Outgoing, Start, Writer
from redis_agent.log.balance import Slot
from redis_agent.log.embedded_member import EmbeddedMember, Membership
from redis_agent.log.store import SWEEP_AT_MOST, Store, monotonic, wait
from redis_agent.topics import ALL, Topic
from redis_agent.worker_thread import WorkerThread

Opened = TypeVar("Opened", "EmbeddedWriter", EmbeddedMember, "EmbeddedCursor")
R = TypeVar("R")

_SWEEP_EVERY_SECONDS = 600.0
_SWEEP_AGAIN_SECONDS = 5.0


class EmbeddedLog(Log):
    """Opens readers and writers of one file.

    `patience_seconds`: how long to wait for other processes' transactions. `session_seconds`: how long a member that
    says nothing keeps its partitions; a member that comes back under its name gets them at once.
    """

    def __init__(self, path: Path, patience_seconds: float = 5.0, session_seconds: float = 30.0) -> None:
        self._path = path
        self._patience = patience_seconds
        self._session = session_seconds
        self._open: list[EmbeddedWriter | EmbeddedMember | EmbeddedCursor] = []

    async def prepare(self, topics: Sequence[Topic] = ALL) -> None:
        thread = WorkerThread("log-prepare")
        try:
            await thread.run(self._prepare, topics)
        finally:
            thread.close()

    def _prepare(self, topics: Sequence[Topic]) -> None:
        store = Store(self._path, self._patience)
        try:
            store.prepare(topics)
        finally:
            store.close()

    async def writer(self, name: str | None = None) -> Writer:
        def begin(store: Store) -> tuple[str, int] | None:
            return None if name is None else (name, store.open_writer(name))

        thread = WorkerThread(f"log-writer-{name or 'plain'}")
        store, fence = await self._begun(thread, begin, every_commit_synced=name is not None)
        return self._kept(EmbeddedWriter(store, thread, fence))

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        def begin(store: Store) -> Membership:
            membership = Membership(store, group, topics, start, name, self._session)
            membership.join()
            return membership

        thread = WorkerThread(f"log-member-{name}")
        _, membership = await self._begun(thread, begin)
        return self._kept(EmbeddedMember(membership, thread))

    async def cursor(self, topics: Sequence[Topic], start: Start | datetime) -> Cursor:
        def begin(store: Store) -> tuple[dict[Slot, int], dict[Slot, int]]:
            slots = store.slots(topics)
            return {slot: store.first(slot, start) for slot in slots}, {slot: store.head(slot) for slot in slots}

        thread = WorkerThread("log-cursor")
        store, (positions, ends) = await self._begun(thread, begin)
        return self._kept(EmbeddedCursor(store, thread, positions, ends))

    async def _begun(
        self, thread: WorkerThread, begin: Callable[[Store], R], every_commit_synced: bool = False
    ) -> tuple[Store, R]:
        """A connection on its thread, and what `begin` made of it. Nothing stays open when it raises."""

        def open_() -> tuple[Store, R]:
            store = Store(self._path, self._patience, every_commit_synced)
            try:
                return store, begin(store)
            except BaseException:
                store.close()
                raise

        try:
            return await thread.run(open_)
        except BaseException:
            thread.close()
            raise

    def _kept(self, opened: Opened) -> Opened:
        self._open = [each for each in self._open if not each.closed]
        self._open.append(opened)
        return opened

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()


class EmbeddedWriter(Writer):
    """Appends, and now and then sweeps what is past its time."""

    def __init__(self, store: Store, thread: WorkerThread, fence: tuple[str, int] | None) -> None:
        self._store = store
        self._thread = thread
        self._fence = fence
        self._sweep_due = monotonic() + _SWEEP_EVERY_SECONDS
        self.closed = False

    async def append(self, records: Sequence[Outgoing]) -> None:
        await self._thread.run(self._append, records)

    def _append(self, records: Sequence[Outgoing]) -> None:
        now = datetime.now(UTC)
        self._store.append(records, now, self._fence)
        if monotonic() >= self._sweep_due:
            self._sweep(now)

    def _sweep(self, now: datetime) -> None:
        self._sweep_due = monotonic() + _SWEEP_EVERY_SECONDS
        with suppress(LogUnavailable):  # what was appended is durable; the sweep has its next turn
            if self._store.sweep(ALL, now) >= SWEEP_AT_MOST:
                self._sweep_due = monotonic() + _SWEEP_AGAIN_SECONDS

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self._thread.run(self._store.close)
            self._thread.close()


class EmbeddedCursor(Cursor):
    """Reads on from `positions`; caught up when it has passed `ends`, or found nothing more to read."""

    def __init__(self, store: Store, thread: WorkerThread, positions: dict[Slot, int], ends: dict[Slot, int]) -> None:
        self._store = store
        self._thread = thread
        self._positions = positions
        self._before = positions
        self._ends = ends
        self._behind = True
        self.closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._thread.run_or_undo(lambda: self._read(limit, timeout), self._unread)

    def _read(self, limit: int, timeout: float) -> list[Delivered]:
        self._before = dict(self._positions)
        found = wait(self._store, lambda: self._store.fetch(self._positions, limit), monotonic() + timeout)
        if len(found) < limit:
            self._behind = False  # also when retention took the last ones before they were read
        return found

    def _unread(self) -> None:
        self._positions = self._before
        self._behind = True

    @property
    def caught_up(self) -> bool:
        return not self._behind or all(self._positions[slot] >= end for slot, end in self._ends.items())

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self._thread.run(self._store.close)
            self._thread.close()
