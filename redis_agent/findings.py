"""Findings: what is to be told and is neither an anomaly nor a failover.

Each process reports its own, under its name, and renews them every minute while they last. Whoever follows under that name
takes over what the one before had found, and closes what it doesn't find itself within a minute. What isn't renewed for three
minutes is closed for its reporter by the notifier, which tells as a finding of its own that the reporter fell silent.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from redis_agent import telemetry
from redis_agent.clock import instant, wall
from redis_agent.errors import LogUnavailable, Malformed
from redis_agent.instants import Instant, after
from redis_agent.log import Log, Outgoing, Start, Writer
from redis_agent.model import Finding, FindingKey, FindingKind, FindingState, Origin, Severity
from redis_agent.retries import patiently
from redis_agent.topics import FINDINGS
from redis_agent.wire import decode_finding, finding_to

logger = logging.getLogger(__name__)
RENEWED_EVERY = timedelta(minutes=1)
SILENT_AFTER = timedelta(minutes=3)
SILENCE_TOLD_FOR = timedelta(hours=24)
"""Unless the reporter is back before: one whose name doesn't come again would be told for ever."""
TAKEN_OVER_FOR = timedelta(minutes=1)
_STOOD_STILL = timedelta(seconds=5)


@dataclass(slots=True)
class _Own:
    finding: Finding
    written_at: Instant | None = None  # None: it is to be written
    is_known: bool = False  # whether the log may hold anything of it
    until: Instant | None = None


class Findings:
    """What this process finds. `open` and `close` are for its event loop; `keep` writes them."""

    def __init__(
        self,
        reporter: str,
        next_origin: Callable[[], Origin],
        renewed_every: timedelta = RENEWED_EVERY,
        taken_over_for: timedelta = TAKEN_OVER_FOR,
    ) -> None:
        self.reporter = reporter
        self._next_origin = next_origin
        self._every = renewed_every
        self._taken_over_for = taken_over_for
        self._own: dict[FindingKey, _Own] = {}
        self._changed = asyncio.Event()

    def open(
        self,
        kind: FindingKind,
        subject: str,
        severity: Severity,
        text: str,
        *,
        evidence: str = "",
        command: str = "",
        lasts: timedelta | None = None,
    ) -> None:
        """It is so; again and again with the same text is once. `lasts`: closed by itself after that time."""
        key, now = FindingKey(kind.value, subject, self.reporter), wall()
        known = self._own.get(key)
        is_open = known is not None and known.finding.state is FindingState.OPEN
        since = known.finding.since if known is not None and is_open else now
        finding = Finding(
            kind, subject, self.reporter, FindingState.OPEN, severity, since, now, text, evidence, command, _NO_ORIGIN
        )
        until = None if lasts is None else after(instant(), lasts)
        if known is not None and is_open and (known.finding.severity, known.finding.text) == (severity, text):
            known.finding, known.until = finding, until  # what is new of it is written when it is renewed
            return
        logger.warning("%s: %s", kind.value, text)
        self._set(key, finding, until)

    def close(self, kind: FindingKind, subject: str, text: str = "") -> None:
        """It is so no longer; nothing happens when it wasn't."""
        key = FindingKey(kind.value, subject, self.reporter)
        known = self._own.get(key)
        if known is None or known.finding.state is FindingState.CLOSED:
            return
        if known.is_known:
            ended = replace(known.finding, state=FindingState.CLOSED, at=wall(), text=text or known.finding.text)
            logger.info("%s is over: %s", kind.value, ended.text)
            self._set(key, ended, None)
        else:
            del self._own[key]  # it was over before anybody could be told

    def subjects(self, kind: FindingKind) -> list[str]:
        """What this process finds that of, those among it that it took over from the one before."""
        return [
            own.finding.subject
            for own in self._own.values()
            if own.finding.kind is kind
            and own.finding.state is FindingState.OPEN
            and own.finding.reporter == self.reporter
        ]

    def heard(self, finding: Finding) -> None:
        """A record of the topic: a reporter that speaks isn't silent, and what somebody else ended here has ended."""
        if finding.state is FindingState.OPEN:
            self.close(FindingKind.REPORTER_SILENT, finding.reporter)
            return
        own = self._own.get(finding.key)
        if own is not None and own.finding.state is FindingState.OPEN and own.finding.since == finding.since:
            del self._own[finding.key]

    def retire(self, silent: Finding) -> None:
        """Close another reporter's finding that it doesn't renew, and find that it fell silent."""
        ended = replace(silent, state=FindingState.CLOSED, at=wall(), text=f"{silent.text} (its reporter fell silent)")
        self._own[silent.key] = _Own(ended, is_known=True)
        self.open(
            FindingKind.REPORTER_SILENT,
            silent.reporter,
            Severity.WARNING,
            f"{silent.reporter} fell silent: what it had found is neither renewed nor ended",
            evidence=f"it last said: {silent.text}",
            command="redis-agent status; look whether that process runs and reaches the log",
            lasts=SILENCE_TOLD_FOR,
        )

    def _set(self, key: FindingKey, finding: Finding, until: Instant | None) -> None:
        known = self._own.get(key)
        self._own[key] = _Own(finding, None, known is not None and known.is_known, until)
        self._changed.set()

    async def keep(self, log: Log) -> None:
        """Write what changes and renew what lasts, until cancelled. While the log is away, the newest waits."""
        async for attempt in patiently("findings wait for the log", LogUnavailable, longest_seconds=5.0):
            with attempt:
                await self._kept(log)

    async def _kept(self, log: Log) -> None:
        writer = await log.writer()
        try:
            await self._take_over(log, writer)
            while True:
                await self._write(writer)
                self._changed.clear()
                try:
                    async with asyncio.timeout(min(1.0, self._every.total_seconds())):
                        await self._changed.wait()
                except TimeoutError:
                    self._expire(instant())
        finally:
            await writer.close()

    async def _take_over(self, log: Log, writer: Writer) -> None:
        """What an earlier process of this name left open goes on as the same, and ends unless this one finds it, too."""
        for finding in (await read(log)).values():
            if finding.state is FindingState.CLOSED:
                continue
            if finding.reporter == self.reporter:
                self._take(finding)
            elif (finding.kind, finding.subject) == (FindingKind.REPORTER_SILENT, self.reporter):
                ended = replace(finding, state=FindingState.CLOSED, at=wall(), text=f"{self.reporter} is back")
                await writer.append([self._record(ended)])

    def _take(self, left: Finding) -> None:
        if (own := self._own.get(left.key)) is not None:
            own.finding, own.is_known = replace(own.finding, since=left.since), True
            return
        now = instant()
        self._own[left.key] = _Own(left, now, is_known=True, until=after(now, self._taken_over_for))

    def _expire(self, now: Instant) -> None:
        for own in list(self._own.values()):
            if own.until is not None and now >= own.until:
                self.close(own.finding.kind, own.finding.subject)

    async def _write(self, writer: Writer) -> None:
        now = instant()
        due = {
            key: own for key, own in self._own.items() if own.written_at is None or now - own.written_at >= self._every
        }
        if not due:
            return
        for own in due.values():
            own.is_known = True
        await writer.append([self._record(replace(own.finding, at=wall())) for own in due.values()])
        for key, own in due.items():
            own.written_at = now
            if own.finding.state is FindingState.CLOSED and self._own.get(key) is own:
                del self._own[key]

    def _record(self, finding: Finding) -> Outgoing:
        origin = self._next_origin()
        value = finding_to(replace(finding, origin=origin)).SerializeToString()
        return Outgoing(FINDINGS, str(finding.key), value, telemetry.headers(FINDINGS, origin))


