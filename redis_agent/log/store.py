"""The embedded log's SQLite file, one connection, blocking: what `embedded` runs on its threads.

Offsets are dense per partition and never reused: `heads` remembers the next one even after retention removed the last
record. Every change is one `BEGIN IMMEDIATE` transaction, so writers of several processes take turns and a reader sees
whole transactions only.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis_agent.errors import Fenced, LogUnavailable, Permanent, RecordTooLarge
from redis_agent.log import MAX_RECORD_BYTES, Delivered, Headers, Outgoing, Start
from redis_agent.log.balance import Slot
from redis_agent.log.order import in_time
from redis_agent.topics import Topic, TopicName, partition_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads (
    topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, at INTEGER NOT NULL,
    key TEXT NOT NULL, headers TEXT NOT NULL, value BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS by_offset ON records (topic, partition, offset);
CREATE INDEX IF NOT EXISTS by_time ON records (topic, at, partition, offset);
CREATE TABLE IF NOT EXISTS writers (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    grp TEXT, topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    grp TEXT, member TEXT, topics TEXT NOT NULL, deadline REAL NOT NULL, PRIMARY KEY (grp, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    grp TEXT, topic TEXT, partition INTEGER, member TEXT NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SWEEP_AT_MOST = 5000
_SUPERSEDED_AFTER = timedelta(hours=1)
_PAUSE_SECONDS = 0.005


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as fault:
        raise LogUnavailable(f"log {path}: {fault}") from fault
    except sqlite3.DatabaseError as fault:
        raise Permanent(
            f"{path} is not a redis-agent log ({fault}); name another file under log.embedded.path"
        ) from fault


class Store:
    """One connection to the file. Not for two threads at once."""

    def __init__(self, path: Path, patience_seconds: float, every_commit_synced: bool = False) -> None:
        self.path = path
        with translated(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as fault:
                raise LogUnavailable(f"log {path}: {fault.strerror}") from fault
            self._db = sqlite3.connect(
                path, timeout=patience_seconds, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            try:
                self._begin(every_commit_synced)
            except BaseException:
                self._db.close()
                raise
        self._partitions: dict[str, int] = {}

    def _begin(self, every_commit_synced: bool) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        # NORMAL survives the death of any process; FULL also a loss of power. Journals that guard an action get FULL.
        self._db.execute(f"PRAGMA synchronous={'FULL' if every_commit_synced else 'NORMAL'}")
        if self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'claims'").fetchone()[0] == 0:
            self._db.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all or nothing. Raises LogUnavailable when the file stays locked."""
        with translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise

    def version(self) -> int:
        """Changes whenever another connection committed something."""
        with translated(self.path):
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def rows(self, query: str, *values: str | int) -> list[Any]:
        """What a query gives, all of it."""
        with translated(self.path):
            return self._db.execute(query, values).fetchall()

    def prepare(self, topics: Sequence[Topic]) -> None:
        """Make the topics exist; a topic that exists keeps its partition count."""
        with self.transaction() as db:
            for topic in topics:
                db.execute("INSERT OR IGNORE INTO topics VALUES (?, ?)", (topic.name, topic.partitions))

    def partitions(self, topic: TopicName) -> int:
        """How many partitions the topic has. Raises LogUnavailable for one that wasn't prepared yet."""
        if topic not in self._partitions:
            rows = self.rows("SELECT partitions FROM topics WHERE name = ?", topic)
            if not rows:
                raise LogUnavailable(f"log {self.path}: topic {topic} doesn't exist yet")
            self._partitions[topic] = rows[0][0]
        return self._partitions[topic]

    def slots(self, topics: Sequence[Topic]) -> list[Slot]:
        """Every partition of the topics."""
        return [(topic.name, p) for topic in topics for p in range(self.partitions(topic.name))]

    # --- writing

    def open_writer(self, name: str) -> int:
        """Take a writer name over; the number given fences every earlier holder."""
        with self.transaction() as db:
            row = db.execute(
                "INSERT INTO writers VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (name,),
            ).fetchone()
            return int(row[0])

    def insert(self, db: sqlite3.Connection, records: Sequence[Outgoing], now: datetime) -> None:
        """Append inside the caller's transaction. Raises RecordTooLarge."""
        at = _to_micros(now)
        for record in records:
            _measure(record)
            partition = partition_of(
                record.key if record.spread is None else record.spread, self.partitions(record.topic.name)
            )
            offset = db.execute(
                "INSERT INTO heads VALUES (?, ?, 1) ON CONFLICT (topic, partition) DO UPDATE SET next = next + 1"
                " RETURNING next - 1",
                (record.topic.name, partition),
            ).fetchone()[0]
            db.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
                (record.topic.name, partition, offset, at, record.key, _headers_to(record.headers), record.value),
            )

    def append(self, records: Sequence[Outgoing], now: datetime, writer: tuple[str, int] | None) -> None:
        """One transaction of records, by a named writer if given."""
        with self.transaction() as db:
            check_writer(db, writer)
            self.insert(db, records, now)

    # --- reading

    def fetch(self, positions: dict[Slot, int], limit: int) -> list[Delivered]:
        """Up to `limit` records from `positions` on; moves the positions. The slot read first goes last next time."""
        found: list[Delivered] = []
        with translated(self.path):
            for slot in list(positions):
                room = limit - len(found)
                if room <= 0:
                    break
                batch = [_delivered(row) for row in self._rows(slot, positions[slot], room)]
                if batch:
                    found += batch
                    positions.pop(slot)
                    positions[slot] = batch[-1].offset + 1
        return in_time(found)

    def _rows(self, slot: Slot, offset: int, limit: int) -> sqlite3.Cursor:
        return self._db.execute(
            "SELECT topic, partition, offset, at, key, headers, value FROM records"
            " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
            (*slot, offset, limit),
        )

    def head(self, slot: Slot) -> int:
        """The offset that the next record of that partition will have."""
        rows = self.rows("SELECT next FROM heads WHERE topic = ? AND partition = ?", *slot)
        return int(rows[0][0]) if rows else 0

    def first(self, slot: Slot, start: Start | datetime) -> int:
        """Where a reader that starts at `start` begins."""
        head = self.head(slot)  # asked first: what is appended meanwhile must not be skipped
        if start is Start.NOW:
            return head
        if start is Start.BEGINNING:
            rows = self.rows("SELECT min(offset) FROM records WHERE topic = ? AND partition = ?", *slot)
        else:  # the smallest offset, not the earliest record: clocks go back
            rows = self.rows(
                "SELECT min(offset) FROM records INDEXED BY by_time WHERE topic = ? AND at >= ? AND partition = ?",
                slot[0],
                _to_micros(start),
                slot[1],
            )
        return head if rows[0][0] is None else int(rows[0][0])

    # --- keeping house

    def sweep(self, topics: Sequence[Topic], now: datetime) -> int:
        """Remove records that are past their topic's retention, and superseded ones of compacted topics.

        How many went: no more than SWEEP_AT_MOST a topic and reason, so that writers don't wait long for their turn.
        """
        gone = 0
        for topic in topics:
            with self.transaction() as db:
                gone += db.execute(
                    "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE topic = ? AND at < ? LIMIT ?)",
                    (topic.name, _to_micros(now - topic.kept), SWEEP_AT_MOST),
                ).rowcount
                if topic.compacted:
                    gone += db.execute(
                        "DELETE FROM records WHERE rowid IN (SELECT old.rowid FROM records old WHERE old.topic = ? AND"
                        " old.at < ? AND EXISTS (SELECT 1 FROM records new WHERE new.topic = old.topic AND"
                        " new.partition = old.partition AND new.key = old.key AND new.offset > old.offset) LIMIT ?)",
                        (topic.name, _to_micros(now - _SUPERSEDED_AFTER), SWEEP_AT_MOST),
                    ).rowcount
        return gone

    def close(self) -> None:
        """Close the connection. Safe twice."""
        self._db.close()


