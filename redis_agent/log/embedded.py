"""The embedded log: one SQLite file, several processes, nothing to install.

Every reader and writer has a connection and a thread of its own.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from redis_agent.clock import boot_seconds
from redis_agent.log import Cursor, Delivered, Log, Member, Outgoing, Start, Writer
from redis_agent.log.balance import Slot
from redis_agent.log.embedded_member import EmbeddedMember, Membership
from redis_agent.log.log_time import from_microseconds
from redis_agent.log.retention import Retention, Sweeper
from redis_agent.log.store import Store
from redis_agent.log.waiting import Waiting
from redis_agent.topics import ALL, Topic
from redis_agent.worker_thread import WorkerThread

Opened = TypeVar("Opened", "EmbeddedWriter", EmbeddedMember, "EmbeddedCursor")
R = TypeVar("R")


class EmbeddedLog(Log):
    """Opens readers and writers of one file.

    `patience_seconds`: how long to wait for other processes' transactions. `session_seconds`: how long a member that
    says nothing keeps its partitions; a member that comes back under its name gets them at once. `partitions`: of what is
    keyed by instance; None: as the file was made.
    """

    def __init__(
        self,
        path: Path,
        patience_seconds: float = 5.0,
        session_seconds: float = 30.0,
        partitions: int | None = None,
        retention: Retention = Retention(ALL),  # noqa: B008 - a frozen value
    ) -> None:
        self._path = path
        self._patience = patience_seconds
        self._session = session_seconds
        self._wanted = partitions
        self._retention = retention
        self._open: list[EmbeddedWriter | EmbeddedMember | EmbeddedCursor] = []

    async def prepare(self, topics: Sequence[Topic] = ALL) -> None:
        await self._once(lambda store: store.prepare(topics, self._wanted), create=True)

    async def partitions(self, topic: Topic) -> int:
        return await self._once(lambda store: store.partitions(topic.name))

    async def now(self) -> datetime:
        return from_microseconds(await self._once(Store.now))

    async def _once(self, ask: Callable[[Store], R], *, create: bool = False) -> R:
        """What one question to the file gives, on a connection of its own."""
        thread = WorkerThread("log-question")

        def asked() -> R:
            store = Store(self._path, self._patience, create=create)
            try:
                return ask(store)
            finally:
                store.close()

        try:
            return await thread.run(asked)
        finally:
            thread.close()

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        def begin(store: Store) -> tuple[str, int] | None:
            return None if name is None else (name, store.open_writer(name))

        thread = WorkerThread(f"log-writer-{name or 'plain'}")
        seconds = self._patience if patience is None else patience.total_seconds()
        store, fence = await self._begun(thread, begin, name is not None, seconds)
        return self._kept(EmbeddedWriter(store, thread, fence, Sweeper(store, self._retention)))

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        def begin(store: Store) -> Membership:
            membership = Membership(store, group, topics, start, name, self._session)
            membership.join()
            return membership

        thread = WorkerThread(f"log-member-{name}")
        _, membership = await self._begun(thread, begin)
        return self._kept(EmbeddedMember(membership, thread))

    async def cursor(self, topics: Sequence[Topic], start: Start | timedelta) -> Cursor:
        def begin(store: Store) -> tuple[dict[Slot, int], dict[Slot, int]]:
            slots = store.slots(topics)
            first = store.first(start)  # asked first: what is appended meanwhile must not be skipped
            return dict.fromkeys(slots, first), store.ends(slots)

        thread = WorkerThread("log-cursor")
        store, (positions, ends) = await self._begun(thread, begin)
        return self._kept(EmbeddedCursor(store, thread, positions, ends))

    async def _begun(
        self,
        thread: WorkerThread,
        begin: Callable[[Store], R],
        every_commit_synced: bool = False,
        patience_seconds: float | None = None,
    ) -> tuple[Store, R]:
        """A connection on its thread, and what `begin` made of it. Nothing stays open when it raises."""

        def open_() -> tuple[Store, R]:
            store = Store(self._path, patience_seconds or self._patience, every_commit_synced)
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

    def __init__(self, store: Store, thread: WorkerThread, fence: tuple[str, int] | None, sweeper: Sweeper) -> None:
        self._store = store
        self._thread = thread
        self._fence = fence
        self._sweeper = sweeper
        self.closed = False

    async def append(self, records: Sequence[Outgoing]) -> None:
        await self._thread.run(self._append, records)

    def _append(self, records: Sequence[Outgoing]) -> None:
        self._store.append(records, self._fence)
        self._sweeper.step()

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
        self._waiting = Waiting(store)
        self._positions = positions
        self._before = positions
        self._ends = ends
        self._behind = True
        self.closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._thread.run_or_undo(
            lambda: self._read(limit, timeout), self._unread, interrupt=self._waiting.stop
        )

    def _read(self, limit: int, timeout: float) -> list[Delivered]:
        self._before = dict(self._positions)
        found = self._waiting.records(
            lambda: self._store.fetch(self._positions, limit), limit, boot_seconds() + timeout
        )
        if len(found) < limit:
            self._behind = False  # also when retention took the last ones before they were read
        return found

    def _unread(self) -> None:
        self._waiting.resume()
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
