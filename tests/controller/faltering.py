"""A log that falters on command: an embedded log whose named writer sometimes doesn't say whether it took the records."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import Enum

from redis_agent.errors import LogUnavailable
from redis_agent.log import Log, Outgoing, Writer
from redis_agent.model import FailoverEvent
from redis_agent.testing import ForwardingLog
from redis_agent.wire import decode_failover_event


class Fault(Enum):
    """What happens to an append."""

    NONE = "none"
    LOST = "lost"  # not taken, and no answer
    ANSWER_LOST = "answer lost"  # taken, and no answer


Falters = Callable[[FailoverEvent], Fault]
"""By the first event of an append, at each attempt."""


class FalteringLog(ForwardingLog):
    """As the log below, but for its named writers."""

    def __init__(self, below: Log, falters: Falters) -> None:
        super().__init__(below)
        self._falters = falters

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        writer = await super().writer(name, patience)
        return writer if name is None else _FalteringWriter(writer, self._falters)


class _FalteringWriter(Writer):
    def __init__(self, below: Writer, falters: Falters) -> None:
        self._below = below
        self._falters = falters

    async def append(self, records: Sequence[Outgoing]) -> None:
        fault = self._falters(decode_failover_event(records[0].value))
        if fault is not Fault.LOST:
            await self._below.append(records)
        if fault is not Fault.NONE:
            raise LogUnavailable("the log is away, as the test wants it")

    async def close(self) -> None:
        await self._below.close()
