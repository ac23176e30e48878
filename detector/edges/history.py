"""The metrics topic read back: one instance's samples as series. Blocking work on a thread of its own.

There is no second store: what the log keeps (24 hours) is what can be asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from detector.core.table import NUMBERS, read
from redis_agent.clock import wall
from redis_agent.errors import Malformed, NotFound, Refused
from redis_agent.log import Delivered, Log
from redis_agent.samples import UNITS
from redis_agent.topics import METRICS
from redis_agent.worker_thread import WorkerThread

LONGEST = timedelta(hours=24)
POINTS_AT_MOST = 2_000_000
_READ_AT_MOST = 500
_WAIT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Question:
    """Which samples: an instance, one datacenter or all (""), from `since` to `until`, which metrics (none: all).

    What is asked for beyond the last 24 hours is left out: the log keeps no more. `step_seconds`: the width of the buckets whose means are given; 0 for every sample.
    """

    instance: str
    datacenter: str
    since: datetime
    until: datetime
    metrics: tuple[str, ...]
    step_seconds: int


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one site as one vantage saw it. Counters are as recorded; instants in microseconds since 1970."""

    datacenter: str
    vantage: str
    metric: str
    unit: str
    at: list[int]
    value: list[float]


def check(question: Question) -> None:
    """Raises Refused with everything that is wrong with the question."""
    reasons = []
    if question.until <= question.since:
        reasons.append("until must be after since")
    if unknown := [name for name in question.metrics if name not in NUMBERS]:
        reasons.append(f"unknown metrics {', '.join(unknown)}; known: {', '.join(NUMBERS)}")
    if reasons:
        raise Refused(reasons)


class History:
    """Answers questions about the past from a log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._thread = WorkerThread("history")

    async def ask(self, question: Question) -> list[Series]:
        """The series. Raises Refused, NotFound when there is no sample, LogUnavailable."""
        check(question)
        frames = await self._frames(question)
        series = await self._thread.run(_series, frames, question)
        if not series:
            raise NotFound(f"no samples of {question.instance!r} from {question.since} to {question.until}")
        return series

    async def _frames(self, question: Question) -> list[pl.DataFrame]:
        cursor = await self._log.cursor([METRICS], min(wall() - question.since, LONGEST))
        # What was appended after the end of what is asked for, by the log's own time.
        ends_at = await self._log.now() - (wall() - question.until)
        frames: list[pl.DataFrame] = []
        rows = 0
        try:
            while not cursor.caught_up and rows * len(question.metrics or NUMBERS) <= POINTS_AT_MOST:
                records = await cursor.read(_READ_AT_MOST, _WAIT_SECONDS)
                part = await self._thread.run(_matching, records, question)
                rows += part.height
                frames.append(part)
                if records and min(record.at for record in records) > ends_at:
                    break
        finally:
            await cursor.close()
        if not cursor.caught_up and rows * len(question.metrics or NUMBERS) > POINTS_AT_MOST:
            raise Refused([f"more than {POINTS_AT_MOST} points; ask for fewer metrics or a shorter time"])
        return frames

    def close(self) -> None:
        """End the thread. Safe twice."""
        self._thread.close()


def _matching(records: Sequence[Delivered], question: Question) -> pl.DataFrame:
    """The rows that the question is about. Records that don't read are the detector's to report, not ours."""
    wanted = (pl.col("instance") == question.instance) & pl.col("at").is_between(question.since, question.until)
    if question.datacenter:
        wanted &= pl.col("datacenter") == question.datacenter
    names = ["at", "datacenter", "vantage", *(question.metrics or NUMBERS)]
    # Samples travel uncompressed, so a record that is about the instance holds its name: most needn't be decoded.
    name = question.instance.encode()
    frames = [
        frame.filter(wanted).select(names) for r in records if name in r.value and (frame := _read(r)) is not None
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def _read(record: Delivered) -> pl.DataFrame | None:
    try:
        return read(record.value)
    except Malformed:
        return None


def _series(frames: Sequence[pl.DataFrame], question: Question) -> list[Series]:
    found = [frame for frame in frames if frame.height]
    if not found:
        return []
    long = pl.concat(found).unpivot(index=["at", "datacenter", "vantage"], variable_name="metric").drop_nulls("value")
    if question.step_seconds:
        bucket = pl.col("at").dt.truncate(f"{question.step_seconds}s")
        long = long.group_by(bucket, "datacenter", "vantage", "metric").agg(pl.col("value").mean())
    parts = long.sort("at").partition_by(["datacenter", "vantage", "metric"], as_dict=True, maintain_order=True)
    return [
        Series(dc, vantage, metric, UNITS[metric], part["at"].to_physical().to_list(), part["value"].to_list())
        for (dc, vantage, metric), part in sorted(parts.items())
    ]