def is_writer(db: sqlite3.Connection, writer: tuple[str, int]) -> bool:
    """Whether nobody newer took the name."""
    name, epoch = writer
    row = db.execute("SELECT epoch FROM writers WHERE name = ?", (name,)).fetchone()
    return row is not None and row[0] == epoch


def check_writer(db: sqlite3.Connection, writer: tuple[str, int] | None) -> None:
    """Raises Fenced when a newer writer took the name."""
    if writer is not None and not is_writer(db, writer):
        raise Fenced(f"writer {writer[0]!r} was taken over by a newer process; this one must not write again")


def wait(store: Store, fetch: Callable[[], list[Delivered]], deadline: float) -> list[Delivered]:
    """Fetch, and while that gives nothing, again after each commit of others, until `deadline` on `monotonic`."""
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


def monotonic() -> float:
    """Seconds on the clock that all processes of this machine share since its start."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _measure(record: Outgoing) -> None:
    if len(record.value) > MAX_RECORD_BYTES:
        raise RecordTooLarge(
            f"a record of {len(record.value)} bytes for {record.topic.name} exceeds the limit of {MAX_RECORD_BYTES} bytes"
        )


def _to_micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _headers_to(headers: Headers) -> str:
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers])


def _delivered(row: tuple[str, int, int, int, str, str, bytes]) -> Delivered:
    topic, partition, offset, at, key, headers, value = row
    pairs = tuple((name, text.encode("latin-1")) for name, text in json.loads(headers))
    return Delivered(TopicName(topic), partition, offset, _EPOCH + at * _MICROSECOND, key, value, pairs)
