"""A Kafka producer, and what becomes of its transactions when brokers go away. Blocking.

A transaction that was begun must end, and only the coordinator knows how it ended. What a call could not finish within
its patience is finished by the next one (`settle`), never guessed:

    produce, send offsets ──fails──▶ ABORT ──abort answered──▶ NOTHING
              │                        ▲
              ▼                        │ librdkafka asks for it
            COMMIT ──no answer in time─┤ (asked again by `settle`)
              └───────answered─────────┴──────────────────────▶ NOTHING

An abort of a transaction that never reached the coordinator is answered with INVALID_TXN_STATE, which librdkafka takes
for the end of the producer. It is not a fence: the coordinator checks the epoch first, so the name was still ours, and a
new producer takes it again. Every other fatal error is raised as Fenced: this process must start anew.

librdkafka (2.16) now and then doesn't come back from a call on a transaction, whatever its timeout, when a broker stood
still or came back meanwhile (seen in `send_offsets_to_transaction` and `abort_transaction`). So each such call runs on a
thread that can be left behind. Before the commit nothing was kept: a new producer takes the name, which ends the
transaction that was left open. From a commit that doesn't come back nobody learns what became of it: Fenced.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from threading import Thread
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from redis_agent.errors import AgentError, Fenced, LogUnavailable
from redis_agent.log import Outgoing
from redis_agent.log.kafka_client import KafkaSettings, attempt, measure, translate
from redis_agent.log.kafka_partitions import Partitions

_LEAST_SECONDS = 0.1
_ABORT_SECONDS = 1.0
_STUCK = "librdkafka does not come back"


class _Left(Enum):
    """What is left to do with the transaction that was begun last."""

    NOTHING = "nothing"
    ABORT = "abort"
    COMMIT = "commit"


class Sender:
    """A producer and the ways to hand it records. With a name, each hand-over is one transaction."""

    def __init__(
        self, settings: KafkaSettings, partitions: Partitions, name: str | None, patience_seconds: float | None = None
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._patience = patience_seconds or settings.patience_seconds
        self._name = name
        self._failed: list[KafkaError] = []
        self._left = _Left.NOTHING
        self._void = False  # this producer is of no use any more; `settle` makes another
        self._producer = self._made()

    def _made(self) -> Producer:
        self._ours = self._name is None
        return attempt("opening a producer", Producer, self._settings.producer(self._name, self._patience))

    def open(self) -> None:
        """Take the name over. Raises LogUnavailable: call it again on this very sender.

        A second sender would be fenced by the first one's request, which may still be on its way.
        """
        if not self._ours:
            doing = f"taking over writer {self._name}"
            if not attempt(doing, self._came_back, self._producer.init_transactions, self._patience):
                raise Fenced(f"kafka: {doing}: {_STUCK} (start this process anew)")
            self._ours = True

    @property
    def undecided(self) -> bool:
        """Whether a commit got no answer yet."""
        return self._left is _Left.COMMIT

    def append(self, records: Sequence[Outgoing]) -> None:
        """As `Writer.append`."""
        measure(records)
        if self._name is not None:
            self.settle()
            self.transact(records, [], None)
        else:
            self._produce(records, time.monotonic() + self._patience)
            self._flush()

    # --- plain

    def _produce(self, records: Sequence[Outgoing], deadline: float) -> None:
        for record in records:
            while not self._taken(record):
                if time.monotonic() > deadline:
                    raise LogUnavailable("kafka: the producer's queue stays full")
                self._call("appending", self._producer.poll, 0.05)

    def _taken(self, record: Outgoing) -> bool:
        """Whether the producer's queue had room for the record."""
        partition = self._partitions.of(record)
        try:
            self._producer.produce(
                record.topic.name,
                record.value,
                record.key.encode(),
                partition,
                on_delivery=self._delivered,
                headers=list(record.headers),
            )
        except BufferError:
            return False
        except KafkaException as fault:
            raise translate(fault.args[0], f"appending to {record.topic.name}") from fault
        return True

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(error)
        else:
            self._partitions.time.note_own(message)

    def _flush(self) -> None:
        left = self._producer.flush(
            self._patience + 1
        )  # they time out after the patience, which is noticed each second
        failed, self._failed = self._failed, []
        if failed:
            raise translate(failed[0], "appending")
        if left:
            raise LogUnavailable(f"kafka: {left} records not acknowledged within {self._patience:.0f} s")

    # --- transactions

    def transact(self, records: Sequence[Outgoing], offsets: list[TopicPartition], group: Any) -> None:
        """Records and read positions of a consumer's group in one transaction. `settle` comes before it.

        Raises RecordTooLarge, Rebalanced, Fenced: nothing was kept. LogUnavailable: nothing was kept, or `undecided`.
        """
        deadline = time.monotonic() + self._patience
        self._call("beginning", self._producer.begin_transaction)
        self._left = _Left.ABORT
        try:
            self._produce(records, deadline)
            if offsets:
                self._send(offsets, group, deadline)
        except AgentError as fault:
            self._give_up(fault)
        self._commit(deadline)

    def _send(self, offsets: list[TopicPartition], group: Any, deadline: float) -> None:
        def send(seconds: float) -> None:
            self._producer.send_offsets_to_transaction(offsets, group, seconds)

        doing = "committing positions"
        try:
            came_back = self._came_back(send, _until(deadline))
        except KafkaException as raised:
            self._mind(raised.args[0])
            raise translate(raised.args[0], doing) from raised
        if not came_back:
            self._make_void()
            raise LogUnavailable(f"kafka: {doing}: {_STUCK}")

    def _came_back(self, call: Callable[[float], object], seconds: float) -> bool:
        return aside(call, seconds, self._patience)

    def _call(self, doing: str, call: Callable[..., object], *values: object) -> None:
        try:
            call(*values)
        except KafkaException as raised:
            self._mind(raised.args[0])
            raise translate(raised.args[0], doing) from raised

    def settle(self) -> bool:
        """End the transaction that an earlier call could not; whether it was committed. Raises Fenced, LogUnavailable."""
        committed = False
        if self._left is _Left.COMMIT:
            try:
                self._commit(time.monotonic() + self._patience)
                committed = True
            except AgentError as fault:
                if self.undecided or isinstance(fault, Fenced):
                    raise
        if self._left is _Left.ABORT:
            self._abort(self._patience)
        if self._void:
            self._void = False
            self._producer = self._made()
        self.open()
        return committed

    def _commit(self, deadline: float) -> None:
        self._left = _Left.COMMIT
        try:
            if not self._came_back(self._producer.commit_transaction, _until(deadline)):
                raise Fenced(f"kafka: committing: {_STUCK} (start this process anew)")
        except KafkaException as raised:
            error = raised.args[0]
            if error.txn_requires_abort():
                self._left = _Left.ABORT
                self._give_up(translate(self._failed[0] if self._failed else error, "committing"))
            self._mind(error)
            raise translate(error, "committing") from raised
        self._done()

    def _give_up(self, fault: AgentError) -> NoReturn:
        if not isinstance(fault, Fenced) and not self._void:
            with suppress(LogUnavailable):  # `settle` will
                self._abort(_ABORT_SECONDS)
        raise fault

    def _abort(self, seconds: float) -> None:
        try:
            if not self._came_back(self._producer.abort_transaction, seconds):
                self._make_void()
        except KafkaException as raised:
            self._mind(raised.args[0])
            if not self._void:
                raise translate(raised.args[0], "aborting") from raised
        self._done()

    def _mind(self, error: KafkaError) -> None:
        if error.fatal() and error.code() == KafkaError.INVALID_TXN_STATE:
            self._make_void()

    def _make_void(self) -> None:
        self._void = True
        self._done()

    def _done(self) -> None:
        self._left = _Left.NOTHING
        self._failed.clear()

    def close(self) -> None:
        """Give a plain writer's records a moment more. An open transaction ends by its timeout, or by the next opening."""
        if self._name is None:
            self._producer.flush(0.5)


def aside(call: Callable[[float], object], seconds: float, grace_seconds: float) -> bool:
    """Call on a thread that can be left behind; whether it came back within `seconds` and the grace. Raises what it raises."""
    outcome: Future[object] = Future()

    def run() -> None:
        try:
            outcome.set_result(call(seconds))
        except KafkaException as raised:
            outcome.set_exception(raised)

    Thread(target=run, name="kafka-transaction", daemon=True).start()
    try:
        outcome.result(seconds + grace_seconds)
    except TimeoutError:
        return False
    return True


def _until(deadline: float) -> float:
    return max(_LEAST_SECONDS, deadline - time.monotonic())
