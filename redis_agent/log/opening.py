"""The log that the configuration names, opened with patience."""

import logging

from redis_agent.errors import LogUnavailable
from redis_agent.fleet_log import LogSection
from redis_agent.log import Log
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.log.retention import Retention
from redis_agent.retries import patiently
from redis_agent.topics import ALL

logger = logging.getLogger(__name__)
_LONGEST_SECONDS = 1.0


def log_of(section: LogSection) -> Log:
    """The configured log; nothing is contacted yet."""
    if section.kafka is not None:
        # Imported here: librdkafka costs 20 MB that the embedded log shouldn't pay.
        from redis_agent.log.kafka import KafkaLog
        from redis_agent.log.kafka_client import KafkaSettings

        kafka = section.kafka
        return KafkaLog(
            KafkaSettings(
                bootstrap_servers=kafka.bootstrap_servers,
                security=kafka.security.properties(),
                replication_factor=kafka.replication_factor,
                partitions=kafka.partitions,
                group_protocol=kafka.group_protocol,
            )
        )
    if section.embedded is None:
        raise LogUnavailable("no log configured")
    embedded = section.embedded
    return EmbeddedLog(
        embedded.path,
        partitions=embedded.partitions,
        retention=Retention(embedded.retention.of(ALL), embedded.max_bytes),
    )


async def wait_for(log: Log) -> None:
    """Return once the log answers and its topics exist; says so while it waits."""
    async for attempt in patiently("waiting for the log", LogUnavailable, longest_seconds=_LONGEST_SECONDS):
        with attempt:
            await log.prepare()
            if attempt.retry_state.attempt_number > 1:
                logger.warning("the log answers again")
