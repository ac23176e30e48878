"""The anomalies topic read along: what was told, by this detector or another, since a day ago."""

import asyncio
import logging
from datetime import timedelta

from prometheus_client import Counter, Gauge

from detector.core.anomaly_index import AnomalyIndex
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.log import Cursor, Delivered, Log
from redis_agent.retries import patiently
from redis_agent.topics import ANOMALIES
from redis_agent.wire import decode_anomaly

logger = logging.getLogger(__name__)
_SINCE = timedelta(hours=24)
_READ_AT_MOST = 500
_WAIT_SECONDS = 1.0


class AnomalyLog:
    """Follows the topic for as long as `run` runs. `caught_up` is set once what it held at the start was read."""

    def __init__(self, open_now: Gauge, unreadable: Counter) -> None:
        self.index = AnomalyIndex()
        self.caught_up = asyncio.Event()
        self._open_now = open_now
        self._unreadable = unreadable

    async def run(self, log: Log) -> None:
        """Read until cancelled; when the log is away, from a day ago again."""
        async for attempt in patiently("anomalies can't be read now", LogUnavailable, longest_seconds=1.0):
            with attempt:
                await self._follow(await log.cursor([ANOMALIES], _SINCE))

    async def _follow(self, cursor: Cursor) -> None:
        try:
            while True:
                if cursor.caught_up:
                    self.caught_up.set()
                for record in await cursor.read(_READ_AT_MOST, _WAIT_SECONDS):
                    self._note(record)
                self._open_now.set(len(self.index.open_now()))
        finally:
            await cursor.close()

    def _note(self, record: Delivered) -> None:
        try:
            self.index.note(decode_anomaly(record.value))
        except Malformed as fault:
            self._unreadable.labels(ANOMALIES.name).inc()
            logger.warning("%s[%d]@%d: %s", record.topic, record.partition, record.offset, fault)