_NO_ORIGIN = Origin("", 0)


async def read(log: Log) -> dict[FindingKey, Finding]:
    """The newest finding of each key, as the log holds them now. What can't be read is left out. Raises LogUnavailable."""
    found: dict[FindingKey, Finding] = {}
    cursor = await log.cursor([FINDINGS], Start.BEGINNING)
    try:
        while not cursor.caught_up:
            for record in await cursor.read(500, 0.2):
                try:
                    finding = decode_finding(record.value)
                except Malformed:
                    continue  # who follows the topic tells of it
                found[finding.key] = finding
    finally:
        await cursor.close()
    return found


class OpenFindings:
    """Everybody's findings as the topic tells them, followed record by record."""

    def __init__(self) -> None:
        self._known: dict[FindingKey, tuple[Finding, Instant]] = {}
        self._looked_at: Instant | None = None

    def note(self, finding: Finding, heard_at: Instant) -> Finding | None:
        """The newest of its key; what was known of it before."""
        before = self._known.get(finding.key)
        self._known[finding.key] = (finding, heard_at)
        return before[0] if before is not None else None

    def listed(self, now: Instant) -> list[Finding]:
        """Those that are open and renewed, newest first."""
        found = [
            finding
            for finding, heard_at in self._known.values()
            if finding.state is FindingState.OPEN and now - heard_at < SILENT_AFTER
        ]
        return sorted(found, key=_since, reverse=True)

    def silent(self, now: Instant) -> list[Finding]:
        """Those that are open and were not renewed for too long. Asked every second or so.

        Time in which nobody asked doesn't count: who stood still itself didn't hear, and the machine may have slept whole.
        """
        missed = now - self._looked_at if self._looked_at is not None else timedelta()
        self._looked_at = now
        if missed > _STOOD_STILL:
            self._known = {key: (finding, after(at, missed)) for key, (finding, at) in self._known.items()}
        return [
            finding
            for finding, heard_at in self._known.values()
            if finding.state is FindingState.OPEN and now - heard_at >= SILENT_AFTER
        ]


def _since(finding: Finding) -> datetime:
    return finding.since
