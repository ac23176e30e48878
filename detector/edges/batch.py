"""Records of the metrics topic -> one frame of samples, and the records that can't be read, each with the reason.

Samples are put on one line of time that no wall clock moves: a vantage's monotonic clock, laid beside the log's own time when
its process is first heard. So a vantage whose wall clock jumps is neither late nor early.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from detector.core.table import read
from redis_agent.errors import Malformed
from redis_agent.log import Delivered

Refused = list[tuple[Delivered, str]]
_SOURCES_AT_MOST = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timeline:
    """Where each sender's monotonic clock lies on the log's time. Not for two threads at once."""

    def __init__(self) -> None:
        self._ahead: dict[str, int] = {}

    def gather(self, records: Sequence[Delivered]) -> tuple[pl.DataFrame, Refused]:
        """The samples in the records' order, with a column `steady`: microseconds on the line."""
        frames: list[pl.DataFrame] = []
        refused: Refused = []
        for record in records:
            try:
                frames.append(self._placed(record, read(record.value)))
            except Malformed as fault:
                refused.append((record, str(fault)))
        return pl.concat(frames) if frames else pl.DataFrame(), refused

    def _placed(self, record: Delivered, frame: pl.DataFrame) -> pl.DataFrame:
        newest = frame.select(pl.col("monotonic_us").max()).item()
        ahead = 0 if newest is None else self._ahead_of(record, newest)
        return frame.with_columns((pl.col("monotonic_us") + ahead).alias("steady"))

    def _ahead_of(self, record: Delivered, newest: int) -> int:
        source = record.header("source") or record.key
        if source not in self._ahead:
            if len(self._ahead) >= _SOURCES_AT_MOST:
                del self._ahead[next(iter(self._ahead))]
            self._ahead[source] = (record.at - _EPOCH) // timedelta(microseconds=1) - newest
        return self._ahead[source]
