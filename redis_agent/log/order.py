"""In which order records of several partitions are given to a reader."""

import heapq
from collections.abc import Iterable

from redis_agent.log import Delivered
from redis_agent.log.balance import Slot


def in_time(records: Iterable[Delivered]) -> list[Delivered]:
    """By time across partitions, never changing the order within one, where times may go back as clocks do."""
    runs: dict[Slot, list[Delivered]] = {}
    for record in records:
        runs.setdefault((record.topic, record.partition), []).append(record)
    return list(heapq.merge(*runs.values(), key=lambda record: record.at))
