"""The embedded log's SQLite file and one connection to it: made once, with its format and its time; transactions; errors as ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis_agent.clock import boot_microseconds
from redis_agent.errors import LogUnavailable, Permanent
from redis_agent.log.log_time import LogTime, Ticks, begin, begun
from redis_agent.log.packing import TABLES

FORMAT = 2
SCHEMA = f"""
CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL, compacted INTEGER NOT NULL);
CREATE TABLE records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, partition INTEGER NOT NULL, at INTEGER NOT NULL,
    key TEXT NOT NULL, headers TEXT NOT NULL, codec INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX by_partition ON records (topic, partition);
CREATE TABLE latest (topic INTEGER, key TEXT, seq INTEGER NOT NULL, PRIMARY KEY (topic, key)) WITHOUT ROWID;
CREATE TABLE made (partitions INTEGER NOT NULL);
CREATE TABLE clock (boot TEXT NOT NULL, ahead INTEGER NOT NULL, seen INTEGER NOT NULL);
CREATE TABLE sweeps (at INTEGER NOT NULL);
CREATE TABLE writers (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE positions (
    grp TEXT, topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE members (
    grp TEXT, member TEXT, topics TEXT NOT NULL, deadline REAL NOT NULL, PRIMARY KEY (grp, member)) WITHOUT ROWID;
CREATE TABLE claims (
    grp TEXT, topic TEXT, partition INTEGER, member TEXT NOT NULL, PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
{TABLES}
PRAGMA user_version = {FORMAT};
"""
_DISK_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as fault:
        full = getattr(fault, "sqlite_errorname", "") in _DISK_FULL
        right = (
            "; the disk is full: free some space there, or bound the log with log.embedded.max_bytes" if full else ""
        )
        raise LogUnavailable(f"log {path}: {fault}{right}") from fault
    except sqlite3.DatabaseError as fault:
        raise Permanent(
            f"{path} is not a redis-agent log ({fault}); name another file under log.embedded.path"
        ) from fault


class LogFile:
    """One connection to the file, which is there, or made with `create`. Not for two threads at once."""

    def __init__(
        self,
        path: Path,
        patience_seconds: float,
        every_commit_synced: bool = False,
        ticks: Ticks = boot_microseconds,
        *,
        create: bool = False,
    ) -> None:
        self.path = path
        self._ticks = ticks
        with translated(path):
            self._look_for(create)
            self._db = sqlite3.connect(
                path, timeout=patience_seconds, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            try:
                self._time = self._begin(every_commit_synced)
            except BaseException:
                self._db.close()
                raise

    def _look_for(self, create: bool) -> None:
        try:
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            elif not self.path.exists():
                raise LogUnavailable(f"log {self.path}: nobody made it yet")
        except OSError as fault:
            raise LogUnavailable(f"log {self.path}: {fault.strerror}") from fault

    def _begin(self, every_commit_synced: bool) -> LogTime:
        self._db.execute("PRAGMA journal_mode=WAL")
        # NORMAL survives the death of any process; FULL also a loss of power. Journals that guard an action get FULL.
        self._db.execute(f"PRAGMA synchronous={'FULL' if every_commit_synced else 'NORMAL'}")
        if self._format() != FORMAT:
            self._make()
        return begun(self._db, self._ticks) or self._begin_time()

    def _format(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _make(self) -> None:
        with self._locked():
            if self._format() == FORMAT:
                return  # another process made it meanwhile
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise Permanent(
                    f"log {self.path} has format {self._format()}, this version reads {FORMAT}:"
                    " move it away, or name another file under log.embedded.path"
                )
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)

    def _begin_time(self) -> LogTime:
        with self._locked():
            return begun(self._db, self._ticks) or begin(self._db, self._ticks)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            self.rolled_back()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all or nothing. Raises LogUnavailable when the file stays locked."""
        with translated(self.path), self._locked():
            yield self._db

    def version(self) -> int:
        """Changes whenever another connection committed something."""
        with translated(self.path):
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def rows(self, query: str, *values: str | int) -> list[Any]:
        """What a query gives, all of it."""
        with translated(self.path):
            return self._db.execute(query, values).fetchall()

    def now(self) -> int:
        """The log's own time in microseconds."""
        return self._time.now()

    def rolled_back(self) -> None:
        """A transaction was rolled back: what was read in it may not be so."""

    def close(self) -> None:
        """Close the connection. Safe twice."""
        self._db.close()
