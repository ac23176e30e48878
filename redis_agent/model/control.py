"""What holds for the whole fleet."""

from dataclasses import dataclass
from datetime import datetime

from redis_agent.model.identities import Origin


@dataclass(frozen=True, slots=True)
class Pause:
    """The kill switch of an instance or of the whole fleet."""

    paused: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """What holds for the whole fleet, and who wants it so. The record's key says what it is."""

    origin: Origin
    at: datetime
    actor: str
    pause: Pause | None
