"""Where a record goes that nobody can read: on to the dead-letter topic, whole, with the reason beside it."""

from redis_agent.log import Delivered, Outgoing
from redis_agent.topics import DEADLETTER


def dead_letter(record: Delivered, reason: str) -> Outgoing:
    """The record as it came, with headers that say why it is here and where it stood.

    Committed together with the position after it, so that the partition goes on and the record is here once.
    """
    told = {
        "deadletter-reason": reason,
        "deadletter-topic": record.topic,
        "deadletter-partition": str(record.partition),
        "deadletter-offset": str(record.offset),
    }
    headers = record.headers + tuple((name, text.encode()) for name, text in told.items())
    return Outgoing(DEADLETTER, record.key, record.value, headers)
