"""What the controller hears, on a real log: unreadable records reach dead-letter once, whatever the log does meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from controller.application.fleet_state import FleetState
from controller.application.hearing import Hearing
from controller.application.records import Records
from controller.application.switch import Switch
from controller.application.vantages import VantageWatch
from controller.edges.zones import Zones
from controller.settings import Settings
from redis_agent import telemetry, topics
from redis_agent.deadletters import DeadLetters
from redis_agent.errors import LogUnavailable
from redis_agent.findings import Findings
from redis_agent.fleet import TelemetrySection
from redis_agent.log import Outgoing, Writer
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.process import Origins
from redis_agent.testing import ForwardingLog, contents
from tests.controller.stage import journal_of
from tests.controller.values import MAX_AGE, ORDERS

POISON = b"\xff\xff\xff"


class FullLog(ForwardingLog):
    """A log that can be read, and takes nothing while it is `full`; it counts what is open."""

    full = False

    def __init__(self, below: EmbeddedLog) -> None:
        super().__init__(below)
        self.opened: list[Writer] = []
        self.closed = 0

    async def writer(self, name: str | None = None, patience: timedelta | None = None) -> Writer:
        writer = _Refusing(self, await super().writer(name, patience))
        self.opened.append(writer)
        return writer


class _Refusing(Writer):
    def __init__(self, log: FullLog, below: Writer) -> None:
        self._log, self._below = log, below

    async def append(self, records: Sequence[Outgoing]) -> None:
        await asyncio.sleep(0.05)  # both readers are at it
        if self._log.full:
            raise LogUnavailable("full")
        await self._below.append(records)

    async def close(self) -> None:
        self._log.closed += 1
        await self._below.close()


@asynccontextmanager
async def hearing(directory: Path) -> AsyncIterator[tuple[FullLog, FleetState, Hearing]]:
    tracing = telemetry.build("controller", TelemetrySection())
    origins = Origins("controller")
    settings = Settings({}, {}, directory / "pause", MAX_AGE)
    settings.pause_dir.mkdir()
    log, zones = FullLog(EmbeddedLog(directory / "log.db")), Zones({})
    await log.prepare()
    switch = Switch(settings.pause_dir, origins, frozenset())
    state = FleetState(settings, journal_of(tracing), Records({}, zones), switch, tracing.registry)
    found = Findings("controller@test:1", origins.next)
    dead = DeadLetters(tracing, found)
    try:
        yield log, state, Hearing(state, VantageWatch(state.votes, found), dead, found)
    finally:
        await zones.close()
        await log.close()


async def write(log: FullLog, topic: topics.Topic, *values: bytes) -> None:
    await (await log.below.writer()).append([Outgoing(topic, "witness", value) for value in values])


def test_what_cannot_be_read_while_the_log_takes_nothing_is_in_dead_letter_once_when_it_does(tmp_path: Path) -> None:
    """Votes and findings are followed side by side: neither may take the other's letters for written."""

    async def run() -> None:
        async with hearing(tmp_path) as (log, _, heard):
            await heard.open(log)
            following = asyncio.ensure_future(heard.follow())
            log.full = True
            await write(log, topics.OBSERVATIONS, POISON + b"v1", POISON + b"v2")
            await write(log, topics.FINDINGS, POISON + b"f1")
            for _ in range(3):
                with pytest.raises(LogUnavailable):
                    await heard.votes()
            log.full = False
            await write(log, topics.OBSERVATIONS, POISON + b"v3")
            async with asyncio.timeout(20):
                while len(await contents(log.below, topics.DEADLETTER)) < 4:
                    await heard.votes()
            following.cancel()
            await asyncio.wait({following})
            values = sorted(record.value for record in await contents(log.below, topics.DEADLETTER))
            assert values == [POISON + tail for tail in (b"f1", b"v1", b"v2", b"v3")]

    asyncio.run(run())


def test_before_the_control_topic_was_read_to_its_end_everything_is_paused_and_a_try_that_failed_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with hearing(tmp_path) as (log, state, heard):
            await write(log, topics.FINDINGS, POISON)
            log.full = True
            for tries in (1, 2):
                with pytest.raises(LogUnavailable):
                    await heard.open(log)
                assert "isn't read to its end" in (state.switch.reason(ORDERS) or "")
                assert log.closed == len(log.opened) == tries
            log.full = False
            await heard.open(log)
            assert state.switch.reason(ORDERS) is None

    asyncio.run(run())
