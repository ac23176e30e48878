"""What the controller hears from the log: votes and anomalies, the switch, and what everybody finds."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta

from controller.application.fleet_state import FleetState
from controller.application.vantages import VantageWatch
from redis_agent import topics
from redis_agent.clock import instant, wall
from redis_agent.deadletters import DeadLetters
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.findings import Findings
from redis_agent.log import Cursor, Delivered, Log, Outgoing, Start, Writer
from redis_agent.model import FindingKind, Severity, Vantage
from redis_agent.retries import patiently
from redis_agent.wire import decode_anomaly, decode_finding, decode_observations

logger = logging.getLogger(__name__)
_READ_SECONDS = 0.1
_READ_AT_ONCE = 1000
_RESTATED_WITHIN = timedelta(seconds=10)
"""How far back a collector may have said in full what it has said to hold since (`collector.core.statements`)."""


class _Reader:
    """One cursor's records, each noted once; what can't be read goes to dead-letter as soon as the log takes it."""

    def __init__(self, cursor: Cursor, writer: Writer, dead: DeadLetters, note: Callable[[Delivered], None]) -> None:
        self._cursor, self._writer, self._dead, self._note = cursor, writer, dead, note
        self._letters: list[Outgoing] = []

    @property
    def caught_up(self) -> bool:
        """Whether it stood at the end."""
        return self._cursor.caught_up

    async def read(self, seconds: float) -> None:
        """Wait so long for records, and note what comes. Raises LogUnavailable."""
        for record in await self._cursor.read(_READ_AT_ONCE, seconds):
            try:
                self._note(record)
            except Malformed as fault:
                self._letters.append(self._dead.letter(record, str(fault)))
        if self._letters:
            await self._writer.append(self._letters)
            self._letters = []


class Hearing:
    """Takes in what others write. `open` comes first."""

    def __init__(self, state: FleetState, vantages: VantageWatch, dead: DeadLetters, findings: Findings) -> None:
        self._state = state
        self._vantages = vantages
        self._dead = dead
        self._findings = findings

    async def open(self, log: Log) -> None:
        """Read control to its end, and stand where votes may count from. Raises LogUnavailable, and then nothing is open."""
        async with AsyncExitStack() as opened:
            writer = await log.writer()
            opened.push_async_callback(writer.close)
            control = await log.cursor([topics.CONTROL, topics.FINDINGS], Start.BEGINNING)
            opened.push_async_callback(control.close)
            self._control = _Reader(control, writer, self._dead, self._note_control)
            while not self._control.caught_up:
                await self._control.read(_READ_SECONDS)
            since = self._state.settings.vote_max_age + _RESTATED_WITHIN
            votes = await log.cursor([topics.OBSERVATIONS, topics.ANOMALIES], since)
            self._votes = _Reader(votes, writer, self._dead, self._note)
            opened.pop_all()
        self._state.switch.use(writer)

    async def votes(self) -> None:
        """Wait a moment for votes and anomalies, and take in what comes. Raises LogUnavailable."""
        await self._votes.read(_READ_SECONDS)

    async def follow(self) -> None:
        """Take in the switch and what everybody finds, until cancelled."""
        async for attempt in patiently("control can't be read now", LogUnavailable, longest_seconds=1.0):
            with attempt:
                while True:
                    await self._control.read(1.0)

    def _note(self, record: Delivered) -> None:
        """Raises Malformed."""
        if record.topic == topics.ANOMALIES.name:
            self._state.note_anomaly(decode_anomaly(record.value))
            return
        try:
            said = decode_observations(record.value)
        except Malformed:
            self._state.votes.note_unreadable(Vantage(record.key))
            raise
        self._state.votes.note(said, instant(), record.unread, record.header("traceparent") or "")
        if record.unread is not None:
            self._vantages.note(said, record.unread, wall())

    def _note_control(self, record: Delivered) -> None:
        """Raises Malformed for a finding; what can't be read of control is told."""
        if record.topic == topics.FINDINGS.name:
            self._state.findings.note(decode_finding(record.value), instant())
            return
        self._state.switch.note(record)
        unreadable = self._state.switch.control.unreadable
        if not unreadable:
            self._findings.close(FindingKind.CONTROL_UNREADABLE, topics.FLEET)
            return
        told = "; ".join(unreadable.values())
        self._findings.open(
            FindingKind.CONTROL_UNREADABLE,
            topics.FLEET,
            Severity.ERROR,
            f"{told}. Nothing of it is guessed, and a switch counts as set",
            command="update this service, or write the key anew: redis-agent pause, redis-agent resume",
        )
