"""How records travel: a small Protocol, and what a delivery promises.

Promises, the same for every implementation (`tests/conformance` holds both to them):

- **Order**: records of one partition are read in the order in which they were appended; a key has one partition.
- **Durability**: when `append` or `commit` returns, the records survive the death of the writing process.
- **Groups**: a partition is read by one live member of a group at a time; when members come and go, partitions move.
- **Atomicity**: `Member.commit(outputs)` makes the positions of all that was read and the outputs visible together, or
  not at all. What was read but not committed is read again, by this member or by another.
- **Fencing**: opening a writer name again fences the earlier holder: its next write raises `Fenced` and writes nothing.
- **Patience**: a log that is away raises `LogUnavailable` after a deadline; nothing acknowledged is lost by it.

No other code may tell which implementation is below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from redis_agent.topics import ALL, Topic, TopicName

MAX_RECORD_BYTES = 16 * 1024 * 1024

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to append. Its partition comes from `spread` (hashed), or from `key` when `spread` is None."""

    topic: Topic
    key: str
    value: bytes
    headers: Headers = ()
    spread: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """A record as it was read."""

    topic: TopicName
    partition: int
    offset: int
    at: datetime
    """When the log took it, by the log's own clock (see `Log.now`)."""
    key: str
    value: bytes
    headers: Headers
    unread: timedelta | None = None
    """How long it stood in the log at most before a cursor gave it; None when the cursor had not stood at the end yet."""

    def header(self, name: str) -> str | None:
        """The last header of that name as text, or None."""
        for key, value in reversed(self.headers):
            if key == name:
                return value.decode(errors="replace")
        return None


class Start(Enum):
    """Where a reader without a committed position begins."""

    BEGINNING = "beginning"
    NOW = "now"


class Writer(Protocol):
    """Appends records. With a name it is fenced by the next writer of that name."""

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Append all, in order; returns when all are durable. A named writer's records appear together or not at all.

        Raises RecordTooLarge, Fenced (nothing was written), LogUnavailable (unknown: they may be there or yet appear).
        """

    async def close(self) -> None:
        """Give back what it holds. Safe twice."""


class Member(Protocol):
    """A member of a group: reads what its partitions hold, and binds what it writes to what it read.

    One that doesn't read for half a minute may lose its partitions to others, and with them what it hasn't committed.
    """

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        """Up to `limit` records after the position; waits up to `timeout` seconds for the first.

        A cancelled read has read nothing. Raises LogUnavailable, Fenced.
        """

    async def commit(self, outputs: Sequence[Outgoing] = ()) -> None:
        """Make the positions of all that was read and `outputs` durable and visible, together.

        Raises Rebalanced, RecordTooLarge, Fenced: nothing was kept, and what was read is given again. LogUnavailable:
        unknown; the next read finds out and goes on from there, so outputs are made anew from what it gives, and state
        that was built from this batch must be built anew as after a restart.
        """

    async def rewind(self) -> None:
        """Forget what was read since the last commit; the next read gives it again."""

    async def close(self) -> None:
        """Leave the group. Safe twice."""


class Cursor(Protocol):
    """A reader without a group: every record of its topics, from a start on."""

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        """Up to `limit` records after the last; waits up to `timeout` seconds for the first.

        Returns early when it finds the cursor caught up. A cancelled read has read nothing. Raises LogUnavailable.
        """

    @property
    def caught_up(self) -> bool:
        """True once everything that the log held when this cursor was opened was read."""

    async def close(self) -> None:
        """Give back what it holds. Safe twice."""


class Log(Protocol):
    """A log of topics."""

    async def prepare(self, topics: Sequence[Topic] = ALL) -> None:
        """Make the topics exist, all of `redis_agent.topics` by default. Idempotent.

        Raises LogUnavailable, and ConfigurationError for a log that was made with another number of partitions.
        """

    async def partitions(self, topic: Topic) -> int:
        """How many partitions the topic has. Raises LogUnavailable when it doesn't exist yet."""

    async def now(self) -> datetime:
        """The log's own time: what records appended now will say, or a little before it. Raises LogUnavailable.

        Ages of records are differences to this. Nobody's wall clock has a part in it but the log's own.
        """

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        """A writer. With a name, earlier holders of that name are fenced before this returns.

        What can't be handed over within the `patience` (by default the log's) is given up with LogUnavailable.
        """

    async def member(self, group: str, topics: Sequence[Topic], start: Start, name: str) -> Member:
        """Join a group. `name` is the writer name of its commits: unique to this member, kept over its restarts."""

    async def cursor(self, topics: Sequence[Topic], start: Start | timedelta) -> Cursor:
        """Read topics without a group, from the beginning, from now, or from so long ago by the log's own clock on."""

    async def close(self) -> None:
        """Close what is left open. Safe twice."""
