"""A member's place in a Kafka group: a consumer, a transactional producer, and what was read since the last commit."""

from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from redis_agent.errors import AgentError, Rebalanced
from redis_agent.log import Delivered, Member, Outgoing, Start
from redis_agent.log.balance import Slot
from redis_agent.log.kafka_client import KafkaSettings, attempt, attempt_patiently, measure, translate
from redis_agent.log.kafka_partitions import Partitions
from redis_agent.log.kafka_reader import Reader
from redis_agent.log.kafka_sender import Sender
from redis_agent.log.order import in_time
from redis_agent.topics import Topic
from redis_agent.worker_thread import WorkerThread

_MOVING_SECONDS = 0.2
_GROUP_IN_USE = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.STALE_MEMBER_EPOCH})


class Membership:
    """Blocking. What was read stays here until it is committed, so that a rewind asks nobody."""

    def __init__(self, settings: KafkaSettings, group: str, name: str, sender: Sender) -> None:
        self._settings = settings
        self._group = group
        self._name = name
        self._lost_work = False
        self._unknown = False  # whether what was read was committed
        self._moving = False  # the coordinator refused a commit for a change that the consumer hasn't heard of yet
        self._read: list[Delivered] = []  # since the last commit
        self._last = 0  # how many of them the last read gave
        self._ahead: list[Delivered] = []  # not given yet
        self._sender = sender
        self._consumer = attempt("opening a consumer", Consumer, settings.member(group))

    def join(self, topics: Sequence[Topic], partitions: Partitions, start: Start) -> None:
        """Fix where the group starts and join it; a share of the partitions comes while reading."""
        self._reader = Reader(self._consumer, topics[0].name, self._settings.patience_seconds, partitions.time)
        if start is Start.NOW:
            self._start_now(partitions.ends(partitions.slots(topics)))
        self._consumer.subscribe([topic.name for topic in topics], on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def _start_now(self, ends: Mapping[Slot, tuple[int, int]]) -> None:
        """Give every partition without a position the present end, for all members that will ever join.

        Done before joining, as a consumer outside the group: the coordinator takes that only while the group is empty.
        When it isn't, its first member has done the same before it joined. So no position of a live group is touched.
        """
        patience = self._settings.patience_seconds
        asked = [TopicPartition(*slot) for slot in ends]
        known = attempt_patiently("joining", patience, self._consumer.committed, asked, patience)
        fresh = [each for each in known if each.offset < 0]
        for each in fresh:
            _, each.offset = ends[(each.topic, each.partition)]
        if not fresh:
            return
        try:
            self._consumer.commit(offsets=fresh, asynchronous=False)
        except KafkaException as fault:
            if fault.args[0].code() not in _GROUP_IN_USE:
                raise translate(fault.args[0], "joining") from fault

    def _on_revoke(self, _consumer: Consumer, lost: list[TopicPartition]) -> None:
        gone = {(partition.topic, partition.partition) for partition in lost}
        self._reader.drop(gone)
        kept = [record for record in self._read if _slot(record) not in gone]
        self._lost_work |= len(kept) < len(self._read)
        self._read = kept
        self._ahead = [record for record in self._ahead if _slot(record) not in gone]

    # --- reading

    def read(self, limit: int, timeout: float) -> list[Delivered]:
        """As `Member.read`."""
        self._last = 0
        self._settle()
        if self._ahead:
            # The consumer is asked all the same: it is only then that it tells of partitions that moved away.
            self._take(1, min(timeout, _MOVING_SECONDS) if self._moving else 0.0)
        else:
            self._take(limit, timeout)
        self._moving = False
        found, self._ahead = self._ahead[:limit], self._ahead[limit:]
        self._read += found
        self._last = len(found)
        return found

    def _take(self, limit: int, timeout: float) -> None:
        taken = self._reader.take(limit, timeout)  # on its own: `_on_revoke`, called within, replaces what is ahead
        self._ahead += in_time(taken)

    def _settle(self) -> None:
        committed = self._sender.settle()
        if self._unknown:
            self._unknown = False
            if not committed:
                self._ahead = self._read + self._ahead
            self._forget()

    def unread(self) -> None:
        """Undo the last read, whose records nobody got to see."""
        cut = len(self._read) - self._last
        self._read, self._ahead = self._read[:cut], self._read[cut:] + self._ahead
        self._last = 0

    def rewind(self) -> None:
        """As `Member.rewind`. What may have been committed stays: the next read finds out."""
        if not self._unknown:
            self._ahead = self._read + self._ahead
            self._forget()

    def _forget(self) -> None:
        self._read = []
        self._last = 0
        self._lost_work = False

    # --- committing

    def commit(self, outputs: Sequence[Outgoing]) -> None:
        """As `Member.commit`."""
        if self._unknown:
            self._settle()
            raise Rebalanced(f"group {self._group}: an earlier commit of {self._name} had no answer; read again")
        if self._lost_work:
            self.rewind()
            raise Rebalanced(f"group {self._group}: partitions moved away from {self._name} before the commit")
        if not self._read and not outputs:
            return
        try:
            measure(outputs)
            self._sender.settle()
            self._sender.transact(outputs, self._positions(), self._consumer.consumer_group_metadata())
        except AgentError as fault:
            self._unknown = self._sender.undecided
            self._moving = isinstance(fault, Rebalanced)
            if not self._unknown:
                self.rewind()
            raise
        self._forget()

    def _positions(self) -> list[TopicPartition]:
        nexts = {_slot(record): record.offset + 1 for record in self._read}
        return [TopicPartition(topic, partition, nxt) for (topic, partition), nxt in nexts.items()]

    def leave(self) -> None:
        """Leave the group and close both clients."""
        self._consumer.close()
        self._sender.close()


def _slot(record: Delivered) -> Slot:
    return record.topic, record.partition


class KafkaMember(Member):
    """A `Membership` on its thread."""

    def __init__(self, membership: Membership, thread: WorkerThread) -> None:
        self._membership = membership
        self._thread = thread
        self.closed = False

    async def read(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._thread.run_or_undo(lambda: self._membership.read(limit, timeout), self._membership.unread)

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
