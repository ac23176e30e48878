"""The embedded log's SQLite file, one connection, blocking: what `embedded` runs on its threads.

Offsets are dense per partition and never reused: `heads` remembers the next one even after retention removed the last
record. Every change is one `BEGIN IMMEDIATE` transaction, so writers of several processes take turns and a reader sees
whole transactions only.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redis_agent.errors import Fenced, LogUnavailable, Permanent, RecordTooLarge
from redis_agent.log import MAX_RECORD_BYTES, Delivered, Headers, Outgoing, Start
from redis_agent.log.balance import Slot
from redis_agent.topics import Topic, TopicName, partition_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads (
    topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, at INTEGER NOT NULL,
    key TEXT NOT NULL, headers TEXT NOT NULL, value BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS by_offset ON records (topic, partition, offset);
CREATE INDEX IF NOT EXISTS by_time ON records (topic, at);
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
_SWEEP_AT_MOST = 5000
_SUPERSEDED_AFTER = timedelta(hours=1)


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
            self._db.execute("PRAGMA journal_mode=WAL")
            # NORMAL survives the death of any process; FULL also a loss of power. Journals that guard an action get FULL.
            self._db.execute(f"PRAGMA synchronous={'FULL' if every_commit_synced else 'NORMAL'}")
            if self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'claims'").fetchone()[0] == 0:
                self._db.executescript(SCHEMA)
        self._partitions: dict[str, int] = {}

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all or nothing. Raises LogUnavailable when the file stays locked."""
        with translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    def version(self) -> int:
        """Changes whenever another connection committed something."""
        with translated(self.path):
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def prepare(self, topics: Sequence[Topic]) -> None:
        """Make the topics exist; a topic that exists keeps its partition count."""
        with self.transaction() as db:
            for topic in topics:
                db.execute("INSERT OR IGNORE INTO topics VALUES (?, ?)", (topic.name, topic.partitions))

    def partitions(self, topic: Topic) -> int:
        """How many partitions the topic has. Raises LogUnavailable for one that wasn't prepared yet."""
        if topic.name not in self._partitions:
            with translated(self.path):
                row = self._db.execute("SELECT partitions FROM topics WHERE name = ?", (topic.name,)).fetchone()
            if row is None:
                raise LogUnavailable(f"log {self.path}: topic {topic.name} doesn't exist yet")
            self._partitions[topic.name] = row[0]
        return self._partitions[topic.name]

    def slots(self, topics: Sequence[Topic]) -> list[Slot]:
        """Every partition of the topics."""
        return [(topic.name, p) for topic in topics for p in range(self.partitions(topic))]

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
                record.key if record.spread is None else record.spread, self.partitions(record.topic)
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
        found.sort(key=lambda record: record.at)
        return found

    def _rows(self, slot: Slot, offset: int, limit: int) -> sqlite3.Cursor:
        return self._db.execute(
            "SELECT topic, partition, offset, at, key, headers, value FROM records"
            " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
            (*slot, offset, limit),
        )

    def head(self, slot: Slot) -> int:
        """The offset that the next record of that partition will have."""
        with translated(self.path):
            row = self._db.execute("SELECT next FROM heads WHERE topic = ? AND partition = ?", slot).fetchone()
        return 0 if row is None else int(row[0])

    def first(self, slot: Slot, start: Start | datetime) -> int:
        """Where a reader that starts at `start` begins."""
        if start is Start.NOW:
            return self.head(slot)
        if start is Start.BEGINNING:
            return 0
        with translated(self.path):
            row = self._db.execute(
                "SELECT offset FROM records WHERE topic = ? AND at >= ? AND partition = ? ORDER BY at, offset LIMIT 1",
                (slot[0], _to_micros(start), slot[1]),
            ).fetchone()
        return self.head(slot) if row is None else int(row[0])

    def claimed(self, group: str, member: str) -> set[Slot]:
        """The partitions that the member holds in the group now."""
        with translated(self.path):
            rows = self._db.execute(
                "SELECT topic, partition FROM claims WHERE grp = ? AND member = ?", (group, member)
            ).fetchall()
        return set(rows)

    # --- keeping house

    def sweep(self, topics: Sequence[Topic], now: datetime) -> int:
        """Remove records that are past their topic's retention, and superseded ones of compacted topics; how many."""
        gone = 0
        for topic in topics:
            with self.transaction() as db:
                gone += db.execute(
                    "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE topic = ? AND at < ? LIMIT ?)",
                    (topic.name, _to_micros(now - topic.kept), _SWEEP_AT_MOST),
                ).rowcount
                if topic.compacted:
                    gone += db.execute(
                        "DELETE FROM records WHERE rowid IN (SELECT old.rowid FROM records old WHERE old.topic = ? AND"
                        " old.at < ? AND EXISTS (SELECT 1 FROM records new WHERE new.topic = old.topic AND"
                        " new.partition = old.partition AND new.key = old.key AND new.offset > old.offset) LIMIT ?)",
                        (topic.name, _to_micros(now - _SUPERSEDED_AFTER), _SWEEP_AT_MOST),
                    ).rowcount
        return gone

    def close(self) -> None:
        """Close the connection. Safe twice."""
        self._db.close()


def check_writer(db: sqlite3.Connection, writer: tuple[str, int] | None) -> None:
    """Raises Fenced when a newer writer took the name."""
    if writer is None:
        return
    name, epoch = writer
    row = db.execute("SELECT epoch FROM writers WHERE name = ?", (name,)).fetchone()
    if row is None or row[0] != epoch:
        raise Fenced(f"writer {name!r} was taken over by a newer process; this one must not write again")


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
