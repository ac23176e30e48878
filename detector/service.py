"""The detector's loop: read samples, score them, and commit what was found together with the place in the log.

The log is the only memory. A new session warms up each partition from the two minutes before its first record, and takes
open anomalies from their topic; so a restart, a partition that moved and a log that was away are met by the same code.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from opentelemetry.trace import Span, SpanKind

from detector.core.ring import Floats32
from detector.core.stream import Digest, Notice, Stream
from detector.core.why import explanation
from detector.edges import batch, fine_tuning
from detector.edges.anomaly_log import AnomalyLog
from detector.edges.counts import Counts
from detector.edges.history import History, Question, Series
from detector.edges.model import judge_of
from detector.edges.store import Card
from detector.settings import Settings
from redis_agent import telemetry
from redis_agent.deadletters import DeadLetters
from redis_agent.errors import Malformed, Transient, Unreachable
from redis_agent.log import Delivered, Log, Member, Outgoing, Start
from redis_agent.model import Anomaly
from redis_agent.process import Runtime
from redis_agent.retries import patiently
from redis_agent.topics import ANOMALIES, METRICS
from redis_agent.wire import anomaly_to
from redis_agent.worker_thread import WorkerThread

logger = logging.getLogger(__name__)
GROUP = "detector"
_READ_AT_MOST = 64
_WAIT_SECONDS = 1.0
_WARM_UP = timedelta(minutes=2)
_PAUSE_SECONDS = 0.5
_LEARN_AT_MOST_SECONDS = 60.0


class Service:
    """Owns the model, the sites' state (touched only on its thread) and the anomalies known."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings
        self._counts = Counts(runtime.telemetry.registry)
        self._anomalies = AnomalyLog(self._counts.open_now, runtime.telemetry.deadletters)
        self._thread = WorkerThread("detector")
        self._training_thread = WorkerThread("detector-learning")
        self._model: fine_tuning.Model | None = None
        self._stream: Stream | None = None
        self._timeline = batch.Timeline()
        self._dead = DeadLetters(runtime.telemetry, runtime.findings)
        self._warm: set[int] = set()
        self._history: History | None = None

    # --- what gRPC asks for

    def listed(self, instance: str, *, open_only: bool) -> list[Anomaly]:
        """The anomalies known, newest first. Raises Unreachable before they were read."""
        if not self._anomalies.caught_up.is_set():
            raise Unreachable("the anomalies are still being read from the log")
        return self._anomalies.index.listed(instance, open_only=open_only)

    @property
    def card(self) -> Card:
        """The card of the model in use. Raises Unreachable before one is."""
        return self._using().card

    async def history(self, question: Question) -> list[Series]:
        """Samples of the past. Raises Refused, NotFound, Unreachable, LogUnavailable."""
        if self._history is None:
            raise Unreachable("the log isn't open yet")
        return await self._history.ask(question)

    def _using(self) -> fine_tuning.Model:
        if self._model is None:
            raise Unreachable("the model is still being loaded")
        return self._model

    # --- life

    async def run(self) -> None:
        """Detect until cancelled."""
        settings = self._settings
        try:
            async with self._runtime.log() as log:
                self._model = await self._thread.run(
                    fine_tuning.newest, settings.model_dir, settings.base_model, _say_refused
                )
                logger.info("model %s, trained on %d windows", self.card.version, self.card.windows_trained)
                self._history = History(log)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._anomalies.run(log))
                    group.create_task(self._detect(log))
                    group.create_task(self._learn())
        finally:
            for part in (self._history, self._training_thread, self._thread):
                if part is not None:
                    part.close()

    async def _detect(self, log: Log) -> None:
        """One session after the other: a new one forgets what the last one had not committed."""
        await self._anomalies.caught_up.wait()
        await self._runtime.ready()
        while True:
            async for attempt in patiently("begins anew", Transient):
                with attempt:
                    await self._session(log)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _session(self, log: Log) -> None:
        """Read, score and commit until something transient happens. Raises Transient when it did before any work."""
        try:
            await self._until_disturbed(log)
        except Transient as fault:
            if not self._warm:
                raise
            logger.warning("begins anew: %s", fault)

    async def _until_disturbed(self, log: Log) -> None:
        self._warm = set()
        member = await log.member(GROUP, [METRICS], Start.NOW, f"{GROUP}@{socket.gethostname()}")
        try:
            model = self._using()
            self._stream = stream = Stream(judge_of(model.net, model.card), self._settings.rules)
            stream.adopt(self._anomalies.index.open_now())
            while True:
                if records := await member.read(_READ_AT_MOST, _WAIT_SECONDS):
                    await self._warm_up(log, stream, records)
                    await self._work(member, stream, records)
        finally:
            await member.close()

    # --- one batch

    async def _work(self, member: Member, stream: Stream, records: Sequence[Delivered]) -> None:
        span = self._runtime.telemetry.tracer.start_span(
            "detect",
            kind=SpanKind.CONSUMER,
            links=telemetry.links_to(record.header("traceparent") for record in records),
        )
        try:
            with self._counts.batch_seconds.time():
                digest, refused = await self._thread.run(_digest, self._timeline, stream, records)
                outputs = [self._anomaly(notice, span) for notice in digest.notices]
                outputs += [self._dead.letter(record, reason) for record, reason in refused]
                await member.commit(outputs)
            self._counts.count(digest)
            self._say_dead(refused)
            self._counts.sites.set(stream.sites)
        finally:
            span.end()

    async def _warm_up(self, log: Log, stream: Stream, records: Sequence[Delivered]) -> None:
        """Fill the past of partitions that are new to this session, up to the first record that it was given of each."""
        first: dict[int, int] = {}
        for record in records:
            if record.partition not in self._warm:
                first.setdefault(record.partition, record.offset)
        if not first:
            return
        self._warm |= set(first)
        stream.adopt(self._anomalies.index.open_now())
        began = asyncio.get_running_loop().time()
        since = await log.now() - min(record.at for record in records) + _WARM_UP
        cursor = await log.cursor([METRICS], since)
        try:
            while not cursor.caught_up:
                found = await cursor.read(_READ_AT_MOST, _WAIT_SECONDS)
                past = [record for record in found if record.offset < first.get(record.partition, 0)]
                await self._thread.run(_digest, self._timeline, stream, past, tell=False)
        finally:
            await cursor.close()
        logger.info("%d partitions warm in %.1f s", len(first), asyncio.get_running_loop().time() - began)

    def _anomaly(self, notice: Notice, span: Span) -> Outgoing:
        episode, origin = notice.episode, self._runtime.origins.next()
        anomaly = Anomaly(
            id=episode.id,
            site=episode.site,
            state=notice.state,
            opened_at=episode.opened_at,
            at=episode.at,
            score=episode.score,
            peak_score=episode.peak_score,
            threshold=episode.threshold,
            severity=episode.severity,
            contributions=notice.why,
            explanation=explanation(notice.why),
            model=self.card.version,
            origin=origin,
        )
        logger.info("%s: %s %s: %s", episode.site, episode.id, notice.state.value, anomaly.explanation)
        value = anomaly_to(anomaly).SerializeToString()
        return Outgoing(ANOMALIES, episode.site.instance, value, telemetry.headers(ANOMALIES, origin, span))

    def _say_dead(self, refused: batch.Refused) -> None:
        for record, reason in refused:
            logger.warning("%s[%d]@%d went to dead-letter: %s", record.topic, record.partition, record.offset, reason)

    # --- learning

    async def _learn(self) -> None:
        """Now and then go on training on what the fleet showed, and use the outcome if it is no worse."""
        every = self._settings.retrain_after_seconds
        while every:
            await asyncio.sleep(every)
            windows = await self._thread.run(_training_windows, self._stream)
            if windows is not None:
                await self._fine_tune(windows)

    async def _fine_tune(self, windows: Floats32) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _LEARN_AT_MOST_SECONDS
        run = await self._training_thread.run(fine_tuning.FineTuning, self._using(), windows)
        for _ in range(fine_tuning.EPOCHS):
            if loop.time() < ends_at:
                await self._training_thread.run(run.epoch)
        outcome = await self._training_thread.run(run.outcome, f"fleet-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        if outcome is None:
            logger.info("%d windows taught nothing; %s stays", len(windows), self.card.version)
            return
        try:
            self._model = await self._training_thread.run(fine_tuning.keep, self._settings.model_dir, outcome)
        except OSError as fault:
            logger.warning("model %s can't be kept, so it isn't used: %s", outcome.card.version, fault)
            return
        await self._thread.run(_judge_by, self._stream, self._model)
        logger.info("model %s, held-out loss %.4f after %.4f", self.card.version, self.card.holdout_loss, run.before)


# --- what runs on the threads


def _digest(
    timeline: batch.Timeline, stream: Stream, records: Sequence[Delivered], *, tell: bool = True
) -> tuple[Digest, batch.Refused]:
    frame, refused = timeline.gather(records)
    return stream.digest(frame, tell=tell), refused


def _training_windows(stream: Stream | None) -> Floats32 | None:
    """The windows to learn from, if there are enough; the reservoir begins anew."""
    if stream is None or len(stream.reservoir) < fine_tuning.WINDOWS_AT_LEAST:
        return None
    windows = stream.reservoir.windows()
    stream.reservoir.clear()
    return windows


def _judge_by(stream: Stream | None, model: fine_tuning.Model) -> None:
    if stream is not None:
        stream.judge_by(judge_of(model.net, model.card))


def _say_refused(fault: Malformed) -> None:
    logger.warning("%s; the next older model is used", fault)
