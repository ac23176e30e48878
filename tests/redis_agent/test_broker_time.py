"""Kafka's own time, from the times that brokers gave to records."""

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

from redis_agent.log.kafka_partitions import BrokerTime


class Message:
    def __init__(self, seconds: float, kind: int = TIMESTAMP_LOG_APPEND_TIME) -> None:
        self._stamp = kind, round(seconds * 1000)

    def timestamp(self) -> tuple[int, int]:
        return self._stamp


def now(time: BrokerTime) -> int:
    found = time.now()
    assert found is not None
    return round(found)


def test_before_anything_was_met_it_is_not_known_and_a_producers_own_time_is_none() -> None:
    time = BrokerTime()
    time.note(Message(1000, TIMESTAMP_CREATE_TIME))  # type: ignore[arg-type]
    assert time.now() is None


def test_of_what_was_appended_long_ago_the_latest_tells() -> None:
    time = BrokerTime()
    for seconds in (1000, 3000, 2000):
        time.note(Message(seconds))  # type: ignore[arg-type]
    assert now(time) == 3000


def test_what_is_appended_for_us_now_corrects_a_broker_that_was_ahead() -> None:
    time = BrokerTime()
    time.note(Message(9000))  # type: ignore[arg-type]
    time.note_own(Message(4000))  # type: ignore[arg-type]
    assert now(time) == 4000
    time.note_own(Message(5000, TIMESTAMP_CREATE_TIME))  # type: ignore[arg-type]
    assert now(time) == 4000
