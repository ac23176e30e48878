"""`python doomed_controller.py KIND STAGE MOMENT --config FILE`: a controller that ends by its own SIGKILL.

As `python -m controller`, but when it is about to write the journal entry of that kind and stage (MOMENT `before`), or has
just written it (`after`), it is gone, as if the machine had lost its power.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from controller.__main__ import main
from redis_agent import process
from redis_agent.log import Log, Outgoing, Writer
from redis_agent.testing import ForwardingLog
from redis_agent.topics import FAILOVERS
from redis_agent.wire import decode_failover_event

KIND, STAGE, MOMENT = sys.argv[1:4]


class DoomedWriter(Writer):
    """The journal's writer."""

    def __init__(self, below: Writer) -> None:
        self._below = below

    async def append(self, records: Sequence[Outgoing]) -> None:
        fatal = any(_is_fatal(record) for record in records)
        if fatal and MOMENT == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await self._below.append(records)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    async def close(self) -> None:
        await self._below.close()


def _is_fatal(record: Outgoing) -> bool:
    if record.topic is not FAILOVERS:
        return False
    event = decode_failover_event(record.value)
    return (event.kind.name, event.stage.name) == (KIND, STAGE)


class DoomedLog(ForwardingLog):
    """The log, with a writer that kills."""

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        writer = await super().writer(name, patience)
        return writer if name is None else DoomedWriter(writer)


class DoomedRuntime(process.Runtime):
    """A runtime with that log."""

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Log]:
        async with super().log() as log:
            yield DoomedLog(log)


async def live(runtime: process.Runtime) -> None:
    await main(DoomedRuntime(runtime.service, runtime.fleet, runtime.telemetry))


if __name__ == "__main__":
    del sys.argv[1:4]
    sys.exit(process.run("controller", live))
