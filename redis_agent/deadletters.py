"""Records that nobody can read: each goes to the dead-letter topic whole, is counted, and people are told once."""

from datetime import timedelta

from redis_agent.findings import Findings
from redis_agent.log import Delivered, Outgoing
from redis_agent.log.deadletter import dead_letter
from redis_agent.model import FindingKind, Severity
from redis_agent.telemetry import Telemetry
from redis_agent.topics import FLEET

TOLD_FOR = timedelta(minutes=10)
"""How long after the last one it is told as going on."""


class DeadLetters:
    """What one service could not read."""

    def __init__(self, telemetry: Telemetry, findings: Findings) -> None:
        self._telemetry = telemetry
        self._findings = findings
        self._topics: set[str] = set()

    def letter(self, record: Delivered, reason: str) -> Outgoing:
        """The record as it goes to the dead-letter topic; to be committed with the position after it."""
        self._telemetry.deadletters.labels(record.topic).inc()
        self._topics.add(record.topic)
        self._findings.open(
            FindingKind.DEAD_LETTER,
            FLEET,
            Severity.WARNING,
            f"records of {', '.join(sorted(self._topics))} can't be read and went to dead-letter",
            evidence=f"the last one: {record.topic}[{record.partition}]@{record.offset}: {reason}",
            command="redis-agent tail deadletter --from beginning",
            lasts=TOLD_FOR,
        )
        return dead_letter(record, reason)
