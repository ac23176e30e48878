"""The embedded log's SQLite file, one connection, blocking: what `embedded` runs on its threads.

One sequence numbers all records, whatever their topic: it is the order in which they were appended, a record's offset, and
never given twice. Every change is one `BEGIN IMMEDIATE` transaction, so writers of several processes take turns and a
reader sees whole transactions only. A compacted topic holds one record a key: the next one replaces it.
"""

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from redis_agent.clock import boot_microseconds
from redis_agent.errors import ConfigurationError, Fenced, LogUnavailable, RecordTooLarge
from redis_agent.log import MAX_RECORD_BYTES, Delivered, Outgoing, Start
from redis_agent.log.balance import Slot
from redis_agent.log.log_file import LogFile, translated
from redis_agent.log.log_time import Ticks, from_microseconds
from redis_agent.log.packing import Packer, headers_from, headers_to
from redis_agent.topics import Topic, TopicName, partition_of

PARTITIONS = 4
"""Of what is keyed by instance, where the configuration doesn't say."""
_COLUMNS = "topic, partition, seq, at, key, headers, codec, value"


class Store(LogFile):
    """The log in the file, which is there, or made with `create`. Not for two threads at once."""

    def __init__(
        self,
        path: Path,
        patience_seconds: float,
        every_commit_synced: bool = False,
        ticks: Ticks = boot_microseconds,
        *,
        create: bool = False,
    ) -> None:
        self._packer = Packer()  # first: a disk that is full rolls back while the file is made
        super().__init__(path, patience_seconds, every_commit_synced, ticks, create=create)
        self._topics: dict[str, tuple[int, int, bool]] = {}  # id, partitions, whether it is compacted
        self._names: dict[int, TopicName] = {}

    def rolled_back(self) -> None:
        self._packer.forget()

    # --- topics

    def prepare(self, topics: Sequence[Topic], partitions: int | None) -> None:
        """Make the topics exist. `partitions`: of what is keyed by instance, as configured; None: as the log was made.

        Raises ConfigurationError when the log was made with another number.
        """
        with self.transaction() as db:
            made = db.execute("SELECT partitions FROM made").fetchone()
            if made is None:
                made = (partitions or PARTITIONS,)
                db.execute("INSERT INTO made VALUES (?)", made)
            if partitions not in (None, made[0]):
                raise ConfigurationError(
                    [
                        f"log.embedded.partitions: {partitions}, but {self.path} was made with {made[0]}; write"
                        f" {made[0]} or leave it out, or begin another log under log.embedded.path"
                    ]
                )
            db.executemany(
                "INSERT OR IGNORE INTO topics (name, partitions, compacted) VALUES (?, ?, ?)",
                [(topic.name, topic.partitions or made[0], topic.compacted) for topic in topics],
            )

    def _topic(self, name: str) -> tuple[int, int, bool]:
        if name not in self._topics:
            rows = self.rows("SELECT id, partitions, compacted FROM topics WHERE name = ?", name)
            if not rows:
                raise LogUnavailable(f"log {self.path}: topic {name} doesn't exist yet")
            number, partitions, compacted = rows[0]
            self._topics[name] = number, partitions, bool(compacted)
            self._names[number] = TopicName(name)
        return self._topics[name]

    def number(self, topic: TopicName) -> int:
        """The topic's number in this file. Raises LogUnavailable for one that wasn't prepared yet."""
        return self._topic(topic)[0]

    def partitions(self, topic: TopicName) -> int:
        """How many partitions the topic has. Raises LogUnavailable for one that wasn't prepared yet."""
        return self._topic(topic)[1]

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

    def insert(self, db: sqlite3.Connection, records: Sequence[Outgoing]) -> None:
        """Append inside the caller's transaction. Raises RecordTooLarge."""
        at = self._time.now()
        for record in records:
            _measure(record)
            topic, partitions, compacted = self._topic(record.topic.name)
            partition = partition_of(record.key if record.spread is None else record.spread, partitions)
            packed = self._packer.packed(db, topic, record.value)
            kept = db.execute(
                "INSERT INTO records (topic, partition, at, key, headers, codec, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (topic, partition, at, record.key, headers_to(record.headers), *packed),
            )
            if compacted:
                _supersede(db, topic, record.key, kept.lastrowid or 0)

    def append(self, records: Sequence[Outgoing], writer: tuple[str, int] | None) -> None:
        """One transaction of records, by a named writer if given."""
        with self.transaction() as db:
            check_writer(db, writer)
            self.insert(db, records)

    # --- reading

    def fetch(self, positions: dict[Slot, int], limit: int) -> list[Delivered]:
        """Up to `limit` records from `positions` on, in the order in which they were appended; moves the positions."""
        if not positions:
            return []
        with translated(self.path):
            slots = [value for (name, p), nxt in positions.items() for value in (self.number(TopicName(name)), p, nxt)]
            rows = self._db.execute(_reading(len(positions)), (*slots, limit)).fetchall()
            found = [self._delivered(row) for row in rows]
        for record in found:
            positions[(record.topic, record.partition)] = record.offset + 1
        return found

    def _delivered(self, row: tuple[int, int, int, int, str, str, int, bytes]) -> Delivered:
        topic, partition, seq, at, key, headers, codec, value = row
        whole = self._packer.value(self._db, codec, value)
        return Delivered(self._names[topic], partition, seq, from_microseconds(at), key, whole, headers_from(headers))

    def head(self) -> int:
        """The least offset that the next record can have."""
        rows = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'records'")
        return int(rows[0][0]) + 1 if rows else 1

    def ends(self, slots: Sequence[Slot]) -> dict[Slot, int]:
        """Of each partition the offset after its last record; 0 where there is none."""
        asked = "SELECT max(seq) FROM records WHERE topic = ? AND partition = ?"
        lasts = {slot: self.rows(asked, self.number(TopicName(slot[0])), slot[1])[0][0] for slot in slots}
        return {slot: 0 if last is None else int(last) + 1 for slot, last in lasts.items()}

    def first(self, start: Start | timedelta) -> int:
        """The offset from which a reader that starts there reads."""
        if start is Start.NOW:
            return self.head()
        return 0 if isinstance(start, Start) else self._since(self.now() - start // timedelta(microseconds=1))

    def _since(self, at: int) -> int:
        """The first offset at that time or later. Offsets and times rise together, so it is found by halving."""
        low, high = 0, self.head()
        while low < high:
            middle = (low + high) // 2
            rows = self.rows("SELECT seq, at FROM records WHERE seq >= ? ORDER BY seq LIMIT 1", middle)
            if not rows or rows[0][1] >= at:
                high = middle
            else:
                low = int(rows[0][0]) + 1
        return low


def _reading(slots: int) -> str:
    """The query that reads so many partitions at once, merged by SQLite without sorting."""
    one = f"SELECT {_COLUMNS} FROM records WHERE topic = ? AND partition = ? AND seq >= ?"  # noqa: S608 - a constant
    return " UNION ALL ".join([one] * slots) + " ORDER BY seq LIMIT ?"


def _supersede(db: sqlite3.Connection, topic: int, key: str, seq: int) -> None:
    """The record of that number is its key's newest; the one before goes."""
    before = db.execute("SELECT seq FROM latest WHERE topic = ? AND key = ?", (topic, key)).fetchone()
    if before is not None:
        db.execute("DELETE FROM records WHERE seq = ?", before)
    db.execute("INSERT OR REPLACE INTO latest VALUES (?, ?, ?)", (topic, key, seq))


def is_writer(db: sqlite3.Connection, writer: tuple[str, int]) -> bool:
    """Whether nobody newer took the name."""
    name, epoch = writer
    row = db.execute("SELECT epoch FROM writers WHERE name = ?", (name,)).fetchone()
    return row is not None and row[0] == epoch


def check_writer(db: sqlite3.Connection, writer: tuple[str, int] | None) -> None:
    """Raises Fenced when a newer writer took the name."""
    if writer is not None and not is_writer(db, writer):
        raise Fenced(f"writer {writer[0]!r} was taken over by a newer process; this one must not write again")


def _measure(record: Outgoing) -> None:
    if len(record.value) > MAX_RECORD_BYTES:
        raise RecordTooLarge(
            f"a record of {len(record.value)} bytes for {record.topic.name} exceeds the limit of {MAX_RECORD_BYTES} bytes"
        )
